package stomp

import (
	"sync/atomic"
	"time"
)

// A Passage is a frame at the broker's end of a connection: it has come from the
// client, or is about to be sent.
type Passage struct {
	// Conn is the number of the connection, counted from 1.
	Conn int
	// Sent says that the broker sends it; else the client has sent it.
	Sent bool
	// Frame is the frame; nil is a heart-beat that the broker sends. Faults must
	// not change it.
	Frame *Frame

	conn *brokerConn
}

// A Fault stands before the broker. It is called with each frame; next lets a
// frame pass, and may be called never, once or more often. While a fault takes
// its time, the frames behind stand still, in this direction of this connection.
// Faults are called concurrently for different connections and directions.
type Fault func(p *Passage, next func(*Frame))

// A Match selects frames.
type Match func(*Passage) bool

// Sends matches the frames of a command that the broker sends.
func Sends(command string) Match {
	return func(p *Passage) bool { return p.Sent && p.Frame != nil && p.Frame.Command == command }
}

// Receives matches the frames of a command that clients send.
func Receives(command string) Match {
	return func(p *Passage) bool { return !p.Sent && p.Frame.Command == command }
}

// Beats matches the heart-beats that the broker sends.
func Beats(p *Passage) bool { return p.Sent && p.Frame == nil }

// When applies a fault to the frames that match.
func When(m Match, f Fault) Fault {
	return func(p *Passage, next func(*Frame)) {
		if m(p) {
			f(p, next)
			return
		}
		next(p.Frame)
	}
}

// Nth applies a fault to the k-th frame that gets to it, counted from 1.
func Nth(k int, f Fault) Fault {
	var n atomic.Int64
	return When(func(*Passage) bool { return n.Add(1) == int64(k) }, f)
}

// First applies a fault to the first k frames that get to it.
func First(k int, f Fault) Fault {
	var n atomic.Int64
	return When(func(*Passage) bool { return n.Add(1) <= int64(k) }, f)
}

// Drop loses the frame.
func Drop(*Passage, func(*Frame)) {}

// Twice lets the frame pass twice.
func Twice(p *Passage, next func(*Frame)) {
	next(p.Frame)
	next(p.Frame)
}

// Delay holds the frame, and those behind it, for d.
func Delay(d time.Duration) Fault {
	return func(p *Passage, next func(*Frame)) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			next(p.Frame)
		case <-p.conn.ended:
		}
	}
}

// Instead lets another frame pass in its place.
func Instead(f *Frame) Fault {
	return func(_ *Passage, next func(*Frame)) { next(f) }
}

// Cut closes the connection when n bytes of the frame have been sent; at once, if
// it comes from the client.
func Cut(n int) Fault {
	return func(p *Passage, _ func(*Frame)) {
		defer p.conn.end()
		if !p.Sent || p.Frame == nil {
			return
		}
		b, err := p.conn.encode(p.Frame)
		if err == nil {
			_, _ = p.conn.nc.Write(b[:min(n, len(b))]) // the connection ends in any case
		}
	}
}

// Refuse answers a client's frame with an ERROR, which ends the connection.
func Refuse(message, detail string) Fault {
	return func(p *Passage, _ func(*Frame)) { p.conn.refuse(message, detail) }
}
