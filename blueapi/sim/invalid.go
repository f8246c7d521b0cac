package sim

import (
	"mime"
	"slices"
	"strings"
)

// invalid is one complaint of a 422 answer.
type invalid struct {
	loc   []any
	msg   string
	kind  string
	input value
	ctx   value // an object, or null
}

// fastAPI writes a complaint about a request, whose members are in another
// order than those about the parameters of a plan.
func (i invalid) fastAPI() value {
	v := value{kind: object, members: []member{
		{"type", str(i.kind)}, {"loc", location(i.loc)}, {"msg", str(i.msg)}, {"input", i.input},
	}}
	if i.ctx.kind == object {
		v.members = append(v.members, member{"ctx", i.ctx})
	}
	return v
}

func (i invalid) plan() value {
	return value{kind: object, members: []member{
		{"loc", location(append([]any{"body", "params"}, i.loc...))}, {"msg", str(i.msg)}, {"type", str(i.kind)}, {"input", i.input},
	}}
}

func location(loc []any) value {
	v := value{kind: list}
	for _, l := range loc {
		switch l := l.(type) {
		case string:
			v.items = append(v.items, str(l))
		case int:
			v.items = append(v.items, value{kind: integer, text: string(marshal(l))})
		}
	}
	return v
}

func unprocessable(complaints []value) Answer {
	detail := value{kind: object, members: []member{{"detail", value{kind: list, items: complaints}}}}
	return jsonAnswer(422, detail.raw())
}

// field is a member that the body of a request may have.
type field struct {
	name     string
	optional bool
	check    func(v value) []invalid // with loc relative to the field
}

func isText(v value) []invalid {
	if v.kind == text {
		return nil
	}
	return []invalid{{msg: "Input should be a valid string", kind: "string_type"}}
}

func isTextOrNull(v value) []invalid {
	if v.kind == text || v.kind == null {
		return nil
	}
	return []invalid{
		{loc: []any{"str"}, msg: "Input should be a valid string", kind: "string_type"},
		{loc: []any{"none"}, msg: "Input should be None", kind: "none_required"},
	}
}

func isObject(v value) []invalid {
	if v.kind == object {
		return nil
	}
	return []invalid{{msg: "Input should be a valid dictionary", kind: "dict_type"}}
}

func isBool(v value) []invalid {
	if _, bad := (&Param{Type: Bool}).accept(v); bad != nil {
		return []invalid{*bad}
	}
	return nil
}

// isTrue tells of a value that isBool accepts, and of none.
func isTrue(v value) bool {
	b, _ := (&Param{Type: Bool}).accept(v)
	return b == true
}

func isState(v value) []invalid {
	return isOneOf(v, "IDLE", "RUNNING", "PAUSING", "PAUSED", "HALTING", "STOPPING", "ABORTING", "SUSPENDING", "PANICKED", "UNKNOWN")
}

func isOneOf(v value, words ...string) []invalid {
	if v.kind == text && slices.Contains(words, v.text) {
		return nil
	}
	last := len(words) - 1
	expected := "'" + strings.Join(words[:last], "', '") + "' or '" + words[last] + "'"
	return []invalid{{
		msg: "Input should be " + expected, kind: "enum",
		ctx: value{kind: object, members: []member{{"expected", str(expected)}}},
	}}
}

// choice is what a request's query says for a name; empty if nothing.
func choice(x *Exchange, name string, words ...string) (string, *Answer) {
	all := x.URL.Query()[name]
	if len(all) == 0 {
		return "", nil
	}
	v := str(all[len(all)-1])
	for _, bad := range isOneOf(v, words...) {
		bad.loc, bad.input = []any{"query", name}, v
		a := unprocessable([]value{bad.fastAPI()})
		return "", &a
	}
	return v.text, nil
}

// taskRequest is the body of POST /tasks, in the order of the server's model.
func taskRequest() []field {
	return []field{
		{name: "name", check: isText},
		{name: "params", check: isObject, optional: true},
		{name: "instrument_session", check: isText},
	}
}

// workerTask is the body of PUT /worker/task.
func workerTask() []field { return []field{{name: "task_id", check: isTextOrNull}} }

// readBody reads the body of a request. What is wrong with its fields the server
// says as often as it looks at it: for tasks twice.
func readBody(x *Exchange, times int, fields []field) (value, *Answer) {
	fail := func(all []value) (value, *Answer) {
		a := unprocessable(all)
		return value{}, &a
	}
	each := func(wrong ...invalid) (value, *Answer) {
		var all []value
		for range times {
			for _, w := range wrong {
				w.loc = append([]any{"body"}, w.loc...)
				all = append(all, w.fastAPI())
			}
		}
		return fail(all)
	}
	if len(x.Body) == 0 {
		return each(invalid{msg: "Field required", kind: "missing"})
	}
	body := str(string(x.Body))
	if kind, _, _ := mime.ParseMediaType(x.Header.Get("Content-Type")); kind == "application/json" ||
		strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json") {
		v, bad := parse(body.text)
		if bad != nil {
			return fail([]value{invalid{
				loc: []any{"body", bad.pos}, msg: "JSON decode error", kind: "json_invalid", input: value{kind: object},
				ctx: value{kind: object, members: []member{{"error", str(bad.msg)}}},
			}.fastAPI()})
		}
		body = v
	}
	if body.kind != object {
		return each(invalid{msg: "Input should be a valid dictionary or object to extract fields from", kind: "model_attributes_type", input: body})
	}
	if wrong := checkFields(body, fields); wrong != nil {
		return each(wrong...)
	}
	return body, nil
}

func checkFields(body value, fields []field) (wrong []invalid) {
	known := make(map[string]bool)
	for _, f := range fields {
		known[f.name] = true
		v, given := body.field(f.name)
		switch {
		case given:
			for _, w := range f.check(v) {
				w.loc, w.input = append([]any{f.name}, w.loc...), v
				wrong = append(wrong, w)
			}
		case !f.optional:
			wrong = append(wrong, invalid{loc: []any{f.name}, msg: "Field required", kind: "missing", input: body})
		}
	}
	for _, m := range body.members {
		if !known[m.name] {
			wrong = append(wrong, invalid{loc: []any{m.name}, msg: "Extra inputs are not permitted", kind: "extra_forbidden", input: m.value})
		}
	}
	return wrong
}
