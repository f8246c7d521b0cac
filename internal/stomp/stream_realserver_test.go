//go:build linux && realserver

package stomp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/adamant-go/adamant/internal/stomp"
)

const streamBytes = 1e9

// realStream makes a stream on the real broker, of a topic of its own, and removes it
// in the end.
func realStream(t *testing.T, c *stomp.Client) (name, topic string) {
	t.Helper()
	name = "test/" + strconv.FormatUint(rand.Uint64(), 36)
	topic = "/topic/" + strings.ReplaceAll(name, "/", ".")
	if err := c.MakeStream(t.Context(), name, topic, streamBytes); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { deleteStream(t, c, name, topic) })
	return name, topic
}

// deleteStream has RabbitMQ 3.10.8 delete a stream by what [stomp.Client.MakeStream]
// warns of: the subscription would make it, and cannot read it.
func deleteStream(t *testing.T, c *stomp.Client, name, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := c.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Subscribe(ctx, topic, stomp.Header{Name: "x-queue-name", Value: name}, stomp.Header{Name: "x-queue-type", Value: "stream"},
		stomp.Header{Name: "durable", Value: "true"}, stomp.Header{Name: "auto-delete", Value: "false"},
		stomp.Header{Name: "x-max-length-bytes", Value: strconv.Itoa(streamBytes)})
	if e, ok := errors.AsType[*stomp.Error](err); !ok || e.Message != "precondition_failed" {
		t.Error(err)
	}
}

// publisher sends numbers to a topic, without waiting for receipts.
type publisher struct {
	t        *testing.T
	conn     net.Conn
	sent     int
	receipts chan struct{}
}

func publish(t *testing.T, c *stomp.Client) *publisher {
	t.Helper()
	conn, err := net.Dial("tcp", c.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &publisher{t: t, conn: conn, receipts: make(chan struct{}, 1)}
	p.send(&stomp.Frame{Command: "CONNECT", Headers: []stomp.Header{
		{Name: "accept-version", Value: "1.2"}, {Name: "host", Value: "/"}, {Name: "login", Value: c.Login}, {Name: "passcode", Value: c.Passcode},
	}})
	go func() {
		d := stomp.NewDecoder(conn, stomp.Limits{})
		for {
			f, err := d.Decode()
			if err != nil {
				return
			}
			if f.Command == "RECEIPT" {
				p.receipts <- struct{}{}
			}
		}
	}()
	return p
}

func (p *publisher) send(f *stomp.Frame) {
	b, err := f.Append(nil, "")
	if err == nil {
		_, err = p.conn.Write(b)
	}
	if err != nil {
		p.t.Error(err)
	}
}

// next sends the next n numbers.
func (p *publisher) next(topic string, n int) {
	for range n {
		p.sent++
		p.send(&stomp.Frame{Command: "SEND", Headers: []stomp.Header{{Name: "destination", Value: topic}}, Body: fmt.Appendf(nil, "%500d", p.sent)})
	}
}

// settled sends the next n numbers, and returns when the broker has the last of them.
func (p *publisher) settled(topic string, n int) {
	p.next(topic, n-1)
	p.sent++
	p.send(&stomp.Frame{
		Command: "SEND", Headers: []stomp.Header{{Name: "destination", Value: topic}, {Name: "receipt", Value: "last"}},
		Body: fmt.Appendf(nil, "%500d", p.sent),
	})
	select {
	case <-p.receipts:
	case <-time.After(30 * time.Second):
		p.t.Error("the broker does not say that it has them")
	}
}

// cutter passes connections on and cuts each of them after up to a second, some by a
// reset.
type cutter struct {
	listener net.Listener
	cuts     atomic.Int64 // that are still to be made
}

func cutterTo(t *testing.T, to string, cuts int64) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c := &cutter{listener: l}
	c.cuts.Store(cuts)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			for _, ends := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					_, _ = io.Copy(ends[0], ends[1])
					in.Close()
					out.Close()
				}()
			}
			if c.cuts.Add(-1) < 0 {
				continue
			}
			time.AfterFunc(time.Duration(rand.IntN(1000))*time.Millisecond, func() {
				_ = in.(*net.TCPConn).SetLinger(rand.IntN(2) - 1)
				in.Close()
				out.Close()
			})
		}
	}()
	return c
}

// evenly sends numbers at a rate until it has sent n of them.
func (p *publisher) evenly(topic string, perSecond, n int) {
	begin, before := time.Now(), p.sent
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; p.sent < before+n; <-tick.C {
		due := before + int(time.Since(begin).Seconds()*float64(perSecond))
		p.next(topic, min(due, before+n)-p.sent)
	}
}

// wantNumbers takes the numbers from first to last, each once and in order, and returns
// how often the connection was lost, and how often nothing was missing for certain.
func wantNumbers(t *testing.T, s *stomp.Session, first, last int) (gaps, whole int) {
	t.Helper()
	for n := first; n <= last; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		d, err := s.Next(ctx)
		cancel()
		switch {
		case err != nil:
			t.Fatalf("instead of %d: %v", n, err)
		case d.Message != nil:
			if got := strings.TrimSpace(string(d.Message.Body)); got != strconv.Itoa(n) {
				t.Fatalf("%s instead of %d", got, n)
			}
			n++
		case !d.Gap.Until.IsZero():
			if gaps++; d.Gap.Replayed {
				whole++
			}
		}
	}
	return gaps, whole
}

// TestRealStreamCuts cuts connection after connection, at 1,000 messages a second. Each
// message comes once, in order.
func TestRealStreamCuts(t *testing.T) {
	_, c := realClient(t)
	cuts := 10
	if os.Getenv("ADAMANT_SWEEP") == "all" {
		cuts = 50
	}
	name, topic := realStream(t, c)
	p := publish(t, c)
	p.settled(topic, 100) // older than the session
	p.sent = 0
	through := *c
	through.Address = cutterTo(t, c.Address, int64(cuts)).listener.Addr().String()
	s := through.OpenStream(t.Context(), name, topic)
	defer s.Close()
	if err := s.Subscribed(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := cuts * 3000 // after the fifth failure there are at least 2 s between two connections
	go p.evenly(topic, 1000, n)
	begin := time.Now()
	gaps, whole := wantNumbers(t, s, 1, n)
	t.Logf("%d gaps; the last of %d messages after %v", gaps, n, time.Since(begin))
	if gaps < cuts-5 || gaps > cuts || whole != gaps { // some are cut before they are subscribed
		t.Errorf("%d gaps, %d of them replayed", gaps, whole)
	}
}

// TestRealStreamEnd: a session begins behind what was sent before, however large the
// last chunk.
func TestRealStreamEnd(t *testing.T) {
	_, c := realClient(t)
	name, topic := realStream(t, c)
	p := publish(t, c)
	for range 10 {
		p.settled(topic, 3000) // RabbitMQ has written them, in some chunks
		s := c.OpenStream(t.Context(), name, topic)
		if err := s.Subscribed(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.next(topic, 1)
		if gaps, _ := wantNumbers(t, s, p.sent, p.sent); gaps > 0 {
			t.Errorf("%d gaps", gaps)
		}
		s.Close()
	}
}

// TestRealStreamBroker stops the broker, and kills it. The stream is there again, and
// the session goes on where it was; that the broker was away is seen and said.
func TestRealStreamBroker(t *testing.T) {
	srv, c := realClient(t)
	t.Cleanup(func() { // who shares the server finds its events flowing again
		broker(t, srv, "broker-start")
		if err := srv.Restart(); err != nil {
			t.Error(err)
		}
	})
	name, topic := realStream(t, c)
	s := c.OpenStream(t.Context(), name, topic)
	defer s.Close()
	if err := s.Subscribed(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for verb, away := range map[string]func(){
		"stopped": func() { broker(t, srv, "broker-stop") },
		"killed": func() {
			b, err := os.ReadFile(filepath.Join(srv.Dir, "broker.pid"))
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			for syscall.Kill(-pid, syscall.SIGKILL) == nil { // until it is gone
				time.Sleep(10 * time.Millisecond)
			}
		},
	} {
		p := publish(t, c)
		p.sent = n
		p.next(topic, 100)
		wantNumbers(t, s, n+1, n+100)
		away()
		broker(t, srv, "broker-start")
		// For a moment after its start RabbitMQ 3.10.8 drops what it is sent, with
		// receipts as long as the stream cannot be read, and without a little longer.
		if err := s.Subscribed(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn, err := c.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for k := range 100 {
			if err := conn.Send(t.Context(), topic, []byte(strconv.Itoa(n+101+k))); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		gaps, whole := wantNumbers(t, s, n+101, n+200)
		if n += 200; gaps != 1 || whole != 0 {
			t.Errorf("%s: %d gaps, %d of them replayed", verb, gaps, whole)
		}
	}
}

// TestRealLoad: 10,000 messages a second from RabbitMQ, by the topic and by a stream,
// with a consumer that stalls. None is lost, and what waits in the stall is little if
// there is a stream. On two cores that others use RabbitMQ does not keep up with this.
func TestRealLoad(t *testing.T) {
	_, c := realClient(t)
	const perSecond = 10_000
	seconds, stall := 12, 5*time.Second
	if os.Getenv("ADAMANT_SWEEP") == "all" {
		seconds, stall = 60, 10*time.Second
	}
	for kind, most := range map[string]int64{"topic": 200 << 20, "stream": 20 << 20} {
		t.Run(kind, func(t *testing.T) {
			name, topic := realStream(t, c)
			s := c.OpenStream(t.Context(), name, topic)
			if kind == "topic" {
				s.Close()
				s = c.Open(t.Context(), topic)
			}
			defer s.Close()
			if err := s.Subscribed(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := heap()
			p := publish(t, c)
			var published time.Time
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				p.evenly(topic, perSecond, seconds*perSecond)
				published = time.Now()
			}()
			third := seconds * perSecond / 3
			gaps, _ := wantNumbers(t, s, 1, third)
			time.Sleep(stall)
			waits := int64(heap()) - int64(before)
			more, _ := wantNumbers(t, s, third+1, seconds*perSecond)
			now := time.Now()
			<-sent
			late := now.Sub(published)
			t.Logf("%d kB waited in the stall; the last message was %v late", waits>>10, late)
			if gaps+more > 0 || waits > most {
				t.Errorf("%d gaps; %d kB waited in the stall", gaps+more, waits>>10)
			}
		})
	}
}
