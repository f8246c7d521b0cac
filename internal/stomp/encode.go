package stomp

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Append appends the frame as version v encodes it, its NUL included and no line
// feed after it. An empty version means 1.2.
//
// Headers go out as they are, in their order. content-length is added only to a
// body that holds a NUL byte: ActiveMQ takes messages with that header for
// binary ones. What cannot be encoded is a *[ProtocolError].
func (f *Frame) Append(dst []byte, v Version) ([]byte, error) {
	if _, known := command([]byte(f.Command)); !known {
		return dst, unsendable("unknown command %s", printable([]byte(f.Command)))
	}
	esc := escapingOf(f.Command, v)
	start := len(dst)
	dst = append(dst, f.Command...)
	dst = append(dst, '\n')
	for _, h := range f.Headers {
		if problem := esc.check(h); problem != "" {
			return dst[:start], unsendable("header %s of %s %s", printable([]byte(h.Name)), f.Command, problem)
		}
		dst = esc.append(dst, h.Name)
		dst = append(dst, ':')
		dst = esc.append(dst, h.Value)
		dst = append(dst, '\n')
	}
	if length, given := f.Lookup("content-length"); given {
		if n, err := contentLength(length); err != nil || n != len(f.Body) {
			return dst[:start], unsendable("content-length of %s is not that of its body", f.Command)
		}
	} else if bytes.IndexByte(f.Body, 0) >= 0 {
		dst = append(dst, "content-length:"...)
		dst = strconv.AppendInt(dst, int64(len(f.Body)), 10)
		dst = append(dst, '\n')
	}
	dst = append(dst, '\n')
	dst = append(dst, f.Body...)
	return append(dst, 0), nil
}

func unsendable(format string, args ...any) error {
	return &ProtocolError{Problem: fmt.Sprintf(format, args...), Unsent: true}
}

func (e escaping) check(h Header) (problem string) {
	switch {
	case h.Name == "":
		return "has no name"
	case strings.IndexByte(h.Name, 0) >= 0 || strings.IndexByte(h.Value, 0) >= 0:
		return "holds a NUL byte"
	case e.on:
		return ""
	case strings.Contains(h.Name, ":"):
		return "has a colon in its name, which cannot be escaped there"
	case strings.ContainsAny(h.Name, "\r\n") || strings.ContainsAny(h.Value, "\r\n"):
		return "holds an end of line, which cannot be escaped there"
	}
	return ""
}

func (e escaping) append(dst []byte, s string) []byte {
	if !e.on || !strings.ContainsAny(s, "\\\n:\r") {
		return append(dst, s...)
	}
	dst = slices.Grow(dst, len(s)+8)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			dst = append(dst, `\\`...)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == ':':
			dst = append(dst, `\c`...)
		case c == '\r' && e.cr:
			dst = append(dst, `\r`...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// contentLength takes decimal digits and nothing else.
func contentLength(s string) (int, error) {
	if s == "" || len(s) > 15 || strings.Trim(s, "0123456789") != "" {
		return 0, malformed("content-length is not a number")
	}
	return strconv.Atoi(s)
}
