package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// Values as Python reads them from JSON, and as it writes them: blueapi's
// client prints results by str and lists by json.dumps, and so must we. An
// object keeps the order of its keys, an integer all of its digits.
type (
	pyDict []pyItem
	pyInt  string
	pyItem struct {
		key   string
		value any // nil, bool, string, pyInt, float64, []any or pyDict
	}
)

func (d pyDict) get(key string) any {
	for _, item := range d {
		if item.key == key {
			return item.value
		}
	}
	return nil
}

// parsePython is json.loads. Nothing at all is read as null.
func parsePython(raw json.RawMessage) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return readPython(dec)
}

func readPython(dec *json.Decoder) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Number:
		return pyNumber(string(t)), nil
	case json.Delim:
		if t == '[' {
			list := []any{}
			for dec.More() {
				v, err := readPython(dec)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			_, err = dec.Token()
			return list, err
		}
		dict := pyDict{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := readPython(dec)
			if err != nil {
				return nil, err
			}
			dict = append(dict, pyItem{key.(string), v})
		}
		_, err = dec.Token()
		return dict, err
	}
	return token, nil
}

func pyNumber(s string) any {
	if !strings.ContainsAny(s, ".eE") {
		if s == "-0" {
			s = "0"
		}
		return pyInt(s)
	}
	f, _ := strconv.ParseFloat(s, 64) // out of range is infinite, as in Python
	return f
}

// dumps is json.dumps, on one line if indent is 0.
func dumps(v any, indent int) string {
	var b strings.Builder
	w := jsonWriter{&b, indent}
	w.write(v, 1)
	return b.String()
}

type jsonWriter struct {
	*strings.Builder
	indent int
}

func (w jsonWriter) write(v any, depth int) {
	switch v := v.(type) {
	case nil:
		w.WriteString("null")
	case bool:
		w.WriteString(strconv.FormatBool(v))
	case string:
		w.text(v)
	case pyInt:
		w.WriteString(string(v))
	case float64:
		switch {
		case math.IsInf(v, 1):
			w.WriteString("Infinity")
		case math.IsInf(v, -1):
			w.WriteString("-Infinity")
		default:
			w.WriteString(pyFloat(v))
		}
	case []any:
		w.items('[', ']', len(v), depth, func(i int) { w.write(v[i], depth+1) })
	case pyDict:
		w.items('{', '}', len(v), depth, func(i int) {
			w.text(v[i].key)
			w.WriteString(": ")
			w.write(v[i].value, depth+1)
		})
	}
}

func (w jsonWriter) items(open, end byte, n, depth int, item func(int)) {
	newline := func(depth int) {
		if w.indent > 0 && n > 0 {
			w.WriteString("\n" + strings.Repeat(" ", w.indent*depth))
		}
	}
	w.WriteByte(open)
	for i := range n {
		if i > 0 {
			w.WriteByte(',')
			if w.indent == 0 {
				w.WriteByte(' ')
			}
		}
		newline(depth)
		item(i)
	}
	newline(depth - 1)
	w.WriteByte(end)
}

// text writes a string in ASCII, as ensure_ascii does.
func (w jsonWriter) text(s string) {
	w.WriteByte('"')
	for _, r := range s {
		if short := strings.IndexRune("\"\\\n\r\t\f\b", r); short >= 0 {
			w.WriteByte('\\')
			w.WriteByte(`"\nrtfb`[short])
		} else if r >= ' ' && r <= '~' {
			w.WriteRune(r)
		} else if r > 0xffff {
			r -= 0x10000
			fmt.Fprintf(w, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		} else {
			fmt.Fprintf(w, `\u%04x`, r)
		}
	}
	w.WriteByte('"')
}

// pyStr is str(v).
func pyStr(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return pyRepr(v)
}

// pyRepr is repr(v).
func pyRepr(v any) string {
	var b strings.Builder
	writeRepr(&b, v)
	return b.String()
}

func writeRepr(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case string:
		b.WriteString(pyQuote(v))
	case pyInt:
		b.WriteString(string(v))
	case float64:
		b.WriteString(pyFloat(v))
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, item)
		}
		b.WriteByte(']')
	case pyDict:
		b.WriteByte('{')
		for i, item := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(pyQuote(item.key) + ": ")
			writeRepr(b, item.value)
		}
		b.WriteByte('}')
	}
}

// pyFloat is repr of a float: the shortest digits that read back the same.
func pyFloat(f float64) string {
	if math.IsInf(f, 0) {
		return strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(f, 'g', -1, 64), "+"))
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	_, exponent, _ := strings.Cut(s, "e")
	if e, _ := strconv.Atoi(exponent); e < -4 || e >= 16 {
		return s
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// pyQuote is repr of a string: in double quotes if that spares escaping.
func pyQuote(s string) string {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		case r > 0xff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\x%02x`, r)
		}
	}
	b.WriteRune(quote)
	return b.String()
}
