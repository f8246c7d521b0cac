package sim

import (
	"slices"
	"strings"
)

// A shape is a type of parameters, as far as it can be wrong. The complaints are
// pydantic's, with a loc within the value.
type shape struct {
	name  string // in the loc of a complaint, where there are alternatives
	check func(v value) []invalid
}

func scalar(t ParamType) shape {
	return shape{t.python(), func(v value) []invalid {
		if _, bad := (&Param{Type: t}).accept(v); bad != nil {
			bad.input = v
			return []invalid{*bad}
		}
		return nil
	}}
}

func none() shape {
	return shape{"none", func(v value) []invalid {
		if v.kind == null {
			return nil
		}
		return []invalid{{msg: "Input should be None", kind: "none_required", input: v}}
	}}
}

// oneOf complains of all alternatives if none fits.
func oneOf(alternatives ...shape) shape {
	return shape{"", func(v value) (wrong []invalid) {
		for _, a := range alternatives {
			bad := a.check(v)
			if bad == nil {
				return nil
			}
			wrong = append(wrong, within(a.name, bad)...)
		}
		return wrong
	}}
}

// within puts complaints about a part into the whole.
func within(at any, wrong []invalid) []invalid {
	for i := range wrong {
		wrong[i].loc = append([]any{at}, wrong[i].loc...)
	}
	return wrong
}

func listOf(item shape) shape {
	return shape{"list[" + item.name + "]", func(v value) (wrong []invalid) {
		if v.kind != list {
			return []invalid{{msg: "Input should be a valid list", kind: "list_type", input: v}}
		}
		for i, e := range v.items {
			wrong = append(wrong, within(i, item.check(e))...)
		}
		return wrong
	}}
}

// sequenceOf is a list by another name.
func sequenceOf(item shape) shape {
	name := "json-or-python[json=list[" + item.name + "],python=chain[is-instance[Sequence],function-wrap[sequence_validator()]]]"
	return shape{name, func(v value) []invalid {
		switch v.kind {
		case list:
			return listOf(item).check(v)
		case text:
			return []invalid{{msg: "'str' instances are not allowed as a Sequence value", kind: "sequence_str", input: v}}
		}
		return []invalid{{msg: "Input should be an instance of Sequence", kind: "is_instance_of", input: v}}
	}}
}

// mapOf is a dict with texts for keys; a member without a check may be anything.
func mapOf(item shape) shape {
	return shape{"dict[str," + item.name + "]", func(v value) (wrong []invalid) {
		if v.kind != object {
			return []invalid{{msg: "Input should be a valid dictionary", kind: "dict_type", input: v}}
		}
		for _, m := range v.members {
			if item.check != nil {
				wrong = append(wrong, within(m.name, item.check(m.value))...)
			}
		}
		return wrong
	}}
}

func anything() shape { return shape{name: "any"} }

func oneWordOf(words ...string) shape {
	return shape{"", func(v value) []invalid {
		if v.kind == text && slices.Contains(words, v.text) {
			return nil
		}
		return []invalid{{msg: "Input should be '" + strings.Join(words, "' or '") + "'", kind: "literal_error", input: v}}
	}}
}

// modelOf has the members of Params, and ignores others.
func modelOf(name string, members ...Param) shape {
	return shape{name, func(v value) (wrong []invalid) {
		if v.kind != object {
			return []invalid{{msg: "Input should be a valid dictionary or instance of " + name, kind: "model_type", input: v}}
		}
		for _, q := range members {
			wrong = append(wrong, q.check(v)...)
		}
		return wrong
	}}
}
