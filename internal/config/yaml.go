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
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// value is a YAML value that knows where it was written. The zero value is one
// that is absent.
type value struct {
	kind   kind
	where  string // file:line
	text   string // of a scalar
	isText bool   // a scalar that is not a number, a date or a truth value
	varied bool   // a scalar that was written with variables
	keys   []string
	keyAt  map[string]string // where the key was written
	fields map[string]value
	items  []value // of a list, if they are asked for
}

type kind int

const (
	absent kind = iota
	null
	scalar
	list
	section
)

// Bounds on a file. A name for a value may stand within that value, and ten
// lines of names for names are a million values.
const (
	maxBytes  = 1 << 20
	maxDepth  = 100
	maxValues = 20_000
)

// example is what a user is shown whose file says nothing.
const example = "    api:\n      url: http://localhost:8000"

// parse reads one of blueapi's files. No setting of a client is a list, so that the
// items of lists are not looked at.
func parse(file string, b []byte) (value, error) {
	return converter{file: file, left: maxValues, example: example}.parse(b)
}

func (c converter) parse(b []byte) (value, error) {
	file := c.file
	if len(b) > maxBytes {
		return value{}, fmt.Errorf("%s: the file has more than %d bytes", file, maxBytes)
	}
	n, err := document(file, b)
	if err != nil {
		return value{}, err
	}
	if n == nil {
		return value{}, fmt.Errorf("%s: the file is empty; leave it out, or write for example\n%s", file, c.example)
	}
	v, err := c.convert(n, 0)
	if err != nil {
		return value{}, err
	}
	if v.kind != section {
		return value{}, fmt.Errorf("%s: the file must hold keys, such as\n%s", v.where, c.example)
	}
	return v, nil
}

// document reads the one document of a file, nil if it is empty.
func document(file string, b []byte) (*yaml.Node, error) {
	if err := checkBytes(file, b); err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, notYAML(file, b, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one YAML document (---) in the file; keep one", file)
	}
	return doc.Content[0], nil
}

// checkBytes finds what no YAML file may hold, of which the parser does not
// tell the line.
func checkBytes(file string, b []byte) error {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		line := func() int { return 1 + bytes.Count(b[:i], []byte("\n")) }
		switch {
		case r == utf8.RuneError && size == 1:
			return fmt.Errorf("%s:%d: not UTF-8; save the file in that encoding", file, line())
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			return fmt.Errorf("%s:%d: a control character (%U) in the file; remove it", file, line(), r)
		}
		i += size
	}
	return nil
}

// notYAML says on which line a file goes wrong: the one after the longest
// beginning that can be read. The line that the parser names is often not it.
func notYAML(file string, b []byte, err error) error {
	const most = 1 << 25 // bytes to be read again, some seconds
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if _, rest, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(text, "line ") {
		text = rest
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines)*len(b) > most {
		return fmt.Errorf("%s: not valid YAML: %w", file, err)
	}
	good := len(lines) - 1
	for good > 0 && yaml.Unmarshal(bytes.Join(lines[:good], nil), new(yaml.Node)) != nil {
		good--
	}
	return fmt.Errorf("%s:%d: not valid YAML: %s", file, good+1, text)
}

// converter makes values of a file's nodes, and bounds their number.
type converter struct {
	file    string
	left    int
	lists   bool   // keep their items
	example string // of a file
}

func (c *converter) convert(n *yaml.Node, depth int) (value, error) {
	v := value{where: fmt.Sprintf("%s:%d", c.file, n.Line)}
	if c.left--; c.left < 0 {
		return v, c.tooMuch(v.where)
	}
	if depth > maxDepth {
		return v, fmt.Errorf("%s: nested too deeply", v.where)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.convert(n.Alias, depth+1)
	case yaml.SequenceNode:
		v.kind = list
		for _, item := range n.Content {
			if !c.lists {
				break
			}
			i, err := c.convert(item, depth+1)
			if err != nil {
				return v, err
			}
			v.items = append(v.items, i)
		}
	case yaml.MappingNode:
		v.kind = section
		return v, c.fields(&v, n, depth)
	default:
		v.kind, v.text = scalar, n.Value
		switch tag := n.ShortTag(); {
		case tag == "!!null":
			v.kind = null
		case tag == "!expand" || n.Style == 0 && hasVariable(n.Value):
			v.text, v.isText, v.varied = expand(n.Value), true, true
		case n.Style == 0: // no quotes and no tag
			v.isText = !notText.MatchString(n.Value)
		default:
			v.isText = tag == "!!str"
		}
	}
	return v, nil
}

func (c *converter) tooMuch(where string) error {
	return fmt.Errorf("%s: more than %d values, those repeated by aliases (*) included", where, maxValues)
}

// fields converts the values of a section.
func (c *converter) fields(v *value, n *yaml.Node, depth int) error {
	v.fields, v.keyAt = map[string]value{}, map[string]string{}
	var bases []value // by the merge key <<, weaker than the section's own keys; the strongest last
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, item := n.Content[i], n.Content[i+1]
		if k.ShortTag() == "!!merge" {
			more, err := c.bases(item, depth+1)
			if err != nil {
				return err
			}
			bases = append(bases, more...)
			continue
		}
		key, err := c.convert(k, depth+1)
		if err != nil {
			return err
		}
		field, err := c.convert(item, depth+1)
		if err != nil {
			return err
		}
		v.set(key.text, key.where, field)
	}
	for _, base := range slices.Backward(bases) {
		if c.left -= len(base.keys); c.left < 0 {
			return c.tooMuch(base.where)
		}
		for _, key := range base.keys {
			if _, ok := v.fields[key]; !ok {
				v.set(key, base.keyAt[key], base.fields[key])
			}
		}
	}
	return nil
}

// bases are the sections that a merge key names: one, or a list of them whose
// first is the strongest.
func (c *converter) bases(n *yaml.Node, depth int) ([]value, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = slices.Clone(n.Content)
		slices.Reverse(nodes)
	}
	var bases []value
	for _, n := range nodes {
		base, err := c.convert(n, depth+1)
		if err != nil {
			return nil, err
		}
		if base.kind != section {
			return nil, fmt.Errorf("%s: << must name a section or a list of sections", base.where)
		}
		bases = append(bases, base)
	}
	return bases, nil
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

// notText matches the scalars without quotes that are a truth value, a number, a
// date or a special sign by the rules of YAML 1.1 as PyYAML has them, which blueapi
// uses; the parser here keeps to other rules.
var notText = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF`,
	`[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?`,
	`[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)`,
	`[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+`,
	`[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+`,
	`[0-9]{4}-[0-9]{2}-[0-9]{2}`,
	`[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?` +
		`(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?`,
	`=|<<`,
}, "|") + `)$`)

// hasVariable tells whether blueapi looks for variables in a scalar without
// quotes: it goes by the first line.
func hasVariable(s string) bool {
	first, _, _ := strings.Cut(s, "\n")
	return strings.Contains(first, "$")
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
