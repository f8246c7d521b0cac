package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is a YAML value that knows where it was written. The zero value is one
// that is absent.
type value struct {
	kind   kind
	where  string // file:line
	text   string // of a scalar
	isText bool   // a scalar that is not a number, a date or a truth value
	keys   []string
	keyAt  map[string]string // where the key was written
	fields map[string]value
}

type kind int

const (
	absent kind = iota
	null
	scalar
	list
	section
)

// maxDepth bounds the nesting of a file: an alias may contain itself.
const maxDepth = 100

// parse reads one file.
func parse(file string, b []byte) (value, error) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return value{}, fmt.Errorf("%s: the file is empty; leave it out, or write for example\n"+
			"    api:\n      url: http://localhost:8000", file)
	case err != nil:
		return value{}, notYAML(file, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		if err != nil {
			return value{}, notYAML(file, err)
		}
		return value{}, fmt.Errorf("%s: more than one YAML document (---) in the file; keep one", file)
	}
	v, err := convert(file, doc.Content[0], 0)
	if err != nil {
		return value{}, err
	}
	if v.kind != section {
		return value{}, fmt.Errorf("%s: the file must hold keys, such as\n"+
			"    api:\n      url: http://localhost:8000", v.where)
	}
	return v, nil
}

// notYAML puts the line number that the parser gives where people look for it.
func notYAML(file string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if line, rest, ok := strings.Cut(rest, ": "); ok {
			return fmt.Errorf("%s:%s: not valid YAML: %s", file, line, rest)
		}
	}
	return fmt.Errorf("%s: not valid YAML: %s", file, text)
}

func convert(file string, n *yaml.Node, depth int) (value, error) {
	v := value{where: fmt.Sprintf("%s:%d", file, n.Line)}
	if depth > maxDepth {
		return v, fmt.Errorf("%s: nested too deeply", v.where)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return convert(file, n.Alias, depth+1)
	case yaml.SequenceNode:
		v.kind = list // no client setting is a list, so its items are not kept
	case yaml.MappingNode:
		v.kind = section
		return v, v.convertFields(file, n, depth)
	default:
		v.kind, v.text = scalar, n.Value
		tag := n.ShortTag()
		if tag == "!!null" {
			v.kind = null
		}
		v.isText = tag == "!!str"
		// A style of zero is a scalar without quotes and without a tag.
		if n.Style == 0 && strings.Contains(n.Value, "$") {
			v.text, v.isText = expand(n.Value), true
		}
	}
	return v, nil
}

func (v *value) convertFields(file string, n *yaml.Node, depth int) error {
	v.fields, v.keyAt = map[string]value{}, map[string]string{}
	var inherited []*yaml.Node // by the merge key <<, and weaker than the section's own
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, item := n.Content[i], n.Content[i+1]
		if k.ShortTag() == "!!merge" {
			inherited = append(inherited, item)
			continue
		}
		key, err := convert(file, k, depth+1)
		if err != nil {
			return err
		}
		field, err := convert(file, item, depth+1)
		if err != nil {
			return err
		}
		v.set(key.text, key.where, field)
	}
	for _, item := range inherited {
		base, err := convert(file, item, depth+1)
		if err != nil {
			return err
		}
		if base.kind != section {
			return fmt.Errorf("%s: << must name one section", base.where)
		}
		for _, key := range base.keys {
			if _, ok := v.fields[key]; !ok {
				v.set(key, base.keyAt[key], base.fields[key])
			}
		}
	}
	return nil
}

func (v *value) set(key, where string, field value) {
	if _, ok := v.fields[key]; !ok {
		v.keys = append(v.keys, key)
	}
	v.fields[key], v.keyAt[key] = field, where
}

// merge lays over upon base: sections are merged key by key, anything else is
// replaced.
func merge(base, over value) value {
	if base.kind != section || over.kind != section {
		return over
	}
	m := value{
		kind: section, where: over.where, keys: slices.Clone(base.keys),
		keyAt: map[string]string{}, fields: map[string]value{},
	}
	for key, field := range base.fields {
		m.keyAt[key], m.fields[key] = base.keyAt[key], field
	}
	for _, key := range over.keys {
		m.set(key, over.keyAt[key], merge(m.fields[key], over.fields[key]))
	}
	return m
}

// variable is the pattern of Python's string.Template, which blueapi uses.
var variable = regexp.MustCompile(`\$(?:\$|([_a-zA-Z][_a-zA-Z0-9]*)|\{([_a-zA-Z][_a-zA-Z0-9]*)\})`)

func expand(s string) string {
	return variable.ReplaceAllStringFunc(s, func(ref string) string {
		if ref == "$$" {
			return "$"
		}
		if v, ok := os.LookupEnv(strings.Trim(ref, "${}")); ok {
			return v
		}
		return ref
	})
}
