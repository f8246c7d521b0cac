package stomp_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// stage is a server and a client in virtual time.
type stage struct {
	*testing.T
	stomp.Server
	net    *memnet.Network
	client *stomp.Client

	mu   sync.Mutex
	subs []*stomp.Subscriber
	gone []bool // in good order?
}

func onStage(t *testing.T, set func(*stage), test func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{T: t, net: &memnet.Network{Latency: time.Millisecond}}
		s.client = &stomp.Client{Address: address, Dial: s.net.DialContext, Login: "guest", Passcode: "secret"}
		s.Subscribe = func(sub *stomp.Subscriber) error {
			if sub.Destination != events {
				return errors.New("no such thing")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.subs = append(s.subs, sub)
			return nil
		}
		s.Gone = func(_ *stomp.Peer, inGoodOrder bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.gone = append(s.gone, inGoodOrder)
		}
		if set != nil {
			set(s)
		}
		l, err := s.net.Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		test(s)
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func (s *stage) send(body string, number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &stomp.Message{Destination: events, Body: []byte(body), Headers: []stomp.Header{{Name: "a:b", Value: "c\\d"}}, Number: number}
	for _, sub := range s.subs {
		sub.Send(m)
	}
}

// TestServer: a client gets what is sent to its subscription, and both ends agree on
// how it ended.
func TestServer(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		session := s.client.Open(s.Context(), events)
		if err := session.Subscribed(s.Context()); err != nil {
			t.Fatal(err)
		}
		for i, body := range []string{"one", "", "with \x00 in it", strings.Repeat("large", 100_000)} {
			s.send(body, int64(i+1))
			d, err := session.Next(s.Context())
			if err != nil || string(d.Message.Body) != body || d.Message.Get("a:b") != "c\\d" || d.Message.Get("destination") != events {
				t.Fatalf("%v, %v", d, err)
			}
			synctest.Wait()
			if n := s.subs[0].Written(); n != int64(i+1) {
				t.Errorf("written: %d of %d", n, i+1)
			}
		}
		time.Sleep(time.Hour) // heart-beats keep both ends content
		s.send("late", 5)
		if d, err := session.Next(s.Context()); err != nil || d.Message == nil {
			t.Fatalf("%v, %v", d, err)
		}
		session.Close()
		time.Sleep(time.Second)
		if len(s.gone) != 1 || !s.gone[0] {
			t.Errorf("gone: %v", s.gone)
		}
	})
}

// TestServerRefuses: what is not right is answered by an ERROR that says so, and ends the
// connection.
func TestServerRefuses(t *testing.T) {
	const connect = "CONNECT\naccept-version:1.2\nlogin:guest\npasscode:secret\n\n\x00"
	for sent, want := range map[string]string{
		"SUBSCRIBE\nid:1\ndestination:/x\n\n\x00":                                                        "Illegal command",
		"CONNECT\naccept-version:1.0\nlogin:guest\npasscode:secret\n\n\x00":                              "Version mismatch",
		"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:wrong\n\n\x00":                               "Bad CONNECT",
		"CONNECT\naccept-version:1.2\nlogin:guest\n\n\x00":                                               "Bad CONNECT",
		"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:secret\nheart-beat:x\n\n\x00":                "Invalid heart-beat header",
		"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:secret\nheart-beat:0,10000000000000\n\n\x00": "Invalid heart-beat header",
		connect + connect: "Illegal command",
		connect + "SUBSCRIBE\ndestination:" + events + "\n\n\x00":                                                          "Missing header",
		connect + "SUBSCRIBE\nid:1\ndestination:/topic/x\n\n\x00":                                                          "Unknown destination",
		connect + "SUBSCRIBE\nid:1\ndestination:" + events + "\n\n\x00SUBSCRIBE\nid:1\ndestination:" + events + "\n\n\x00": "Duplicated subscription identifier",
		connect + "UNSUBSCRIBE\nid:1\n\n\x00":                                                                              "No subscription found",
		connect + "SEND\ndestination:" + events + "\n\nx\x00":                                                              "Not allowed",
		connect + "BEGIN\ntransaction:1\n\n\x00":                                                                           "Not allowed",
		connect + "ACK\nid:1\n\n\x00\nGARBAGE\n":                                                                           "Bad frame",
		connect + "SEND\ncontent-length:70000\n\n" + strings.Repeat("x", 70000) + "\x00":                                   "Frame too large",
		connect + "SEND\nlong:" + strings.Repeat("x", 9000) + "\n\n\x00":                                                   "Frame too large",
	} {
		onStage(t, func(s *stage) { s.Login, s.Passcode = "guest", "secret" }, func(s *stage) {
			conn, err := s.net.DialContext(s.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			all, err := io.ReadAll(conn)
			if err != nil || !strings.Contains(string(all), "ERROR\nmessage:"+want+"\n") || strings.Contains(string(all), "secret") {
				t.Errorf("%.80q: %q, %v", sent, all, err)
			}
		})
	}
}

// TestServerIsPatientNotForEver: who does not connect in time, or is silent although it
// has promised heart-beats, is cut off; who has promised none may be silent.
func TestServerIsPatientNotForEver(t *testing.T) {
	for sent, want := range map[string]time.Duration{
		"":                10 * time.Second,
		"CONNECT\naccept": 10 * time.Second,
		"CONNECT\naccept-version:1.1\nheart-beat:3000,0\n\n\x00": 6 * time.Second,
		"CONNECT\naccept-version:1.1\nheart-beat:0,0\n\n\x00":    0,
		"STOMP\naccept-version:1.1\n\n\x00":                      0,
	} {
		onStage(t, nil, func(s *stage) {
			conn, err := s.net.DialContext(s.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, sent)
			begun := time.Now()
			_ = conn.SetReadDeadline(begun.Add(time.Hour))
			_, err = io.Copy(io.Discard, conn)
			took := time.Since(begun).Round(time.Second)
			if want == 0 && took < time.Hour || want != 0 && took != want {
				t.Errorf("%q: ended after %v: %v", sent, took, err)
			}
		})
	}
}

// TestServerIsBounded: a peer that does not read is cut off when too much waits for it,
// which costs the others nothing; and there are only so many.
func TestServerIsBounded(t *testing.T) {
	onStage(t, func(s *stage) { s.Backlog, s.MaxPeers = 1<<20, 2 }, func(s *stage) {
		stalled, err := s.net.DialContext(s.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer stalled.Close()
		_, _ = io.WriteString(stalled, "CONNECT\naccept-version:1.1\n\n\x00SUBSCRIBE\nid:0\ndestination:"+events+"\n\n\x00")
		time.Sleep(time.Second)
		session := s.client.Open(s.Context(), events)
		defer session.Close()
		if err := session.Subscribed(s.Context()); err != nil {
			t.Fatal(err)
		}
		if c, err := s.client.Connect(s.Context()); err == nil || !strings.Contains(err.Error(), "Too many connections") {
			t.Errorf("a third: %v, %v", c, err)
		}
		const messages = 3000
		for i := range messages {
			s.send(strings.Repeat("x", 1000), int64(i+1))
			if d, err := session.Next(s.Context()); err != nil || d.Message == nil {
				t.Fatalf("message %d: %v, %v", i, d, err)
			}
		}
		time.Sleep(time.Second)
		if len(s.gone) != 1 || s.gone[0] || !s.subs[0].Peer().Cut() || s.subs[1].Peer().Cut() {
			t.Errorf("gone: %v", s.gone)
		}
		if n := s.subs[0].Written(); n == 0 || n > 1000 {
			t.Errorf("written: %d", n)
		}
	})
}

// TestServerCatchesUp: what a subscription begins with is no sign of a slow peer, however
// much it is; what comes after that and is not read is.
func TestServerCatchesUp(t *testing.T) {
	const backlog, before = 1 << 20, 3000
	onStage(t, func(s *stage) {
		s.Backlog = backlog
		note := s.Subscribe
		s.Subscribe = func(sub *stomp.Subscriber) error {
			m := &stomp.Message{Destination: events, Body: make([]byte, 1000)}
			for range before {
				sub.Send(m)
			}
			return note(sub)
		}
	}, func(s *stage) {
		session := s.client.Open(s.Context(), events)
		defer session.Close()
		for i := range before {
			if d, err := session.Next(s.Context()); err != nil || d.Message == nil {
				t.Fatalf("message %d: %+v, %v", i, d, err)
			}
		}
		stalled, err := s.net.DialContext(s.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer stalled.Close()
		_, _ = io.WriteString(stalled, "CONNECT\naccept-version:1.1\n\n\x00SUBSCRIBE\nid:0\ndestination:"+events+"\n\n\x00")
		time.Sleep(time.Second)
		for i := range 2 * backlog / 1000 {
			s.send(strings.Repeat("x", 1000), int64(i+1))
			if d, err := session.Next(s.Context()); err != nil || d.Message == nil {
				t.Fatalf("message %d: %+v, %v", i, d, err)
			}
		}
		if s.subs[0].Peer().Cut() || !s.subs[1].Peer().Cut() {
			t.Error("it was cut off, or one that does not read is not")
		}
	})
}

// TestServerLastWords: who does not read why its connection ends is cut off soon, whether
// it has stopped reading before, or never begins with TLS.
func TestServerLastWords(t *testing.T) {
	ended := func(s *stage, conn net.Conn, within time.Duration) {
		s.Helper()
		begun := time.Now()
		for _, err := conn.Write([]byte{'\n'}); err == nil; _, err = conn.Write([]byte{'\n'}) {
			if time.Sleep(100 * time.Millisecond); time.Since(begun) > within {
				s.Fatalf("it is still there after %v", within)
			}
		}
	}
	for _, last := range []string{"DISCONNECT\nreceipt:bye\n\n\x00", "GARBAGE\n\n\x00"} {
		onStage(t, nil, func(s *stage) {
			conn, err := s.net.DialContext(s.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "CONNECT\naccept-version:1.1\n\n\x00SUBSCRIBE\nid:0\ndestination:"+events+"\n\n\x00")
			time.Sleep(time.Second)
			s.send(strings.Repeat("x", 10<<20), 1) // more than the network takes
			time.Sleep(time.Second)
			_, _ = io.WriteString(conn, last)
			ended(s, conn, 6*time.Second)
		})
	}
	onStage(t, func(s *stage) { s.MaxPeers = 1 }, func(s *stage) {
		const secure = "broker.example:61614"
		l, err := s.net.Listen(secure)
		if err != nil {
			t.Fatal(err)
		}
		cert, _ := certificate(t, "broker.example")
		served := make(chan error, 1)
		go func() { served <- s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})) }()
		var conns [2]net.Conn
		for i := range conns {
			if conns[i], err = s.net.DialContext(s.Context(), "tcp", secure); err != nil {
				t.Fatal(err)
			}
			defer conns[i].Close()
		}
		for i, within := range []time.Duration{10 * time.Second, 5 * time.Second} {
			_ = conns[i].SetReadDeadline(time.Now().Add(time.Hour))
			begun := time.Now()
			if _, err := conns[i].Read(make([]byte, 1)); time.Since(begun) > within+time.Second {
				t.Errorf("connection %d ended after %v: %v", i, time.Since(begun), err)
			}
		}
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// FuzzServer: whatever a peer sends, the server answers by frames or hangs up, and
// nothing is left of it.
func FuzzServer(f *testing.F) {
	f.Add([]byte("STOMP\naccept-version:1.1\n\n\x00SUBSCRIBE\nid:0\ndestination:/topic/x\n\n\x00UNSUBSCRIBE\nid:0\n\n\x00DISCONNECT\nreceipt:1\n\n\x00"))
	f.Add([]byte("CONNECT\naccept-version:1.2\nheart-beat:1000,1000\n\n\x00\n\nACK\nid:1\n\n\x00SEND\n\nx\x00"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		server := stomp.Server{Subscribe: func(s *stomp.Subscriber) error {
			s.Send(&stomp.Message{Destination: s.Destination, Body: []byte("{}"), Number: 1})
			return nil
		}}
		here, there := net.Pipe()
		go server.Serve(&one{conn: there})
		read := make(chan error, 1)
		go func() {
			d := stomp.NewDecoder(here, stomp.Limits{})
			for {
				f, err := d.Decode()
				if err != nil {
					read <- err
					return
				}
				if v := stomp.Version(f.Get("version")); f.Command == "CONNECTED" {
					d.Version = v
				}
			}
		}()
		_, _ = here.Write(sent)
		server.Close()
		here.Close()
		if pe, bad := errors.AsType[*stomp.ProtocolError](<-read); bad {
			t.Errorf("the server does not speak STOMP: %v", pe)
		}
	})
}

// one is a listener for one connection.
type one struct {
	net.Listener
	conn net.Conn
}

func (l *one) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *one) Close() error { return nil }
