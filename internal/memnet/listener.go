package memnet

import (
	"net"
	"time"
)

// address is a net.Addr of the network; it may hold a host name.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// signal wakes whoever waits for a change of what a lock guards.
type signal struct{ ch chan struct{} }

// wait returns the channel that the next notify closes.
func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) notify() {
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// await waits for a change, or for a time unless that is zero.
func await(changed <-chan struct{}, until time.Time) {
	if until.IsZero() {
		<-changed
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	}
}

type listener struct {
	n       *Network
	h       *host
	addr    address
	backlog []*Conn
	closed  bool
	changed signal
}

func (l *listener) Addr() net.Addr { return l.addr }

// Accept waits for a connection. While the address stalls it accepts none.
func (l *listener) Accept() (net.Conn, error) {
	l.n.mu.Lock()
	for {
		if l.closed {
			l.n.mu.Unlock()
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
		}
		if len(l.backlog) > 0 && l.n.effective(l.h) != Stall {
			c := l.backlog[0]
			l.backlog = l.backlog[1:]
			l.n.mu.Unlock()
			return c, nil
		}
		changed := l.changed.wait()
		l.n.mu.Unlock()
		<-changed
		l.n.mu.Lock()
	}
}

// Close stops listening and resets the connections that nobody has accepted.
func (l *listener) Close() error {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.closed {
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	l.closed = true
	l.h.listener = nil
	for _, c := range l.backlog {
		c.abort()
	}
	l.backlog = nil
	l.changed.notify()
	return nil
}
