package stomp

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Error is an ERROR frame: the broker refuses something, and ends the connection.
type Error struct {
	// Command is that of the frame which the broker refused, if that is known:
	// CONNECT (bad credentials, an unknown virtual host), SUBSCRIBE (a bad
	// destination), SEND and so on. RabbitMQ does not say what an ERROR is about;
	// it is then the only command that waits for an answer.
	Command string
	// Message is the header of that name, a few words.
	Message string
	// Detail is the body, in one line and cut to 1 KiB.
	Detail string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("stomp: the broker ")
	if e.Command == "" {
		b.WriteString("ended the connection")
	} else {
		b.WriteString("refused " + e.Command)
	}
	for _, s := range []string{e.Message, e.Detail} {
		if s != "" {
			b.WriteString(": " + s)
		}
	}
	return b.String()
}

func errorOf(f *Frame, command string) *Error {
	const most = 1 << 10
	return &Error{Command: command, Message: oneLine(f.Get("message")), Detail: oneLine(string(f.Body[:min(len(f.Body), most)]))}
}

// StreamError says that a broker has no stream for us. A [Session] then goes on with
// the plain destination, and says so once, in a [Gap].
type StreamError struct {
	Stream string // its name
	Err    error  // why: an *[Error], if the broker said so
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("stomp: the stream %q cannot be used: %v", e.Stream, e.Err)
}

func (e *StreamError) Unwrap() error { return e.Err }

// oneLine makes of what a broker says something that a log or a terminal can
// take: no line ends, no control characters.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
}

// What ends a connection, or a wait, besides errors of the network.
var (
	// ErrClosed is what remains after Close or Disconnect.
	ErrClosed = errors.New("stomp: closed")
	// ErrSilent says that the broker was not heard for two heart-beats.
	ErrSilent = errors.New("stomp: the broker has been silent for two heart-beats")
	// ErrNoReceipt says that a RECEIPT did not come in time. Whether the broker did
	// what was asked is not known.
	ErrNoReceipt = errors.New("stomp: the broker sent no receipt in time")
	// ErrStreamLost says that a stream does not have the message that was read last: it
	// is another one by the same name, or was cut short when the power failed.
	ErrStreamLost = errors.New("stomp: the stream does not have the message that was read last")
)

// Why a broker has no streams.
var (
	errNotRabbitMQ = errors.New("the broker is not RabbitMQ")
	errNoOffset    = errors.New("its messages have no offset")
)
