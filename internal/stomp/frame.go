package stomp

import (
	"errors"
	"fmt"
)

// Version is a version of the protocol, as the headers version and
// accept-version name it.
type Version string

// The versions there are. They differ in how headers are escaped: 1.0 does not,
// 1.1 escapes line feed, colon and backslash, 1.2 carriage return too, and lets
// lines end in CR LF.
const (
	V10 Version = "1.0"
	V11 Version = "1.1"
	V12 Version = "1.2"
)

// A Header is one entry of a frame's head.
type Header struct{ Name, Value string }

// A Frame is what STOMP connections carry. Its headers have an order, and a name
// may come more than once: the first entry counts (STOMP 1.2, "Repeated Header
// Entries").
type Frame struct {
	Command string
	Headers []Header
	Body    []byte
}

// Get returns the value of a header, "" if there is none.
func (f *Frame) Get(name string) string {
	v, _ := f.Lookup(name)
	return v
}

// Lookup returns the value of a header, and whether there is one.
func (f *Frame) Lookup(name string) (string, bool) {
	for _, h := range f.Headers {
		if h.Name == name {
			return h.Value, true
		}
	}
	return "", false
}

// size is about what the frame occupies in memory: two strings a header, and
// what Go and a queue need around it.
func (f *Frame) size() int {
	n := 160 + len(f.Body)
	for _, h := range f.Headers {
		n += 32 + len(h.Name) + len(h.Value)
	}
	return n
}

// commands are all that the three versions define. Others are refused, which
// tells at the first line that a peer does not speak STOMP.
func command(line []byte) (string, bool) {
	switch string(line) { // no allocation: the constants are returned
	case "MESSAGE":
		return "MESSAGE", true
	case "SEND":
		return "SEND", true
	case "RECEIPT":
		return "RECEIPT", true
	case "ERROR":
		return "ERROR", true
	case "CONNECT":
		return "CONNECT", true
	case "STOMP":
		return "STOMP", true
	case "CONNECTED":
		return "CONNECTED", true
	case "SUBSCRIBE":
		return "SUBSCRIBE", true
	case "UNSUBSCRIBE":
		return "UNSUBSCRIBE", true
	case "DISCONNECT":
		return "DISCONNECT", true
	case "ACK":
		return "ACK", true
	case "NACK":
		return "NACK", true
	case "BEGIN":
		return "BEGIN", true
	case "COMMIT":
		return "COMMIT", true
	case "ABORT":
		return "ABORT", true
	}
	return "", false
}

// escaping is what a frame's headers are subject to.
type escaping struct {
	on       bool // backslash, line feed and colon are escaped
	cr       bool // carriage return too
	trailing bool // a carriage return before the line feed belongs to the line's end
}

// escapingOf follows the specifications: CONNECT and CONNECTED are not escaped,
// for they come before a version is agreed on, and STOMP is CONNECT by another
// name.
func escapingOf(command string, v Version) escaping {
	switch {
	case command == "CONNECT" || command == "STOMP" || command == "CONNECTED" || v == V10:
		return escaping{trailing: true}
	case v == V11:
		return escaping{on: true}
	}
	return escaping{on: true, cr: true, trailing: true}
}

// ProtocolError says how bytes that came, or a frame that was to be sent, break
// the protocol. It names headers and never quotes their values.
type ProtocolError struct {
	Problem string
	// Unsent says that it is about a frame that was to be sent, of which nothing
	// has been.
	Unsent bool
}

func (e *ProtocolError) Error() string { return "stomp: " + e.Problem }

func malformed(format string, args ...any) error {
	return &ProtocolError{Problem: fmt.Sprintf(format, args...)}
}

func unsent(err error) bool {
	pe, ok := errors.AsType[*ProtocolError](err)
	return ok && pe.Unsent
}

// LimitError says that a frame is larger than the decoder's Limits.
type LimitError struct {
	What  string // "headers", "line" or "body"
	Limit int    // entries or bytes
}

func (e *LimitError) Error() string {
	if e.What == "headers" {
		return fmt.Sprintf("stomp: a frame has more than %d headers", e.Limit)
	}
	return fmt.Sprintf("stomp: a frame has a %s of more than %d bytes", e.What, e.Limit)
}

// printable shortens what a peer sent for use in errors.
func printable(b []byte) string {
	const most = 40
	if len(b) > most {
		return fmt.Sprintf("%q...", b[:most])
	}
	return fmt.Sprintf("%q", b)
}
