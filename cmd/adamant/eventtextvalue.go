package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Values of documents and events, as blueapi's client reads them.

// errValue is a value that Python has no use for where it stands.
var errValue = errors.New("a value of a type that does not belong here")

// errNoMember says that an object lacks a member that bluesky would ask it for.
type errNoMember string

func (e errNoMember) Error() string { return "no " + string(e) }

// lookup is get, and tells a member that is null from none.
func (d pyDict) lookup(key string) (any, bool) {
	for _, item := range d {
		if item.key == key {
			return item.value, true
		}
	}
	return nil, false
}

// need returns a member that must be there, and of a type.
func need[T any](d pyDict, key string) (T, error) {
	v, ok := d.lookup(key)
	if !ok {
		return *new(T), errNoMember(key)
	}
	typed, ok := v.(T)
	if !ok {
		return typed, fmt.Errorf("%s is %.40s", key, pyRepr(v))
	}
	return typed, nil
}

// texts reads a list of strings.
func texts(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, errValue
	}
	out := make([]string, len(list))
	for i, item := range list {
		if out[i], ok = item.(string); !ok {
			return nil, errValue
		}
	}
	return out, nil
}

// readDict reads an object.
func readDict(raw json.RawMessage) (pyDict, error) {
	v, err := parsePython(raw)
	if err != nil {
		return nil, err
	}
	doc, ok := asReceived(v).(pyDict)
	if !ok {
		return nil, errValue
	}
	return doc, nil
}

// asReceived makes of integers beyond 64 bits the numbers that blueapi's client makes
// of them when it reads an event (by orjson).
func asReceived(v any) any {
	switch v := v.(type) {
	case pyInt:
		if len(v) < 19 {
			return v
		}
		_, signed := strconv.ParseInt(string(v), 10, 64)
		_, unsigned := strconv.ParseUint(string(v), 10, 64)
		if signed != nil && unsigned != nil {
			f, _ := strconv.ParseFloat(string(v), 64)
			return f
		}
	case []any:
		for i := range v {
			v[i] = asReceived(v[i])
		}
	case pyDict:
		for i := range v {
			v[i].value = asReceived(v[i].value)
		}
	}
	return v
}

// isPyNumber tells whether Python can calculate with a value.
func isPyNumber(v any) bool {
	switch v.(type) {
	case bool, pyInt, float64:
		return true
	}
	return false
}

// pyTruth is bool(v).
func pyTruth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case pyInt:
		return v != "0"
	case float64:
		return v != 0
	case []any:
		return len(v) > 0
	case pyDict:
		return len(v) > 0
	}
	return true
}
