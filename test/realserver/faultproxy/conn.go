//go:build linux

package faultproxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a client's connection and its own connection to the server, made at
// its first request.
type conn struct {
	p    *Proxy
	nc   *net.TCPConn
	br   *bufio.Reader
	port int

	upBR  *bufio.Reader
	ready chan error  // the server has something to say, or has closed
	busy  atomic.Bool // a request is with the server

	once sync.Once

	// Protected by p.mu.
	up       net.Conn
	dead     bool // swallowed by a black hole
	requests int
}

func newConn(p *Proxy, nc *net.TCPConn) *conn {
	return &conn{p: p, nc: nc, br: bufio.NewReader(nc), port: nc.RemoteAddr().(*net.TCPAddr).Port}
}

func (c *conn) serve() {
	defer c.close()
	for {
		if _, err := c.br.Peek(1); err != nil {
			return
		}
		at := time.Now()
		m, err := readRequest(c.br)
		if err != nil || !c.exchange(m, at) {
			return
		}
	}
}

// exchange sees one request through, and reports whether the connection can
// have another.
func (c *conn) exchange(m *message, at time.Time) bool {
	r := c.p.arrived(c, m, at)
	trick := c.p.takeTrick(r)
	if trick != nil && trick.before != nil {
		trick.before(m.raw)
	}
	if trick != nil && trick.keep {
		c.reset()
		return false
	}
	switch ok, k := c.pass(); {
	case !ok:
		return false
	case k != 0:
		return c.tell(r, page(k))
	}
	answer, err := c.roundTrip(m)
	if err != nil {
		return false
	}
	c.p.answered(r)
	if trick != nil && trick.lose {
		c.reset()
		return false
	}
	if trick != nil && trick.hide {
		answer = page(BadGateway)
	}
	switch ok, k := c.pass(); {
	case !ok:
		return false
	case k != 0:
		answer = page(k)
	}
	if !c.tell(r, answer) {
		return false
	}
	if answer.status == 101 {
		c.tunnel()
		return false
	}
	c.busy.Store(false)
	c.p.running.Go(c.listenUpstream)
	return true
}

// pass waits until the connection may go on. It returns false if it is lost,
// and a kind if an ingress answers instead.
func (c *conn) pass() (bool, Kind) {
	for {
		c.p.mu.Lock()
		o, dead, closed := c.p.inForce, c.dead, c.p.closed
		c.p.mu.Unlock()
		switch {
		case closed:
			return false, 0
		case dead:
			<-c.p.done
			return false, 0
		case o == nil:
			return true, 0
		}
		switch o.Kind {
		case Refused, Reset:
			c.reset()
			return false, 0
		case BadGateway, Unavailable:
			return true, o.Kind
		}
		select {
		case <-o.over:
		case <-c.p.done:
			return false, 0
		}
	}
}

func (c *conn) tell(r *Request, m *message) bool {
	c.p.told(r, m.status) // before the client can look
	_, err := c.nc.Write(m.raw)
	if err != nil {
		c.p.told(r, 0)
	}
	return err == nil
}

// roundTrip asks the server. On an error the client's connection is of no use.
func (c *conn) roundTrip(m *message) (*message, error) {
	c.busy.Store(true)
	if c.upBR == nil {
		up, err := c.p.dial()
		if err != nil {
			c.reset()
			return nil, err
		}
		c.p.mu.Lock()
		c.up = up
		c.p.mu.Unlock()
		c.upBR, c.ready = bufio.NewReader(up), make(chan error, 1)
		c.p.running.Go(c.listenUpstream)
	}
	if _, err := c.up.Write(m.raw); err != nil {
		return nil, err
	}
	if err := <-c.ready; err != nil {
		return nil, err
	}
	for {
		answer, err := readAnswer(c.upBR, m.method)
		if err != nil || answer.status >= 200 || answer.status == 101 {
			return answer, err
		}
	}
}

// listenUpstream passes an idle server's goodbye on to the client.
func (c *conn) listenUpstream() {
	_, err := c.upBR.Peek(1)
	c.ready <- err
	if err == nil || c.busy.Load() {
		return
	}
	if ok, _ := c.pass(); ok {
		c.close()
	}
}

func (c *conn) tunnel() {
	both := make(chan struct{}, 2)
	pump := func(to io.Writer, from io.Reader) {
		defer func() { both <- struct{}{} }()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if ok, _ := c.pass(); !ok {
				return
			}
			if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	go pump(c.up, c.br)
	go pump(c.nc, c.upBR)
	<-both
	c.close()
	<-both
}

func (c *conn) close() { c.finish(func(nc *net.TCPConn) { _ = nc.Close() }) }
func (c *conn) reset() { c.finish(reset) }

func (c *conn) finish(end func(*net.TCPConn)) {
	c.once.Do(func() {
		end(c.nc)
		c.p.mu.Lock()
		delete(c.p.conns, c)
		up := c.up
		c.p.mu.Unlock()
		if up != nil {
			c.p.hangUp(up)
		}
	})
}

// reset closes a connection with RST.
func reset(nc *net.TCPConn) {
	_ = nc.SetLinger(0) // fails on a connection that is closed, as does Close
	_ = nc.Close()
}

// dial connects to the server; Close ends such connections.
func (p *Proxy) dial() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", p.upstream)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = nc.Close() // never used
		return nil, net.ErrClosed
	}
	p.aside[nc] = struct{}{}
	return nc, nil
}

func (p *Proxy) hangUp(nc net.Conn) {
	p.mu.Lock()
	delete(p.aside, nc)
	p.mu.Unlock()
	_ = nc.Close() // the other side's business
}
