package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"

	"go.yaml.in/yaml/v3"
)

// maxParams bounds a file of parameters, in bytes.
const maxParams = 16 << 20

func readObjectFile(path string) ([]param, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }()
	return readObject(path, f)
}

// readObject reads an object from a file: JSON, and if it is not that, YAML.
func readObject(name string, r io.Reader) ([]param, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxParams+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", err)
	case len(b) > maxParams:
		return nil, fmt.Errorf("cannot be read: %s has more than %d bytes", name, maxParams)
	case json.Valid(b):
		return objectOfJSON(string(b))
	}
	object, err := objectOfYAML(b)
	if err != nil {
		return nil, fmt.Errorf("in %s: %w", name, err)
	}
	return object, nil
}

func objectOfYAML(b []byte) ([]param, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	// It finds keys given twice, and aliases without end.
	if err := doc.Decode(new(any)); err != nil {
		return nil, err
	}
	v, err := yamlValue(&doc)
	if err != nil {
		return nil, err
	}
	dict, ok := v.(pyDict)
	if !ok {
		return nil, errNotObject
	}
	var p params
	for _, item := range dict {
		p.set(item.key, json.RawMessage(dumps(item.value, 0)))
	}
	return p, nil
}

// yamlValue turns YAML into what parsePython would make of the same in JSON. A
// date stays the text that it was written as.
func yamlValue(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.AliasNode:
		return yamlValue(n.Alias)
	case yaml.DocumentNode:
		return yamlValue(n.Content[0])
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			v, err := yamlValue(item)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		dict := pyDict{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
				return nil, fmt.Errorf("line %d: a key must be text", key.Line)
			}
			v, err := yamlValue(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			dict = append(dict, pyItem{key.Value, v})
		}
		return dict, nil
	default:
		return yamlScalar(n)
	}
}

func yamlScalar(n *yaml.Node) (any, error) {
	wrong := func(err error) (any, error) { return nil, fmt.Errorf("line %d: %w", n.Line, err) }
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var v bool
		if err := n.Decode(&v); err != nil {
			return wrong(err)
		}
		return v, nil
	case "!!int":
		if v, ok := new(big.Int).SetString(n.Value, 0); ok {
			return pyInt(v.String()), nil
		}
		fallthrough
	case "!!float":
		var v float64
		if err := n.Decode(&v); err != nil {
			return wrong(err)
		}
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return wrong(fmt.Errorf("JSON has no number %s", n.Value))
		}
		return v, nil
	case "!!binary":
		return wrong(errors.New("JSON has no binary data"))
	}
	return n.Value, nil
}
