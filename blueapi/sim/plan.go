package sim

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"unicode"

	"github.com/adamant-go/adamant/blueapi"
)

// A Plan is a plan that a Server can run: some parameters and a function. Only
// Name is needed; a plan without functions ends as soon as it has begun.
type Plan struct {
	Name        string
	Description string
	Params      []Param
	// Prelude is what happens between the request and the start of the run
	// engine. The request waits for it, but not longer than 5 s.
	Prelude func(context.Context, Args) error
	// Run is the plan. Its context ends when the plan is aborted or stopped, or the
	// server is killed or closed, and Close waits for it. A pause takes effect in
	// its Sleep and Checkpoint and nowhere else. What it returns must be what
	// json.Marshal takes, or the server will say that it cannot be serialised. An
	// error fails the plan; of which type it is to a client, *PlanError says.
	Run func(context.Context, Args) (any, error)

	schema json.RawMessage // if Params cannot describe it
}

// A Param is a parameter of a Plan.
type Param struct {
	Name string
	// Type is Number, Integer, Text, Bool or Any.
	Type ParamType
	// Default makes the parameter optional, if it is not nil.
	Default any
	// Nullable makes it optional too; without a Default it is then nil.
	Nullable bool

	shape shape // if Type cannot describe it; its argument is a json.RawMessage
}

// ParamType is the type of a Param.
type ParamType string

// The types of parameters. What they accept is what pydantic accepts, such as
// the text "1.5" for a Number.
const (
	Number  ParamType = "number"  // float64
	Integer ParamType = "integer" // int
	Text    ParamType = "string"  // string
	Bool    ParamType = "boolean" // bool
	Any     ParamType = ""        // json.RawMessage
)

// Args are the arguments of one run, by name, in the Go types that ParamType
// names; nil where there is none.
type Args map[string]any

// PlanError is an error of a plan with its Python type.
type PlanError struct{ Type, Message string }

func (e *PlanError) Error() string { return e.Message }

func (p *Plan) wire() blueapi.Plan {
	w := blueapi.Plan{Name: p.Name, Schema: p.schema}
	if p.Description != "" {
		w.Description = &p.Description
	}
	if w.Schema == nil {
		w.Schema = p.makeSchema().raw()
	}
	return w
}

func (p *Plan) makeSchema() value {
	properties := value{kind: object}
	required := value{kind: list}
	for _, q := range p.Params {
		m := value{kind: object}
		if q.Default != nil {
			raw, _ := pythonResult(q.Default)
			v, _ := parse(string(raw))
			m.members = append(m.members, member{"default", v})
		}
		m.members = append(m.members, member{"title", str(title(q.Name))})
		if q.Type != Any {
			m.members = append(m.members, member{"type", str(string(q.Type))})
		}
		properties.members = append(properties.members, member{q.Name, m})
		if q.required() {
			required.items = append(required.items, str(q.Name))
		}
	}
	s := value{kind: object, members: []member{
		{"additionalProperties", value{kind: boolean, text: "false"}},
		{"properties", properties},
	}}
	if len(required.items) > 0 {
		s.members = append(s.members, member{"required", required})
	}
	s.members = append(s.members, member{"title", str(p.Name)}, member{"type", str("object")})
	return s
}

// title makes Motor X of motor_x.
func title(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words {
		for _, r := range w {
			words[i] = string(unicode.ToUpper(r)) + strings.ToLower(w[len(string(r)):])
			break
		}
	}
	return strings.Join(words, " ")
}

func (q *Param) required() bool { return q.Default == nil && !q.Nullable }

// arguments checks what a request gives the plan.
func (p *Plan) arguments(params value) (Args, []invalid) {
	args := make(Args)
	var wrong []invalid
	for i := range p.Params {
		q := &p.Params[i]
		if bad := q.check(params); bad != nil {
			wrong = append(wrong, bad...)
			continue
		}
		args[q.Name] = q.argument(params)
	}
	for _, m := range params.members {
		if p.param(m.name) == nil {
			wrong = append(wrong, invalid{loc: []any{m.name}, msg: "Extra inputs are not permitted", kind: "extra_forbidden", input: m.value})
		}
	}
	return args, wrong
}

// check looks at the parameter among all.
func (q *Param) check(params value) []invalid {
	v, given := params.field(q.Name)
	switch {
	case given:
		return within(q.Name, q.whole().check(v))
	case q.required():
		return []invalid{{loc: []any{q.Name}, msg: "Field required", kind: "missing", input: params}}
	}
	return nil
}

func (q *Param) whole() shape {
	s := q.shape
	if s.check == nil {
		s = scalar(q.Type)
	}
	if q.Nullable {
		s = oneOf(s, none())
	}
	return s
}

// argument is what the plan gets, after a check.
func (q *Param) argument(params value) any {
	v, given := params.field(q.Name)
	switch {
	case !given:
		return q.Default
	case v.kind == null && q.Nullable:
		return nil
	case q.shape.check != nil:
		return v.raw()
	}
	arg, _ := q.accept(v)
	return arg
}

func (p *Plan) param(name string) *Param {
	for i := range p.Params {
		if p.Params[i].Name == name {
			return &p.Params[i]
		}
	}
	return nil
}

// python is the type's name in Python.
func (t ParamType) python() string {
	switch t {
	case Number:
		return "float"
	case Integer:
		return "int"
	case Text:
		return "str"
	case Bool:
		return "bool"
	case Any:
	}
	return ""
}

// accept turns v into the parameter's type, as pydantic does by default.
func (q *Param) accept(v value) (any, *invalid) {
	wrong := func(kind, msg string) (any, *invalid) { return nil, &invalid{kind: kind, msg: msg} }
	word := strings.TrimSpace(v.text)
	switch q.Type {
	case Number:
		switch v.kind {
		case boolean:
			if v.text == "true" {
				return 1.0, nil
			}
			return 0.0, nil
		case integer, float, text:
			if f, err := strconv.ParseFloat(word, 64); err == nil {
				return f, nil
			}
			return wrong("float_parsing", "Input should be a valid number, unable to parse string as a number")
		}
		return wrong("float_type", "Input should be a valid number")
	case Integer:
		f, err := strconv.ParseFloat(word, 64)
		switch {
		case v.kind == boolean && v.text == "true":
			return 1, nil
		case v.kind == boolean:
			return 0, nil
		case v.kind == float && f != float64(int(f)):
			return wrong("int_from_float", "Input should be a valid integer, got a number with a fractional part")
		case v.kind == integer, v.kind == float, v.kind == text && err == nil && f == float64(int(f)):
			return int(f), nil
		case v.kind == text:
			return wrong("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
		}
		return wrong("int_type", "Input should be a valid integer")
	case Text:
		if v.kind != text {
			return wrong("string_type", "Input should be a valid string")
		}
		return v.text, nil
	case Bool:
		switch v.kind {
		case boolean, integer, float, text:
			switch strings.ToLower(v.text) {
			case "true", "t", "yes", "y", "on", "1", "1.0":
				return true, nil
			case "false", "f", "no", "n", "off", "0", "0.0":
				return false, nil
			}
			return wrong("bool_parsing", "Input should be a valid boolean, unable to interpret input")
		}
		return wrong("bool_type", "Input should be a valid boolean")
	}
	return v.raw(), nil
}
