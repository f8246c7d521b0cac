package blueapi

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Extra are the fields of an answer that this version of the package does not know,
// as a later server may have. nil means none.
type Extra map[string]json.RawMessage

// decode reads an object into a struct, whose type must not have an UnmarshalJSON, and
// returns the fields that the struct has no place for.
func decode(b []byte, into any) (Extra, error) {
	if err := json.Unmarshal(b, into); err != nil {
		return nil, err
	}
	var extra Extra
	if err := json.Unmarshal(b, &extra); err != nil {
		return nil, err
	}
	for _, f := range reflect.VisibleFields(reflect.TypeOf(into).Elem()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		delete(extra, name)
	}
	if len(extra) == 0 {
		return nil, nil
	}
	return extra, nil
}

// UnmarshalJSON keeps fields that are not known in Extra.
func (e *Environment) UnmarshalJSON(b []byte) (err error) {
	type plain Environment
	e.Extra, err = decode(b, (*plain)(e))
	return err
}

// UnmarshalJSON keeps fields that are not known in Extra.
func (p *Plan) UnmarshalJSON(b []byte) (err error) {
	type plain Plan
	p.Extra, err = decode(b, (*plain)(p))
	return err
}

// UnmarshalJSON keeps fields that are not known in Extra.
func (d *Device) UnmarshalJSON(b []byte) (err error) {
	type plain Device
	d.Extra, err = decode(b, (*plain)(d))
	return err
}

// UnmarshalJSON keeps fields that are not known in Extra.
func (t *Task) UnmarshalJSON(b []byte) (err error) {
	type plain Task
	t.Extra, err = decode(b, (*plain)(t))
	return err
}
