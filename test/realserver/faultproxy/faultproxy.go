//go:build linux

// Package faultproxy stands between an HTTP/1.1 client and a server on loopback
// and breaks the connection between them at a chosen moment, in a chosen way,
// for a chosen time. It counts what the client sends meanwhile, as seen from
// outside the client.
//
//	p, err := faultproxy.Listen(serverURL)
//	defer p.Close()
//	p.Arm(faultproxy.Outage{Kind: faultproxy.Reset, For: time.Second, Request: 3, Answered: true})
//	// ... point the client at p.URL() ...
//	most := faultproxy.MaxPerSecond(p.Sends(), p.Outages()[0])
//
// # What it is not
//
// It works on Linux only, and counts what no listener sees only for root. It
// reads each message whole before it passes it on, so it is of no use for
// long streams; after a 101 answer it copies bytes. "Expect: 100-continue" is
// not understood. A client that goes away while its request is with the server
// is not reported to the server.
package faultproxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Proxy is one listener on loopback in front of one server. Its methods may
// be called concurrently.
type Proxy struct {
	upstream string // host:port
	addr     *net.TCPAddr
	tap      *tap  // nil if packets cannot be seen
	tapErr   error // why

	// turning is held while an outage begins or ends: doors take time to open.
	turning   sync.Mutex
	listener  *net.TCPListener // protected by turning, as the next two
	accepting chan struct{}    // closed when the accept loop has ended
	filler    net.Conn         // fills the backlog of a black hole

	mu       sync.Mutex // protects the rest
	closed   bool
	done     chan struct{} // closed by Close
	conns    map[*conn]struct{}
	aside    map[net.Conn]struct{} // connections to the server with no client
	timers   []*time.Timer
	armed    []*outage
	inForce  *outage
	past     []*outage // all that ever began
	tricks   []*trick
	requests []*Request
	accepted []Send // what the listener saw, for want of a tap
	fault    error  // of the proxy itself

	running sync.WaitGroup
}

// Listen starts a proxy in front of the server at upstream, a URL or host:port.
func Listen(upstream string) (*Proxy, error) {
	if u, err := url.Parse(upstream); err == nil && u.Host != "" {
		upstream = u.Host
	}
	p := &Proxy{
		upstream: upstream,
		done:     make(chan struct{}),
		conns:    make(map[*conn]struct{}),
		aside:    make(map[net.Conn]struct{}),
	}
	var err error
	// Below the ephemeral range: a client that dials a closed port of that range
	// may be given the very port as its own, and is then connected to itself.
	for range 50 {
		p.addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 20000 + rand.IntN(12000)}
		if p.listener, err = net.ListenTCP("tcp4", p.addr); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	if p.tap, p.tapErr = openTap(p.addr.Port, p.attempted); p.tapErr != nil {
		p.tap = nil
	}
	p.startAccepting()
	return p, nil
}

// URL is where the client finds the proxy.
func (p *Proxy) URL() string { return "http://" + p.addr.String() }

// Close ends the outage in force and every connection. The error is the first
// thing that went wrong in the proxy itself, such as a port that somebody else
// took while it was closed.
func (p *Proxy) Close() error {
	p.turning.Lock()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.turning.Unlock()
		return nil
	}
	p.closed = true
	close(p.done)
	for _, t := range p.timers {
		t.Stop()
	}
	open := p.openConns()
	for nc := range p.aside {
		_ = nc.Close() // nobody reads it any more
	}
	o := p.inForce
	p.mu.Unlock()

	if o != nil {
		p.openDoors(o)
	}
	p.stopAccepting()
	if p.listener != nil {
		p.note(p.listener.Close())
	}
	p.turning.Unlock()
	for _, c := range open {
		c.close()
	}
	p.running.Wait()
	if p.tap != nil {
		p.tap.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

func (p *Proxy) openConns() []*conn {
	open := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		open = append(open, c)
	}
	return open
}

// note keeps the first fault of the proxy itself.
func (p *Proxy) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil && err != nil {
		p.fault = fmt.Errorf("faultproxy: %w", err)
	}
}

// startAccepting and stopAccepting are called with turning held.
func (p *Proxy) startAccepting() {
	ln, ended := p.listener, make(chan struct{})
	_ = ln.SetDeadline(time.Time{}) // fails only on a closed listener, whose Accept says so
	p.accepting = ended
	go func() {
		defer close(ended)
		for {
			nc, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			p.admit(nc, false)
		}
	}()
}

func (p *Proxy) stopAccepting() {
	if p.accepting == nil {
		return
	}
	_ = p.listener.SetDeadline(time.Unix(1, 0)) // wakes Accept
	<-p.accepting
	p.accepting = nil
}

// admit takes a connection in. One that a black hole swallowed is kept, dead.
func (p *Proxy) admit(nc *net.TCPConn, dead bool) {
	from := nc.RemoteAddr().(*net.TCPAddr)
	if from.IP.Equal(fillerIP()) {
		_ = nc.Close()
		return
	}
	p.attempted()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted = append(p.accepted, Send{At: time.Now(), Port: from.Port, Dial: true})
	if p.closed || p.inForce != nil && p.inForce.Kind == Reset {
		reset(nc)
		return
	}
	c := newConn(p, nc)
	c.dead = dead
	p.conns[c] = struct{}{}
	p.running.Go(c.serve)
}

// arrived records a request whose head was read, and begins the outage whose
// moment it is.
func (p *Proxy) arrived(c *conn, m *message, at time.Time) *Request {
	r := &Request{At: at, Port: c.port, Method: m.method, Path: m.path}
	p.mu.Lock()
	r.Number = len(p.requests) + 1
	p.requests = append(p.requests, r)
	if c.requests++; c.requests > 1 {
		p.accepted = append(p.accepted, Send{At: at, Port: c.port})
	}
	var due *outage
	for _, o := range p.armed {
		if o.counts(r) && !o.Answered && due == nil && p.inForce == nil {
			due = o
		}
	}
	p.mu.Unlock()
	if due != nil {
		p.begin(due)
	}
	return r
}

// answered begins the outage whose moment is the server's answer to r.
func (p *Proxy) answered(r *Request) {
	p.mu.Lock()
	r.Reached = true
	i := slices.IndexFunc(p.armed, func(o *outage) bool { return o.Answered && o.trigger == r })
	var due *outage
	if i >= 0 {
		due = p.armed[i]
	}
	p.mu.Unlock()
	if due != nil {
		p.begin(due)
	}
}

// told records what the client was told.
func (p *Proxy) told(r *Request, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Status = status
}

// match reports whether a request is meant: by method, and by path or the end
// of it, because the API is served under a prefix too.
func match(r *Request, method, path string) bool {
	bare, _, _ := strings.Cut(r.Path, "?")
	return (method == "" || method == r.Method) && strings.HasSuffix(bare, path)
}
