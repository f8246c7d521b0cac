package stomp

import (
	"context"
	"sync"
)

// acks tells the broker, on one connection, how far the consumer is, so that the
// broker sends on. Each ACK stands for all messages before it. The zero value needs a
// channel of one place.
type acks struct {
	ready chan struct{}

	mu      sync.Mutex
	last    string // of the last message that came
	waiting int    // messages that wait for the consumer
	due     string // up to here there is none that waits; "" if the broker knows
	count   int    // messages that the broker was not told of, at least
}

// came says that a message waits for the consumer.
func (a *acks) came(f *Frame) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = f.Get("ack")
	a.waiting++
}

// taken says that the consumer has the first of those that waited.
func (a *acks) taken(f *Frame) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting--
	a.due = f.Get("ack")
	a.done()
}

// passed says that a message came that is not for the consumer.
func (a *acks) passed(f *Frame) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = f.Get("ack")
	a.done()
}

func (a *acks) done() {
	if a.waiting == 0 {
		a.due = a.last
	}
	a.count++
	if a.enough() {
		select {
		case a.ready <- struct{}{}:
		default:
		}
	}
}

// enough reports whether an ACK is worth sending.
func (a *acks) enough() bool { return a.count >= window/4 && a.due != "" }

// run sends ACKs until the connection ends.
func (a *acks) run(conn *Conn) {
	for {
		select {
		case <-a.ready:
		case <-conn.done:
			return
		}
		a.mu.Lock()
		id, enough := a.due, a.enough()
		if enough {
			a.due, a.count = "", 0
		}
		a.mu.Unlock()
		if !enough { // most went with the ACK before
			continue
		}
		// If it fails the connection ends.
		_ = conn.write(context.Background(), &Frame{Command: "ACK", Headers: []Header{{"id", id}}})
	}
}
