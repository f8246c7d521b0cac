package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"

	"go.yaml.in/yaml/v3"
)

// Object turns an object in YAML into the same in JSON, with the keys in the order
// in which they are written. Dates stay the text that they are written as, and
// there are no variables and no merge keys. An error names the file, and the line.
func Object(file string, b []byte) (json.RawMessage, error) {
	n, err := document(file, b)
	if err != nil {
		return nil, err
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: the file must hold keys and values", file)
	}
	w := jsonWriter{file: file, left: 300_000}
	if err := w.write(n, 0); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// jsonWriter writes YAML as JSON, and bounds the number of its values.
type jsonWriter struct {
	bytes.Buffer
	file string
	left int
}

func (w *jsonWriter) fail(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", w.file, n.Line, fmt.Errorf(format, args...))
}

func (w *jsonWriter) write(n *yaml.Node, depth int) error {
	if w.left--; w.left < 0 || depth > maxDepth {
		return w.fail(n, "too many values, those repeated by aliases (*) included, or nested too deeply")
	}
	switch n.Kind {
	case yaml.AliasNode:
		return w.write(n.Alias, depth+1)
	case yaml.SequenceNode:
		w.WriteByte('[')
		for i, item := range n.Content {
			w.comma(i)
			if err := w.write(item, depth+1); err != nil {
				return err
			}
		}
		w.WriteByte(']')
		return nil
	case yaml.MappingNode:
		return w.section(n, depth)
	default:
		v, err := scalarValue(n)
		if err != nil {
			return w.fail(n, "%w", err)
		}
		return w.marshal(v)
	}
}

func (w *jsonWriter) section(n *yaml.Node, depth int) error {
	seen := make(map[string]bool)
	w.WriteByte('{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge":
			return w.fail(key, "a key must be text")
		case seen[key.Value]:
			return w.fail(key, "the key %q is there already", key.Value)
		}
		seen[key.Value] = true
		w.comma(i)
		if err := w.marshal(key.Value); err != nil {
			return err
		}
		w.WriteByte(':')
		if err := w.write(n.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	w.WriteByte('}')
	return nil
}

func (w *jsonWriter) comma(i int) {
	if i > 0 {
		w.WriteByte(',')
	}
}

func (w *jsonWriter) marshal(v any) error {
	b, err := json.Marshal(v)
	w.Write(b)
	return err
}

// scalarValue is what json.Marshal makes JSON of.
func scalarValue(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var v bool
		err := n.Decode(&v)
		return v, err
	case "!!int":
		if v, ok := new(big.Int).SetString(n.Value, 0); ok {
			return v, nil
		}
		return number(n)
	case "!!float":
		return number(n)
	case "!!binary":
		return nil, errors.New("JSON has no binary data")
	}
	return n.Value, nil
}

func number(n *yaml.Node) (any, error) {
	var v float64
	if err := n.Decode(&v); err != nil {
		return nil, err
	}
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return nil, fmt.Errorf("JSON has no number %s", n.Value)
	}
	return v, nil
}
