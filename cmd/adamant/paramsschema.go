package main

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
)

// schema is a JSON schema as pydantic writes it, of a plan or of a parameter.
type schema struct {
	pyDict
	defs pyDict // what $ref refers to
}

func schemaOf(raw json.RawMessage) schema {
	v, _ := parsePython(raw)
	dict, _ := v.(pyDict)
	defs, _ := dict.get("$defs").(pyDict)
	return schema{dict, defs}
}

// property is the schema of a parameter. That of one which there is not allows
// everything.
func (s schema) property(name string) schema {
	properties, _ := s.get("properties").(pyDict)
	return s.of(properties.get(name))
}

func (s schema) of(v any) schema {
	dict, _ := v.(pyDict)
	return schema{dict, s.defs}
}

func (s schema) kind() string {
	kind, _ := s.get("type").(string)
	return kind
}

// isDevice tells whether the type is a class of devices, such as
// bluesky.protocols.Readable.
func (s schema) isDevice() bool { return strings.Contains(s.kind(), ".") }

// isReference tells whether the type is a class that the plan brings along.
func (s schema) isReference() bool { return s.get("$ref") != nil }

// alternatives are the types that a value may have.
func (s schema) alternatives() []schema { return s.flat(0) }

func (s schema) flat(depth int) []schema {
	const deepest = 20 // a class may refer to itself
	if ref, ok := s.get("$ref").(string); ok && depth < deepest {
		return s.of(s.defs.get(strings.TrimPrefix(ref, "#/$defs/"))).flat(depth + 1)
	}
	choices := s.choices()
	if choices == nil || depth == deepest {
		return []schema{s}
	}
	var all []schema
	for _, choice := range choices {
		all = append(all, choice.flat(depth+1)...)
	}
	return all
}

// choices are the members of a union, nil if the type is none.
func (s schema) choices() []schema {
	list, ok := s.get("anyOf").([]any)
	if !ok {
		list, _ = s.get("oneOf").([]any)
	}
	var all []schema
	for _, v := range list {
		all = append(all, s.of(v))
	}
	return all
}

// items is the schema of the i-th item of a list.
func (s schema) items(i int) schema {
	if first, _ := s.get("prefixItems").([]any); i < len(first) {
		return s.of(first[i])
	}
	return s.of(s.get("items"))
}

// takesText tells whether a parameter may be text.
func (s schema) takesText() bool {
	return slices.ContainsFunc(s.alternatives(), schema.isText)
}

func (s schema) isText() bool { return s.kind() == "string" || s.isDevice() }

// list is the first of the alternatives that is a list, and whether there is one.
func (s schema) list() (schema, bool) {
	all := s.alternatives()
	if i := slices.IndexFunc(all, func(s schema) bool { return s.kind() == "array" }); i >= 0 {
		return all[i], true
	}
	return schema{}, false
}

// read makes a value of what was written after a parameter's name:
//
//   - a parameter that can only be text, or a device, takes it as it is;
//   - otherwise it is JSON, if it can be read as JSON of a type that the parameter
//     has;
//   - otherwise it is text; or, if the parameter cannot be text but a list, a list
//     of what stands between the commas, in brackets or not.
//
// A name that is given several times makes one list, if the parameter may be one;
// otherwise the last counts.
func (s schema) read(texts []string) any {
	if _, isList := s.list(); !isList || len(texts) == 1 {
		return s.readOne(texts[len(texts)-1])
	}
	all := []any{}
	for _, text := range texts {
		v := s.readOne(text)
		if items, ok := v.([]any); ok {
			all = append(all, items...)
		} else {
			all = append(all, v)
		}
	}
	return all
}

func (s schema) readOne(text string) any {
	list, isList := s.list()
	if v, ok := readJSON(text); ok && s.hasPlaceFor(v) {
		return v
	}
	if !isList || s.takesText() {
		return text
	}
	items := []any{}
	if inner, ok := strings.CutPrefix(text, "["); ok { // a shell took the quotes
		text = strings.TrimSuffix(inner, "]")
	}
	if text == "" {
		return items
	}
	for i, part := range strings.Split(text, ",") {
		items = append(items, list.items(i).readOne(part))
	}
	return items
}

func readJSON(text string) (any, bool) {
	if !json.Valid([]byte(text)) {
		return nil, false
	}
	v, err := parsePython(json.RawMessage(text))
	return v, err == nil
}

// hasPlaceFor tells whether JSON that was written after a parameter's name is
// meant as JSON: the parameter has a type for it, other than text.
func (s schema) hasPlaceFor(v any) bool {
	return slices.ContainsFunc(s.alternatives(), func(s schema) bool {
		switch v := v.(type) {
		case []any:
			return s.kind() == "array" || s.kind() == ""
		case pyDict:
			return s.kind() == "object" || s.kind() == ""
		case string:
			return s.kind() == ""
		case pyInt:
			return s.kind() == "integer" || s.kind() == "number" || s.kind() == "boolean" || s.kind() == ""
		case float64:
			return s.kind() == "number" && !math.IsInf(v, 0) || s.kind() == "integer" && v == math.Trunc(v) || s.kind() == ""
		case bool:
			return s.kind() == "boolean" || s.kind() == ""
		default: // null: which schemas do not tell
			return !s.isText()
		}
	})
}
