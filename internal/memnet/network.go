// Package memnet is a network in memory, for tests in virtual time
// (testing/synctest). Start with a zero Network: its Listen serves, its
// DialContext dials, and Set makes it fail in the ways that networks fail.
//
// It has no goroutines. Whatever waits in it waits on channels and timers, so
// a synctest bubble whose goroutines all wait here is durably blocked and its
// clock moves on. A Network belongs to the bubble in which it was first used.
package memnet

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// DefaultBuffer is how many bytes one direction of a connection holds before
// Write waits, in the order of what kernels give a socket.
const DefaultBuffer = 64 << 10

// Fault is a way in which an address fails.
type Fault int

const (
	// Healthy lifts every other fault.
	Healthy Fault = iota
	// Refuse refuses dials at once. Connections that exist go on.
	Refuse
	// Kill refuses dials and resets the connections that exist, as when the
	// process was killed.
	Kill
	// Reset resets the connections that exist. Dials succeed, and their
	// connections are reset at their first byte, which no server sees.
	Reset
	// BlackHole delivers nothing in either direction. When it is lifted, what was
	// held is delivered at once (real TCP: at its next retransmission), and a
	// dial that hung completes when its SYN is sent again: 1, 3, 7, 15, 31 or
	// 63 s after its start, as Linux does.
	BlackHole
	// Forget is a BlackHole that kills: connections that existed when it
	// began never deliver anything again, nor say so, and dials made during it
	// never complete. It is what a NAT that lost its state does.
	Forget
	// Stall is a server process that has stopped: its kernel goes on to accept
	// connections and bytes, and nobody reads them until it is lifted.
	Stall
)

// String is the fault's name.
func (f Fault) String() string {
	names := [...]string{"healthy", "refuse", "kill", "reset", "black hole", "forget", "stall"}
	if f < 0 || int(f) >= len(names) {
		return fmt.Sprintf("fault %d", int(f))
	}
	return names[f]
}

// Network is a set of addresses that can be listened on and dialled. The zero
// value is ready, fast and healthy. All methods may be called at any time from
// any goroutine; the fields are set before first use.
type Network struct {
	// Latency is the time a byte is under way, one way. A dial takes two.
	Latency time.Duration
	// Buffer is how many bytes a direction holds; 0 means DefaultBuffer.
	Buffer int
	// OnDial, if set, is called with both ends of each new connection before
	// anyone else has them, so that a test can cut or slow them.
	OnDial func(client, server *Conn)

	mu    sync.Mutex
	fault Fault
	hosts map[string]*host
	dials []Dial
	ports int
}

// host is what the network knows of one address. It outlives its listener.
type host struct {
	fault    Fault
	applied  Fault // the fault its connections have been told of
	listener *listener
	conns    map[*Conn]bool // the server ends
}

// Dial is one attempt to connect.
type Dial struct {
	Addr string
	At   time.Time
	// Ended is when the dial returned; zero while it hangs.
	Ended time.Time
	// Err is what the dial returned.
	Err error
}

// Dials returns every attempt to connect so far, in the order of their starts,
// those that were refused or still hang included.
func (n *Network) Dials() []Dial {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dials)
}

// Busiest returns the largest number of the times that lie within any span of
// length d, the end not included. It is how a test sees a storm.
func Busiest(times []time.Time, d time.Duration) int {
	ts := slices.SortedFunc(slices.Values(times), time.Time.Compare)
	most, first := 0, 0
	for i, t := range ts {
		for t.Sub(ts[first]) >= d {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// Set makes every address fail in this way, now and until the next Set.
func (n *Network) Set(f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = f
	for _, h := range n.hosts {
		n.apply(h)
	}
}

// SetAt makes one address fail in this way, whatever Set says; Healthy leaves
// it to Set.
func (n *Network) SetAt(addr string, f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(addr)
	h.fault = f
	n.apply(h)
}

// ResetConns resets the connections that exist at an address, or at all
// addresses if addr is empty.
func (n *Network) ResetConns(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for a, h := range n.hosts {
		if addr == "" || a == addr {
			h.reset()
		}
	}
}

func (h *host) reset() {
	for c := range h.conns {
		c.abort()
	}
}

func (n *Network) host(addr string) *host {
	h := n.hosts[addr]
	if h == nil {
		h = &host{conns: make(map[*Conn]bool)}
		if n.hosts == nil {
			n.hosts = make(map[string]*host)
		}
		n.hosts[addr] = h
		h.applied = n.effective(h)
	}
	return h
}

func (n *Network) effective(h *host) Fault {
	if h.fault != Healthy {
		return h.fault
	}
	return n.fault
}

// apply tells the connections and the listener of h which fault is on.
func (n *Network) apply(h *host) {
	f := n.effective(h)
	if f == h.applied {
		return
	}
	h.applied = f
	if f == Kill || f == Reset {
		h.reset()
	}
	for c := range h.conns {
		c.apply(f)
	}
	if h.listener != nil {
		h.listener.changed.notify()
	}
}

// Listen listens on addr, host:port. A port of 0 is replaced by a free one.
func (n *Network) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: address(addr), Err: err}
	}
	if port == "0" || port == "" {
		addr = net.JoinHostPort(name, n.port())
	}
	h := n.host(addr)
	if h.listener != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: address(addr), Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	h.listener = &listener{n: n, h: h, addr: address(addr)}
	return h.listener, nil
}

func (n *Network) port() string {
	n.ports++
	return fmt.Sprint(49151 + n.ports) // the first of IANA's ephemeral ports is 49152
}

// synRetries are the times after the start of a dial at which Linux sends a SYN
// again (tcp_syn_retries = 6), and the last is when it gives up.
func synRetries() []time.Duration {
	const s = time.Second
	return []time.Duration{1 * s, 3 * s, 7 * s, 15 * s, 31 * s, 63 * s, 127 * s}
}

// DialContext connects to addr. network is not looked at. Its errors are
// *net.OpError, with the errno that Linux gives inside.
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil { // no SYN is sent
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(addr), Err: err}
	}
	n.mu.Lock()
	start := time.Now()
	i := len(n.dials)
	n.dials = append(n.dials, Dial{Addr: addr, At: start})
	lost := n.effective(n.host(addr)) == Forget
	n.mu.Unlock()

	c, err := n.connect(ctx, addr, start, lost)

	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[i].Ended = time.Now()
	if err != nil {
		err = &net.OpError{Op: "dial", Net: "tcp", Addr: address(addr), Err: err}
		n.dials[i].Err = err
		return nil, err
	}
	return c, nil
}

func (n *Network) connect(ctx context.Context, addr string, start time.Time, lost bool) (*Conn, error) {
	for _, retry := range synRetries() {
		if err := sleep(ctx, n.Latency); err != nil {
			return nil, err
		}
		if !lost && !n.hole(addr) {
			if err := n.refused(addr); err != nil {
				_ = sleep(ctx, n.Latency)
				return nil, err
			}
			if err := sleep(ctx, n.Latency); err != nil {
				return nil, err
			}
			if !n.hole(addr) {
				return n.establish(addr)
			}
		}
		if err := sleep(ctx, time.Until(start.Add(retry))); err != nil {
			return nil, err
		}
	}
	return nil, os.NewSyscallError("connect", syscall.ETIMEDOUT)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (n *Network) hole(addr string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.effective(n.host(addr))
	return f == BlackHole || f == Forget
}

func (n *Network) refused(addr string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(addr)
	if f := n.effective(h); h.listener == nil || f == Refuse || f == Kill {
		return os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	return nil
}

func (n *Network) establish(addr string) (*Conn, error) {
	n.mu.Lock()
	h := n.host(addr)
	f := n.effective(h)
	if h.listener == nil || f == Refuse || f == Kill {
		n.mu.Unlock()
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	// 192.0.2.0/24 is set aside for examples (RFC 5737).
	client, server := n.pair(h, address("192.0.2.1:"+n.port()), address(addr))
	h.conns[server] = true
	server.apply(f)
	accept := h.listener
	hook := n.OnDial
	n.mu.Unlock()
	if hook != nil {
		hook(client, server)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.effective(h) == Reset:
		client.out.cut = &cut{end: syscall.ECONNRESET}
		server.closed = true // nobody will
	case accept.closed:
		server.abort()
	default:
		accept.backlog = append(accept.backlog, server)
		accept.changed.notify()
	}
	return client, nil
}
