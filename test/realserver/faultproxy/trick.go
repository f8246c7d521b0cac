//go:build linux

package faultproxy

import (
	"bufio"
	"bytes"
	"slices"
	"time"
)

// trick is done to the next request that its method and path select, once.
type trick struct {
	method, path string
	before       func(raw []byte) // it goes to the server
	keep         bool             // it does not go to the server now; the client is reset
	lose         bool             // its answer does not come back; the client is reset
	hide         bool             // an ingress answers 502 instead
}

func (p *Proxy) play(t *trick) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tricks = append(p.tricks, t)
}

func (p *Proxy) takeTrick(r *Request) *trick {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.tricks, func(t *trick) bool { return match(r, t.method, t.path) })
	if i < 0 {
		return nil
	}
	t := p.tricks[i]
	p.tricks = slices.Delete(p.tricks, i, i+1)
	return t
}

// Before calls f when the next such request has been read and before the server
// sees it.
func (p *Proxy) Before(method, path string, f func()) {
	p.play(&trick{method: method, path: path, before: func([]byte) { f() }})
}

// Duplicate sends the next such request to the server twice at the same time,
// as an ingress may that is told to try the next upstream. The client gets one
// answer, the channel the status of the other (0 if there was none).
func (p *Proxy) Duplicate(method, path string) <-chan int {
	answered := make(chan int, 1)
	p.play(&trick{method: method, path: path, before: func(raw []byte) {
		p.running.Go(func() { answered <- p.sendAside(raw) })
	}})
	return answered
}

// Repeat sends the next such request to the server, and when that has answered once
// more, as an ingress does that lost the first answer. The client gets the second.
func (p *Proxy) Repeat(method, path string) {
	p.play(&trick{method: method, path: path, before: func(raw []byte) { p.sendAside(raw) }})
}

// LoseAnswer lets the server process the next such request, then resets the
// client's connection.
func (p *Proxy) LoseAnswer(method, path string) {
	p.play(&trick{method: method, path: path, lose: true})
}

// BeforeLosing is Before and LoseAnswer for the same request.
func (p *Proxy) BeforeLosing(method, path string, f func()) {
	p.play(&trick{method: method, path: path, before: func([]byte) { f() }, lose: true})
}

// HideAnswer lets the server process the next such request, and tells the client
// 502, as an ingress does that lost patience or its connection.
func (p *Proxy) HideAnswer(method, path string) {
	p.play(&trick{method: method, path: path, hide: true})
}

// LoseRequest resets the client's connection at the next such request, which the
// server never sees.
func (p *Proxy) LoseRequest(method, path string) {
	p.play(&trick{method: method, path: path, keep: true})
}

// DeliverLate resets the client's connection at the next such request, which
// all the same reaches the server, that much later. The channel gets the status
// of the server's answer (0 if there was none).
func (p *Proxy) DeliverLate(method, path string, after time.Duration) <-chan int {
	answered := make(chan int, 1)
	p.play(&trick{method: method, path: path, keep: true, before: func(raw []byte) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.timers = append(p.timers, time.AfterFunc(after, func() { answered <- p.sendAside(raw) }))
	}})
	return answered
}

// sendAside sends a request on a connection of its own and returns the status
// of the answer.
func (p *Proxy) sendAside(raw []byte) int {
	nc, err := p.dial()
	if err != nil {
		return 0
	}
	defer p.hangUp(nc)
	if _, err := nc.Write(raw); err != nil {
		return 0
	}
	method, _, _ := bytes.Cut(raw, []byte(" "))
	m, err := readAnswer(bufio.NewReader(nc), string(method))
	if err != nil {
		return 0
	}
	return m.status
}
