package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// File is one of blueapi's configuration files, of which a copy can be made that
// points to another server.
type File struct {
	path string
	text []byte
	root value
}

// ErrForeign tells that a file is none of blueapi's.
var ErrForeign = errors.New("not one of blueapi's configuration files")

// ReadFile reads a file. The error is [ErrForeign] if it may be some other program's:
// if it is no YAML, has keys that blueapi does not know, or none by which it could be
// told from others. Its values are not looked at: those that are wrong may be replaced
// by another file's.
func ReadFile(path string) (*File, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // a pipe could be read but once
		return nil, ErrForeign
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, err
	}
	// With the items of lists: what is copied must be bounded too.
	root, err := converter{file: path, left: maxValues, lists: true, example: example}.parse(b)
	if err != nil || !isBlueapi(root) {
		return nil, ErrForeign
	}
	return &File{path: path, text: b, root: root}, nil
}

// isBlueapi tells blueapi's files by their keys. env and logging are keys that many
// have.
func isBlueapi(root value) bool {
	var d decoder
	d.section(root, "", topKeys()...)
	d.section(root.fields["api"], "api", apiKeys()...)
	d.section(root.fields["stomp"], "stomp", stompKeys()...)
	return d.err == nil && slices.ContainsFunc(root.keys, func(key string) bool { return key != "env" && key != "logging" })
}

// URL is what the file says of api.url, variables replaced; "" if nothing.
func (f *File) URL() string {
	return strings.TrimSpace(f.root.fields["api"].fields["url"].text)
}

// PointedTo returns the file with other addresses: url in the place of api.url, and
// broker in that of stomp.url if the file has a section stomp and broker is not empty.
// All else stays as it is, to the byte where the file is of the usual form; where it
// is not (aliases, block scalars), what it means stays, and its comments.
func (f *File) PointedTo(url, broker string) ([]byte, error) {
	root, err := document(f.path, f.text)
	if err != nil {
		return nil, err
	}
	settings := []setting{{"api", "url", url}}
	if _, ok := f.root.fields["stomp"]; ok && broker != "" {
		settings = append(settings, setting{"stomp", "url", broker})
	}
	want := expanded(root)
	for _, s := range settings {
		s.in(want)
	}
	if b, ok := patched(f.text, root, settings); ok && f.means(b, want) {
		return b, nil
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(want); err != nil {
		return nil, fmt.Errorf("%s: no copy can be made of it: %w", f.path, err)
	}
	if !f.means(b.Bytes(), want) {
		return nil, fmt.Errorf("%s: no copy can be made of it that means the same; write it more simply", f.path)
	}
	return b.Bytes(), nil
}

// means reports whether a file holds what is wanted.
func (f *File) means(b []byte, want *yaml.Node) bool {
	root, err := document(f.path, b)
	return err == nil && root != nil && alike(expanded(root), want)
}

// alike reports whether two documents that are expanded mean the same.
func alike(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || len(a.Content) != len(b.Content) {
		return false
	}
	if a.Kind != yaml.MappingNode {
		return a.Value == b.Value && a.ShortTag() == b.ShortTag() && isSpecial(a) == isSpecial(b) &&
			slices.EqualFunc(a.Content, b.Content, alike)
	}
	for i := 0; i+1 < len(a.Content); i += 2 {
		x, y := i+1, i+1
		if key := a.Content[i]; key.Kind == yaml.ScalarNode {
			x, y = find(a, keyText(key)), find(b, keyText(key))
		}
		if y < 0 || x < 0 || !alike(a.Content[x-1], b.Content[y-1]) || !alike(a.Content[x], b.Content[y]) {
			return false
		}
	}
	return true
}

// isSpecial tells the scalars that would mean something else in quotes.
func isSpecial(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style == 0 && (hasVariable(n.Value) || notText.MatchString(n.Value))
}

// expanded returns a copy without anchors, aliases and merge keys. It is for documents
// that ReadFile has found to be bounded.
func expanded(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	c := *n
	c.Anchor, c.Content = "", nil
	if n.Kind != yaml.MappingNode {
		for _, item := range n.Content {
			c.Content = append(c.Content, expanded(item))
		}
		return &c
	}
	var bases []*yaml.Node // the strongest first
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], expanded(n.Content[i+1])
		switch {
		case key.ShortTag() != "!!merge":
			c.Content = append(c.Content, expanded(key), item)
		case item.Kind == yaml.SequenceNode:
			bases = slices.Insert(bases, 0, item.Content...)
		default:
			bases = slices.Insert(bases, 0, item)
		}
	}
	for _, base := range bases {
		for i := 0; i+1 < len(base.Content); i += 2 {
			if find(&c, keyText(base.Content[i])) < 0 {
				c.Content = append(c.Content, base.Content[i], base.Content[i+1])
			}
		}
	}
	return &c
}

// find returns where the value of a key is in a section; the last one counts.
func find(section *yaml.Node, key string) int {
	at := -1
	for i := 0; i+1 < len(section.Content); i += 2 {
		if k := section.Content[i]; k.Kind == yaml.ScalarNode && k.ShortTag() != "!!merge" && keyText(k) == key {
			at = i + 1
		}
	}
	return at
}

// keyText is what a key means: there may be variables in it too.
func keyText(k *yaml.Node) string {
	if k.ShortTag() == "!expand" || k.Style == 0 && hasVariable(k.Value) {
		return expand(k.Value)
	}
	return k.Value
}

// setting is a text that a key of a section is to have.
type setting struct{ section, key, text string }

// in sets it in a document that is expanded.
func (s setting) in(root *yaml.Node) {
	at := find(root, s.section)
	if at < 0 {
		key := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: s.section}
		root.Content = slices.Insert(root.Content, 0, &key, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: yaml.FlowStyle})
		at = 1
	}
	section := root.Content[at]
	value := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: s.text}
	if at := find(section, s.key); at >= 0 {
		old := section.Content[at]
		value.HeadComment, value.LineComment, value.FootComment = old.HeadComment, old.LineComment, old.FootComment
		section.Content[at] = &value
		return
	}
	key := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: s.key}
	section.Content = slices.Insert(section.Content, 0, &key, &value)
}

// patch puts text in the place of some bytes.
type patch struct {
	at, length int
	text       string
}

// patched makes the settings in the text itself. It is not ok where that is not simple;
// and what it makes is to be compared with what is wanted.
func patched(text []byte, root *yaml.Node, settings []setting) ([]byte, bool) {
	var patches []patch
	for _, s := range settings {
		p, ok := s.patch(text, root)
		if !ok {
			return nil, false
		}
		patches = append(patches, p)
	}
	slices.SortStableFunc(patches, func(a, b patch) int { return b.at - a.at })
	b := slices.Clone(text)
	for _, p := range patches {
		b = slices.Replace(b, p.at, p.at+p.length, []byte(p.text)...)
	}
	return b, true
}

func (s setting) patch(text []byte, root *yaml.Node) (patch, bool) {
	quoted, err := json.Marshal(s.text) // which is YAML too
	if err != nil {
		return patch{}, false
	}
	at := find(root, s.section)
	if at < 0 {
		return insertion(text, root, fmt.Sprintf("%q: {%q: %s}", s.section, s.key, quoted))
	}
	section := root.Content[at]
	if section.Kind != yaml.MappingNode {
		return patch{}, false
	}
	if at = find(section, s.key); at < 0 {
		return insertion(text, section, fmt.Sprintf("%q: %s", s.key, quoted))
	}
	old := section.Content[at]
	begin, ok := offset(text, old)
	if !ok || old.Kind != yaml.ScalarNode || old.Anchor != "" {
		return patch{}, false
	}
	length, ok := extent(text[begin:], old)
	return patch{begin, length, string(quoted)}, ok
}

// insertion puts a key before the first one of a section.
func insertion(text []byte, section *yaml.Node, field string) (patch, bool) {
	if len(section.Content) == 0 {
		return patch{}, false
	}
	at, ok := offset(text, section.Content[0])
	switch {
	case !ok:
		return patch{}, false
	case section.Style&yaml.FlowStyle != 0:
		return patch{at, 0, field + ", "}, true
	}
	return patch{at, 0, field + "\n" + strings.Repeat(" ", section.Content[0].Column-1)}, true
}

// offset is where a node begins in the text.
func offset(text []byte, n *yaml.Node) (int, bool) {
	at := len(text) - len(bytes.TrimPrefix(text, []byte("\ufeff")))
	for range n.Line - 1 {
		next := bytes.IndexByte(text[at:], '\n')
		if next < 0 {
			return 0, false
		}
		at += next + 1
	}
	for range n.Column - 1 { // in characters
		_, size := utf8.DecodeRune(text[at:])
		at += size
	}
	return at, at < len(text)
}

// extent is how many bytes of the text a scalar has that begins it.
func extent(text []byte, n *yaml.Node) (int, bool) {
	switch n.Style {
	case 0:
		return len(n.Value), n.Value != "" && bytes.HasPrefix(text, []byte(n.Value))
	case yaml.SingleQuotedStyle:
		end := bytes.IndexByte(text[1:], '\'') // there is none in an address
		return end + 2, end >= 0
	case yaml.DoubleQuotedStyle:
		end := bytes.IndexByte(text[1:], '"')
		return end + 2, end >= 0 && !bytes.Contains(text[:end+1], []byte(`\`))
	}
	return 0, false
}
