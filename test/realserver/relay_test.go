//go:build linux && realserver

package realserver

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// relay stands between a broker and those who are connected to it. Its methods may be
// called concurrently.
type relay struct {
	address  string // where it listens
	upstream string

	mu       sync.Mutex
	listener net.Listener // nil while it is down
	conns    map[net.Conn]struct{}
	silent   bool
	pass     func(frame []byte) bool // of what the broker sends; nil lets all pass
	running  sync.WaitGroup
}

// relayTo starts a relay, which ends with the test.
func relayTo(t *testing.T, stomp string) *relay {
	t.Helper()
	r := &relay{upstream: hostport(stomp), conns: make(map[net.Conn]struct{})}
	for r.listener == nil { // below the ephemeral range: nobody takes it while it is down
		r.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		r.listener, _ = net.Listen("tcp", r.address)
	}
	l := r.listener
	r.running.Go(func() { r.serve(l) })
	t.Cleanup(func() { r.down(); r.running.Wait() })
	return r
}

// hostport is what a broker's URL names.
func hostport(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	return strings.TrimSuffix(rest, "/")
}

// down closes all connections, and refuses new ones.
func (r *relay) down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		r.listener.Close()
		r.listener = nil
	}
	for c := range r.conns {
		c.Close()
	}
}

// up ends down.
func (r *relay) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		t.Error(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener = l
	r.running.Go(func() { r.serve(l) })
}

// cut closes all connections; who comes again is let in.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
}

// mute has connections made from now on accepted, and never answered.
func (r *relay) mute() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = true
}

// filter has pass decide which of the frames pass that the broker sends. It is called
// for one frame at a time of each connection.
func (r *relay) filter(pass func(frame []byte) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pass = pass
}

func (r *relay) serve(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() { r.join(client, l) })
	}
}

// join carries a connection that came by a listener to its end.
func (r *relay) join(client net.Conn, l net.Listener) {
	defer client.Close()
	r.mu.Lock()
	silent, pass := r.silent, r.pass
	r.mu.Unlock()
	if !r.hold(client, l) {
		return
	}
	defer r.drop(client)
	if silent {
		_, _ = io.Copy(io.Discard, client)
		return
	}
	broker, err := net.Dial("tcp", r.upstream)
	if err != nil || !r.hold(broker, l) {
		return
	}
	defer r.drop(broker)
	r.running.Go(func() {
		defer broker.Close()
		_, _ = io.Copy(broker, client)
	})
	frames(client, bufio.NewReader(broker), pass)
}

// hold notes a connection, so that down closes it, unless the relay went down already.
func (r *relay) hold(c net.Conn, l net.Listener) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener == l {
		r.conns[c] = struct{}{}
		return true
	}
	c.Close()
	return false
}

func (r *relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	c.Close()
}

// frames copies frames and heart-beats until either end is closed. The bodies here are
// JSON, which has no NUL.
func frames(to io.Writer, from *bufio.Reader, pass func([]byte) bool) {
	for {
		first, err := from.ReadByte()
		if err != nil {
			return
		}
		frame := []byte{first}
		if first != '\n' {
			rest, err := from.ReadBytes(0)
			if err != nil {
				return
			}
			frame = append(frame, rest...)
			if pass != nil && !pass(frame) {
				continue
			}
		}
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

// endEvent reports whether a frame tells that a plan has ended.
func endEvent(frame []byte) bool {
	return bytes.Contains(frame, []byte(`"task_complete":true`))
}
