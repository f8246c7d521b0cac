//go:build linux

package faultproxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// fillerIP is where the connections that fill a backlog come from, so that they
// are never taken for the client's.
func fillerIP() net.IP { return net.IPv4(127, 0, 0, 2) }

// fillBacklog leaves the listener's queue full: the kernel then drops SYNs. It
// is called with the accept loop stopped.
func (p *Proxy) fillBacklog() error {
	if err := setBacklog(p.listener, 0); err != nil {
		return err
	}
	d := net.Dialer{Timeout: 200 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: fillerIP()}}
	nc, err := d.Dial("tcp4", p.addr.String())
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // a client's connection fills it already
	}
	p.filler = nc
	return err
}

// emptyBacklog lets new connections in again. Those that got into the queue
// before it was full belong to the outage.
func (p *Proxy) emptyBacklog(dead bool) error {
	for {
		if err := p.listener.SetDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			return err
		}
		nc, err := p.listener.AcceptTCP()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			return err
		}
		p.admit(nc, dead)
	}
	if p.filler != nil {
		_ = p.filler.Close() // its other end is closed already
		p.filler = nil
	}
	return setBacklog(p.listener, 128)
}

// setBacklog changes the length of a queue in use, which Linux allows.
func setBacklog(ln *net.TCPListener, n int) error {
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), n) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("backlog of %d: %w", n, failed)
	}
	return nil
}
