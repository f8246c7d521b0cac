package stomp_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

const (
	address = "broker.example:61613"
	events  = "/topic/public.worker.event"
	second  = time.Second
)

// lab is a broker and a client in virtual time.
type lab struct {
	t      *testing.T
	net    *memnet.Network
	broker *stomp.Broker
	client *stomp.Client
	sent   int
}

// inLab runs a test in a bubble of its own, which fails if a goroutine is left.
func inLab(t *testing.T, test func(*testing.T, *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, net: &memnet.Network{Latency: time.Millisecond}}
		l.client = &stomp.Client{Address: address, Dial: l.net.DialContext, Login: "guest", Passcode: "secret"}
		l.start(&stomp.Broker{Login: "guest", Passcode: "secret"})
		t.Cleanup(func() { l.broker.Close() })
		test(t, l)
	})
}

// start starts a broker, in the place of one that was closed.
func (l *lab) start(b *stomp.Broker) {
	l.t.Helper()
	listener, err := l.net.Listen(address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.broker = b
	go b.Serve(listener)
}

func (l *lab) connect() *stomp.Conn {
	l.t.Helper()
	c, err := l.client.Connect(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	return c
}

func (l *lab) subscribe(c *stomp.Conn) *stomp.Subscription {
	l.t.Helper()
	s, err := c.Subscribe(l.t.Context(), events)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// open opens a session and waits until it is subscribed.
func (l *lab) open() *stomp.Session {
	l.t.Helper()
	s := l.client.Open(l.t.Context(), events)
	l.t.Cleanup(func() { s.Close() })
	if err := s.Subscribed(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// publish sends the next numbers, from 1.
func (l *lab) publish(n int) {
	for range n {
		l.sent++
		l.broker.Publish(events, []byte(strconv.Itoa(l.sent)))
	}
}

// pause waits, and reports false when the test has ended meanwhile.
func (l *lab) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.t.Context().Done():
		return false
	}
}

type stream interface {
	Next(context.Context) (stomp.Delivery, error)
}

// drain returns what is there, in words: the numbers of the messages, "open" and
// "gap" for gaps, and "end" if the stream has ended.
func drain(t *testing.T, s stream) (words []string, gaps []stomp.Gap, end error) {
	t.Helper()
	synctest.Wait()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for {
		d, err := s.Next(done)
		switch {
		case errors.Is(err, context.Canceled):
			return words, gaps, nil
		case err != nil:
			return append(words, "end"), gaps, err
		case d.Message != nil:
			words = append(words, string(d.Message.Body))
		case d.Gap.Until.IsZero():
			words, gaps = append(words, "open"), append(gaps, *d.Gap)
		default:
			words, gaps = append(words, "gap"), append(gaps, *d.Gap)
		}
	}
}

func want(t *testing.T, s stream, words ...string) []stomp.Gap {
	t.Helper()
	got, gaps, end := drain(t, s)
	if fmt.Sprint(got) != fmt.Sprint(words) {
		t.Errorf("got %v, %v; want %v", got, end, words)
	}
	return gaps
}

// wantEnd returns why a stream has ended.
func wantEnd(t *testing.T, s stream, words ...string) error {
	t.Helper()
	got, _, end := drain(t, s)
	if fmt.Sprint(got) != fmt.Sprint(append(words, "end")) {
		t.Errorf("got %v, %v; want %v and the end", got, end, words)
	}
	return end
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}
