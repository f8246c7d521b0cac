package sim

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A value is a JSON value as Python holds it after reading: the order of
// members is kept, a repeated name keeps its first place and its last value.
type value struct {
	kind    kind
	text    string // of a string its characters, of a number its literal
	items   []value
	members []member
}

type member struct {
	name  string
	value value
}

type kind int

const (
	null kind = iota
	boolean
	integer
	float
	text
	list
	object
)

func (v value) field(name string) (value, bool) {
	for _, m := range v.members {
		if m.name == name {
			return m.value, true
		}
	}
	return value{}, false
}

// append writes v as the server does: no spaces, nothing escaped that need not
// be.
func (v value) append(b []byte) []byte {
	switch v.kind {
	case null:
		return append(b, "null"...)
	case text:
		return appendString(b, v.text)
	case list:
		b = append(b, '[')
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.append(b)
		}
		return append(b, ']')
	case object:
		b = append(b, '{')
		for i, m := range v.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, m.name), ':')
			b = m.value.append(b)
		}
		return append(b, '}')
	default:
		return append(b, v.text...)
	}
}

// dict is an object of these members.
func dict(members ...member) value { return value{kind: object, members: members} }

// set adds a member to an object, or replaces the one of its name.
func (v *value) set(m member) {
	if i := memberIndex(v.members, m.name); i >= 0 {
		v.members[i] = m
	} else {
		v.members = append(v.members, m)
	}
}

func str(s string) value { return value{kind: text, text: s} }

func whole(i int) value { return value{kind: integer, text: strconv.Itoa(i)} }

func wholes(numbers ...int) value {
	v := value{kind: list}
	for _, n := range numbers {
		v.items = append(v.items, whole(n))
	}
	return v
}

func boolOf(b bool) value { return value{kind: boolean, text: strconv.FormatBool(b)} }

// decimal is a number that is not whole, if only in its type.
func decimal(f float64) value { return value{kind: float, text: pydanticFloat(f)} }

// clock is a time as Python's time.time has it.
func clock(t time.Time) value { return decimal(float64(t.UnixNano()) / 1e9) }

func (v value) raw() json.RawMessage { return v.append(nil) }

func appendString(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '\\'
	}
	if plain {
		return append(append(append(b, '"'), s...), '"')
	}
	return append(b, bytes.TrimSuffix(marshal(s), []byte("\n"))...)
}

// marshal is json.Marshal without the escaping that is for HTML. It is used for
// values that can be marshalled.
func marshal(v any) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// syntaxError is what Python's json module says of a text that is not JSON.
type syntaxError struct {
	pos int
	msg string
}

// parse reads JSON, with Python's words and positions for what is wrong.
func parse(s string) (v value, err *syntaxError) {
	p := &parser{s: s}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*syntaxError)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	p.space()
	v = p.value()
	p.space()
	if p.i < len(s) {
		p.fail(p.i, "Extra data")
	}
	return v, nil
}

type parser struct {
	s string
	i int
}

func (p *parser) fail(at int, msg string) {
	panic(&syntaxError{utf8.RuneCountInString(p.s[:min(at, len(p.s))]), msg})
}

func (p *parser) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\n\r", p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *parser) next() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *parser) word(w string) bool {
	if strings.HasPrefix(p.s[p.i:], w) {
		p.i += len(w)
		return true
	}
	return false
}

func (p *parser) value() value {
	switch c := p.next(); {
	case c == '"':
		p.i++
		return value{kind: text, text: p.string()}
	case c == '{':
		p.i++
		return p.object()
	case c == '[':
		p.i++
		return p.list()
	case p.word("null"):
		return value{}
	case p.word("true"):
		return value{kind: boolean, text: "true"}
	case p.word("false"):
		return value{kind: boolean, text: "false"}
	}
	return p.number()
}

func (p *parser) object() value {
	v := value{kind: object}
	p.space()
	if p.next() == '}' {
		p.i++
		return v
	}
	for {
		if p.next() != '"' {
			p.fail(p.i, "Expecting property name enclosed in double quotes")
		}
		p.i++
		name := p.string()
		p.space()
		if p.next() != ':' {
			p.fail(p.i, "Expecting ':' delimiter")
		}
		p.i++
		p.space()
		v.set(member{name, p.value()})
		p.space()
		switch p.next() {
		case '}':
			p.i++
			return v
		case ',':
			p.i++
			p.space()
		default:
			p.fail(p.i, "Expecting ',' delimiter")
		}
	}
}

func memberIndex(ms []member, name string) int {
	for i, m := range ms {
		if m.name == name {
			return i
		}
	}
	return -1
}

func (p *parser) list() value {
	v := value{kind: list}
	p.space()
	if p.next() == ']' {
		p.i++
		return v
	}
	for {
		v.items = append(v.items, p.value())
		p.space()
		switch p.next() {
		case ']':
			p.i++
			return v
		case ',':
			p.i++
			p.space()
		default:
			p.fail(p.i, "Expecting ',' delimiter")
		}
	}
}

func (p *parser) string() string {
	begin := p.i - 1
	var b strings.Builder
	for {
		if p.i >= len(p.s) {
			p.fail(begin, "Unterminated string starting at")
		}
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return b.String()
		case c < ' ':
			p.fail(p.i, "Invalid control character at")
		case c == '\\':
			p.i++
			p.escape(&b, begin)
		default:
			b.WriteByte(c)
			p.i++
		}
	}
}

func (p *parser) escape(b *strings.Builder, begin int) {
	if p.i >= len(p.s) {
		p.fail(begin, "Unterminated string starting at")
	}
	c := p.s[p.i]
	if k := strings.IndexByte(`"\/bfnrt`, c); k >= 0 {
		b.WriteByte("\"\\/\b\f\n\r\t"[k])
		p.i++
		return
	}
	if c != 'u' {
		p.fail(p.i-1, `Invalid \escape`)
	}
	r := p.hex(p.i + 1)
	p.i += 5
	if r >= 0xD800 && r < 0xDC00 && strings.HasPrefix(p.s[p.i:], `\u`) {
		if low := p.hex(p.i + 2); low >= 0xDC00 && low < 0xE000 {
			r = 0x10000 + (r-0xD800)<<10 + (low - 0xDC00)
			p.i += 6
		}
	}
	b.WriteRune(r)
}

func (p *parser) hex(at int) rune {
	if at+4 <= len(p.s) {
		if n, err := strconv.ParseUint(p.s[at:at+4], 16, 32); err == nil {
			return rune(n)
		}
	}
	p.fail(at-1, `Invalid \uXXXX escape`)
	return 0
}

func (p *parser) number() value {
	begin := p.i
	i := p.i
	digits := func() bool {
		from := i
		for i < len(p.s) && p.s[i] >= '0' && p.s[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(p.s) && p.s[i] == '-' {
		i++
	}
	if i < len(p.s) && p.s[i] == '0' {
		i++
	} else if !digits() {
		p.fail(begin, "Expecting value")
	}
	p.i = i
	k := integer
	if i < len(p.s) && p.s[i] == '.' {
		if i++; digits() {
			p.i, k = i, float
		}
		i = p.i
	}
	if i < len(p.s) && (p.s[i] == 'e' || p.s[i] == 'E') {
		if i++; i < len(p.s) && (p.s[i] == '-' || p.s[i] == '+') {
			i++
		}
		if digits() {
			p.i, k = i, float
		}
	}
	v := value{kind: k, text: p.s[begin:p.i]}
	if k == float {
		f, _ := strconv.ParseFloat(v.text, 64)
		v.text = pythonFloat(f)
	}
	return v
}

// pydanticFloat writes f as pydantic writes JSON: not like Python if it is small or
// large.
func pydanticFloat(f float64) string {
	if a := max(f, -f); a >= 1e-5 && a < 1e16 || f == 0 {
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	n, _ := strconv.Atoi(exponent)
	return mantissa + "e" + strconv.Itoa(n)
}

// pythonFloat writes f as Python does: with .0 if it is a whole number.
func pythonFloat(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if a := max(f, -f); a >= 1e-4 && a < 1e16 || f == 0 {
		s = strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
	}
	return s
}
