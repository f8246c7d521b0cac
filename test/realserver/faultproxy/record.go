//go:build linux

package faultproxy

import (
	"slices"
	"time"
)

// Request is one that the proxy read.
type Request struct {
	Number       int // in the order in which they came, from 1
	At           time.Time
	Port         int // the client's
	Method, Path string
	Reached      bool // the server answered it
	Status       int  // that the client was told; 0 if it was told nothing
}

// Requests lists what the proxy read, in order.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Request, len(p.requests))
	for i, r := range p.requests {
		list[i] = *r
	}
	return list
}

// Send is one thing that a client sent of its own will: a connection attempt,
// together with the first request on it, or a further request on the same
// connection. What the kernel repeats is not counted again.
type Send struct {
	At   time.Time
	Port int  // the client's
	Dial bool // a connection attempt
}

// Counted returns nil if Sends sees the packets on loopback, or why not: then
// connection attempts to a closed port or into a black hole are not in it.
func (p *Proxy) Counted() error { return p.tapErr }

// Sends lists what the client sent, in order.
func (p *Proxy) Sends() []Send {
	if p.tap != nil {
		return p.tap.sends()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.accepted)
}

// MaxPerSecond is the largest number of sends in any second (half open) within
// the span. A send at the very instant when it began brought it about and is
// not part of it.
func MaxPerSecond(sends []Send, within Span) int {
	var at []time.Time
	for _, s := range sends {
		if s.At.After(within.Begin) && (within.End.IsZero() || s.At.Before(within.End)) {
			at = append(at, s.At)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	most, first := 0, 0
	for i, t := range at {
		for t.Sub(at[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
