package stomp

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Server is the server's side of STOMP 1.1 and 1.2 for peers that listen: they connect,
// subscribe, and get what is sent to their [Subscriber]. It takes no messages from them.
// [Broker] is for tests; a Server is for strangers: it bounds what they may send, how
// many they are, how long they take to connect, and what waits for one that does not
// read. A peer that is too slow is cut off rather than left without some messages.
//
// The fields are set before the first use. The functions are called from the goroutine
// of the peer's connection, which they hold up; nil ones are not called. Methods may be
// called concurrently.
type Server struct {
	// Login and Passcode are what peers must present; with neither, anything will do.
	Login, Passcode string
	// Name is what the server calls itself; empty means it does not say.
	Name string
	// MaxPeers is how many may be connected; zero means 256. Who comes beyond that is
	// told so.
	MaxPeers int
	// Backlog is how many bytes may wait for one peer, besides what Subscribe has sent;
	// zero means 32 MiB, which is five seconds of 10,000 of blueapi's events a second. Messages are kept once,
	// however many peers they wait for.
	Backlog int
	// ConnectTimeout is how long a peer may take to send its CONNECT frame; zero means
	// 10 s.
	ConnectTimeout time.Duration
	// Limits bound the frames of peers; zero fields mean 64 headers, lines of 8 KiB and
	// bodies of 64 KiB: those that listen have little to say.
	Limits Limits

	// Connected: a peer has logged in. It is told after this.
	Connected func(p *Peer)
	// Subscribe: a peer wants a destination. An error is why it does not get it; it is
	// told to the peer and ends its connection.
	Subscribe func(s *Subscriber) error
	// Unsubscribe: a subscription was given up. It is not called for those that end with
	// their connection.
	Unsubscribe func(s *Subscriber)
	// Farewell: a peer takes leave by DISCONNECT. The answer is withheld for as long.
	Farewell func(p *Peer) time.Duration
	// Gone: a peer that was Connected is connected no longer. It is in good order if the
	// peer said so before, by DISCONNECT.
	Gone func(p *Peer, inGoodOrder bool)

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]bool
	peers     map[*Peer]bool
	routines  sync.WaitGroup
}

const (
	defaultMaxPeers       = 256
	defaultServerBacklog  = 32 << 20
	defaultConnectTimeout = 10 * time.Second
	// lastWords is how long a peer may take to read a part of what waits for it when its
	// connection is to end.
	lastWords = 5 * time.Second
)

// Serve accepts peers until the listener or the server is closed, and returns nil then.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		l.Close()
		return nil
	}
	if s.listeners == nil {
		s.listeners, s.peers = make(map[net.Listener]bool), make(map[*Peer]bool)
	}
	s.listeners[l] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
	}()
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(nc)
		case errors.Is(err, net.ErrClosed):
			return nil
		case !temporary(err):
			return err
		default: // out of file descriptors, say: as net/http, wait for some
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
		}
	}
}

func temporary(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Temporary() //nolint:staticcheck // deprecated for other uses; net/http goes by it too
}

func (s *Server) accept(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		nc.Close()
		return
	}
	limit := s.MaxPeers
	if limit == 0 {
		limit = defaultMaxPeers
	}
	p := newPeer(s, nc)
	full := len(s.peers) >= limit
	s.peers[p] = true
	s.routines.Go(p.write)
	if full {
		p.refuse("Too many connections", fmt.Sprintf("%d are connected already\n", limit))
		return
	}
	s.routines.Go(p.read)
}

// Close stops listening, closes all connections, and returns when nothing runs any
// more.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
	for p := range s.peers {
		p.end()
	}
	s.mu.Unlock()
	s.routines.Wait()
	return nil
}

func (s *Server) forget(p *Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

func (s *Server) backlog() int {
	if s.Backlog == 0 {
		return defaultServerBacklog
	}
	return s.Backlog
}

func (s *Server) limits() Limits {
	l := s.Limits
	if l.Headers == 0 {
		l.Headers = 64
	}
	if l.Line == 0 {
		l.Line = 8 << 10
	}
	if l.Body == 0 {
		l.Body = 64 << 10
	}
	return l
}

// admits compares what a peer presents in a time that tells nothing about how much of it
// is right.
func (s *Server) admits(f *Frame) bool {
	if s.Login == "" && s.Passcode == "" {
		return true
	}
	same := func(a, b string) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b)) // their lengths are equal
		return subtle.ConstantTimeCompare(x[:], y[:])
	}
	return same(f.Get("login"), s.Login)&same(f.Get("passcode"), s.Passcode) == 1
}
