package stomp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

func TestConn(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		var said []string
		l.broker.Inject(func(p *stomp.Passage, next func(*stomp.Frame)) {
			if !p.Sent {
				line := p.Frame.Command
				for _, h := range p.Frame.Headers {
					line += " " + h.Name + ":" + h.Value
				}
				said = append(said, line)
			}
			next(p.Frame)
		})
		c := l.connect()
		s := l.subscribe(c)
		if c.Version() != stomp.V12 || l.broker.Subscribers(events) != 1 {
			t.Errorf("version %s, %d subscribers", c.Version(), l.broker.Subscribers(events))
		}
		if err := c.Send(t.Context(), events, []byte("hello"), stomp.Header{Name: "correlation-id", Value: "a:b\n"}); err != nil {
			t.Fatal(err)
		}
		d, err := s.Next(t.Context())
		if err != nil || string(d.Message.Body) != "hello" || d.Message.Get("correlation-id") != "a:b\n" {
			t.Errorf("got %+v, %v", d, err)
		}
		if err := s.Unsubscribe(t.Context()); err != nil || l.broker.Subscribers(events) != 0 {
			t.Errorf("%v; %d subscribers", err, l.broker.Subscribers(events))
		}
		if err := wantEnd(t, s); err != stomp.ErrClosed {
			t.Errorf("an unsubscribed stream ended with %v", err)
		}
		if err := c.Disconnect(t.Context()); err != nil {
			t.Error(err)
		}
		if err := c.Send(t.Context(), events, nil); err != stomp.ErrClosed || c.Err() != stomp.ErrClosed {
			t.Errorf("a send after the end: %v; the end: %v", err, c.Err())
		}
		const all = `CONNECT accept-version:1.1,1.2 host:/ heart-beat:5000,5000 login:guest passcode:secret
SUBSCRIBE id:1 destination:/topic/public.worker.event ack:auto receipt:2
SEND destination:/topic/public.worker.event correlation-id:a:b
 receipt:3
UNSUBSCRIBE id:1 receipt:4
DISCONNECT receipt:5`
		if got := strings.Join(said, "\n"); got != all {
			t.Errorf("the client said\n%s\nwant\n%s", got, all)
		}
	})
}

// TestSubscribeReceipt: not a message is lost that is sent once Subscribe has
// returned, however late the broker is.
func TestSubscribeReceipt(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.broker.Inject(stomp.When(stomp.Receives("SUBSCRIBE"), stomp.Delay(500*time.Millisecond)))
		c := l.connect()
		l.publish(1) // too early
		start := time.Now()
		s := l.subscribe(c)
		if d := time.Since(start); d < 500*time.Millisecond {
			t.Errorf("subscribed after %v", d)
		}
		l.publish(2)
		time.Sleep(second)
		want(t, s, "2", "3")
	})
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name, command string
		prepare       func(*lab)
	}{
		{"wrong passcode", "CONNECT", func(l *lab) { l.client.Passcode = "wrong-passcode" }},
		{"bad destination", "SUBSCRIBE", func(*lab) {}},
		{"ERROR that names the receipt", "SUBSCRIBE", func(l *lab) {
			l.broker.Inject(stomp.When(stomp.Sends("ERROR"), func(p *stomp.Passage, next func(*stomp.Frame)) {
				next(&stomp.Frame{Command: "ERROR", Headers: []stomp.Header{{Name: "receipt-id", Value: "2"}, {Name: "message", Value: "no"}}})
			}))
		}},
		// RabbitMQ does this when an exchange does not exist.
		{"RECEIPT after the ERROR", "SUBSCRIBE", func(l *lab) {
			l.broker.Inject(stomp.When(stomp.Sends("ERROR"), func(p *stomp.Passage, next func(*stomp.Frame)) {
				next(p.Frame)
				next(&stomp.Frame{Command: "RECEIPT", Headers: []stomp.Header{{Name: "receipt-id", Value: "2"}}})
			}))
		}},
		{"an essay", "CONNECT", func(l *lab) {
			l.client.Limits.Body = 10
			l.client.Passcode = "wrong-passcode"
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				tt.prepare(l)
				c, err := l.client.Connect(t.Context())
				if err == nil {
					defer c.Close()
					_, err = c.Subscribe(t.Context(), "/nonsense/x")
				}
				e, ok := errors.AsType[*stomp.Error](err)
				if !ok || e.Command != tt.command || e.Message == "" {
					t.Fatalf("got %v", err)
				}
				if strings.Contains(err.Error(), "passcode") {
					t.Errorf("the error shows the passcode: %v", err)
				}
				if c == nil {
					return
				}
				<-c.Done()
				if c.Err() != e {
					t.Errorf("the connection ended with %v", c.Err())
				}
			})
		})
	}
}

// TestErrorIsOneLine: what a broker says must not play with a terminal.
func TestErrorIsOneLine(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.broker.Inject(stomp.When(stomp.Receives("CONNECT"), stomp.Refuse("a\x1b[31m\nb", "c\r\n\td\xff"+strings.Repeat("x", 2000))))
		_, err := l.client.Connect(t.Context())
		e, ok := errors.AsType[*stomp.Error](err)
		if !ok || e.Message != "a [31m b" || !strings.HasPrefix(e.Detail, "c d?xxx") || len(e.Detail) > 1024 {
			t.Errorf("got %#v", err)
		}
	})
}

func TestErrorText(t *testing.T) {
	for want, e := range map[string]*stomp.Error{
		"stomp: the broker refused CONNECT: Bad CONNECT: Access refused for user 'x'": {Command: "CONNECT", Message: "Bad CONNECT", Detail: "Access refused for user 'x'"},
		"stomp: the broker ended the connection: shutdown":                            {Message: "shutdown"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestBadConnected answers CONNECT with what is no good.
func TestBadConnected(t *testing.T) {
	h := func(name, value string) []stomp.Header { return []stomp.Header{{Name: name, Value: value}} }
	for _, tt := range []struct {
		name    string
		headers []stomp.Header
		version bool // the error is ErrVersion
	}{
		{"no version", nil, true},
		{"1.0", h("version", "1.0"), true},
		{"no numbers", append(h("version", "1.2"), h("heart-beat", "x,y")...), false},
		{"one number", append(h("version", "1.2"), h("heart-beat", "1")...), false},
		{"a large number", append(h("version", "1.2"), h("heart-beat", "0,99999999999")...), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.broker.Inject(stomp.When(stomp.Sends("CONNECTED"), stomp.Instead(&stomp.Frame{Command: "CONNECTED", Headers: tt.headers})))
				_, err := l.client.Connect(t.Context())
				_, malformed := errors.AsType[*stomp.ProtocolError](err)
				if errors.Is(err, stomp.ErrVersion) != tt.version || malformed == tt.version {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestConnectTimes: a broker that is not there, or stays silent, is given up in
// time, and so is one when the caller has had enough.
func TestConnectTimes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(*lab)
		limit time.Duration // of the caller
		want  time.Duration
		err   error
	}{
		{"black hole", func(l *lab) { l.net.Set(memnet.BlackHole) }, time.Hour, 1500 * time.Millisecond, context.DeadlineExceeded},
		{"stalled", func(l *lab) { l.net.Set(memnet.Stall) }, time.Hour, 10*second + 2*time.Millisecond, os.ErrDeadlineExceeded},
		{"caller's limit", func(l *lab) { l.net.Set(memnet.Stall) }, 3 * second, 3 * second, context.DeadlineExceeded},
		{"another protocol", func(l *lab) {
			l.net.OnDial = func(_, server *memnet.Conn) { server.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")) }
		}, time.Hour, 3 * time.Millisecond, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				tt.fault(l)
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				start := time.Now()
				_, err := l.client.Connect(ctx)
				_, malformed := errors.AsType[*stomp.ProtocolError](err)
				if err == nil || tt.err != nil && !errors.Is(err, tt.err) || malformed != (tt.err == nil) {
					t.Errorf("got %v", err)
				}
				if d := time.Since(start); d != tt.want {
					t.Errorf("after %v, want %v", d, tt.want)
				}
				l.net.Set(memnet.Healthy)
			})
		})
	}
}

// TestIdleConnectionLives: nothing is sent for a day, and the broker, which gives
// up silent clients, keeps the connection.
func TestIdleConnectionLives(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		c := l.connect()
		s := l.subscribe(c)
		time.Sleep(24 * time.Hour)
		l.publish(1)
		time.Sleep(second)
		want(t, s, "1")
		if age := time.Since(c.Heard()); c.Err() != nil || age > 5*second {
			t.Errorf("%v; heard %v ago", c.Err(), age)
		}
	})
}

// TestSilentClientIsGivenUp shows that the test above can fail.
func TestSilentClientIsGivenUp(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.broker.Inject(stomp.When(stomp.Receives("CONNECT"), func(p *stomp.Passage, next func(*stomp.Frame)) {
			next(&stomp.Frame{Command: "CONNECT", Headers: []stomp.Header{
				{Name: "accept-version", Value: "1.2"}, {Name: "heart-beat", Value: "1000,1000"}, // the client sends one in 5 s
				{Name: "login", Value: "guest"}, {Name: "passcode", Value: "secret"},
			}})
		}))
		l.client.HeartBeat = -1
		c := l.connect()
		time.Sleep(3 * second)
		if !errors.Is(c.Err(), io.EOF) {
			t.Errorf("got %v", c.Err())
		}
	})
}

// TestDeadBroker: a broker that is silent in any way is noticed after two
// heart-beats.
func TestDeadBroker(t *testing.T) {
	for _, tt := range []struct {
		name string
		die  func(*lab)
	}{
		{"no heart-beats", func(l *lab) { l.broker.Inject(stomp.When(stomp.Beats, stomp.Drop)) }},
		{"black hole", func(l *lab) { l.net.Set(memnet.BlackHole) }},
		{"forgotten", func(l *lab) { l.net.Set(memnet.Forget) }},
		{"stalled", func(l *lab) { l.broker.Inject(stomp.When(stomp.Beats, stomp.Delay(time.Hour))) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				c := l.connect()
				s := l.subscribe(c)
				l.publish(1)
				time.Sleep(time.Minute)
				tt.die(l)
				heard := c.Heard()
				<-c.Done()
				if c.Err() != stomp.ErrSilent || time.Since(heard) > 15*second || time.Since(heard) < 10*second {
					t.Errorf("%v, %v after it was heard", c.Err(), time.Since(heard))
				}
				if err := wantEnd(t, s, "1"); err != stomp.ErrSilent {
					t.Errorf("the stream ended with %v", err)
				}
				l.net.Set(memnet.Healthy)
			})
		})
	}
}

// TestHeartBeatsThatTheBrokerWants: the longer interval of both sides counts.
func TestHeartBeatsThatTheBrokerWants(t *testing.T) {
	for _, tt := range []struct {
		heartBeat string
		notices   time.Duration // 0: never
	}{{"0,0", 0}, {"", 0}, {"20000,0", 40 * second}, {"1,1", 10 * second}} {
		t.Run(tt.heartBeat, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				answer := []stomp.Header{{Name: "version", Value: "1.1"}}
				if tt.heartBeat != "" {
					answer = append(answer, stomp.Header{Name: "heart-beat", Value: tt.heartBeat})
				}
				l.broker.Mute = true
				l.broker.Inject(stomp.When(stomp.Sends("CONNECTED"), stomp.Instead(&stomp.Frame{Command: "CONNECTED", Headers: answer})))
				c := l.connect()
				start := time.Now()
				select {
				case <-c.Done():
				case <-time.After(time.Hour):
				}
				if d := time.Since(start); c.Version() != stomp.V11 || tt.notices > 0 && d != tt.notices || tt.notices == 0 && d != time.Hour {
					t.Errorf("noticed after %v: %v", d, c.Err())
				}
			})
		})
	}
}

// TestReceiptNeverComes: the caller is told after ten seconds, or earlier if it
// does not want to wait.
func TestReceiptNeverComes(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.broker.Inject(stomp.When(stomp.Sends("RECEIPT"), stomp.Drop))
		c := l.connect()
		start := time.Now()
		if _, err := c.Subscribe(t.Context(), events); err != stomp.ErrNoReceipt || time.Since(start) != 10*second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), second)
		defer cancel()
		if err := c.Send(ctx, events, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("send: %v", err)
		}
		if err := c.Disconnect(t.Context()); err == nil || c.Err() == nil {
			t.Errorf("disconnect: %v; %v", err, c.Err())
		}
	})
}

// TestBrokerThatDoesNotRead: a write ends in time, and other callers can give up
// waiting for their turn.
func TestBrokerThatDoesNotRead(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.broker.Inject(stomp.When(stomp.Receives("SEND"), stomp.Delay(time.Hour)))
		c := l.connect()
		s := l.subscribe(c)
		go c.Send(t.Context(), events, nil) // the broker reads no more behind it
		time.Sleep(second)
		start := time.Now()
		large := make(chan error)
		go func() { large <- c.Send(t.Context(), events, make([]byte, 1<<20)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), second)
		defer cancel()
		if err := c.Send(ctx, events, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != second {
			t.Errorf("the small one: %v after %v", err, time.Since(start))
		}
		l.publish(1) // and what comes is read meanwhile
		time.Sleep(second)
		want(t, s, "1")
		if err := <-large; err == nil || time.Since(start) > 10*second {
			t.Errorf("the large one: %v after %v", err, time.Since(start))
		}
		if c.Err() == nil {
			t.Error("half a frame was sent, and the connection lives")
		}
	})
}

// TestEnds: however a connection ends, what came before is delivered, and the
// reason is told.
func TestEnds(t *testing.T) {
	reason := errors.New("enough")
	for _, tt := range []struct {
		name string
		end  func(*lab, *stomp.Conn, context.CancelCauseFunc)
		is   func(error) bool
	}{
		{"broker closes", func(l *lab, _ *stomp.Conn, _ context.CancelCauseFunc) { l.broker.Disconnect() }, func(err error) bool { return errors.Is(err, io.EOF) }},
		{"cut in a frame", func(l *lab, _ *stomp.Conn, _ context.CancelCauseFunc) {
			l.broker.Inject(stomp.When(stomp.Sends("MESSAGE"), stomp.Cut(20)))
			l.publish(1)
		}, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"reset", func(l *lab, _ *stomp.Conn, _ context.CancelCauseFunc) { l.net.Set(memnet.Kill) }, func(err error) bool { return err != nil }},
		{"ERROR", func(l *lab, _ *stomp.Conn, _ context.CancelCauseFunc) {
			l.broker.Inject(stomp.When(stomp.Sends("MESSAGE"), stomp.Refuse("shutdown", "")))
			l.publish(1)
		}, func(err error) bool { e, ok := errors.AsType[*stomp.Error](err); return ok && e.Command == "" }},
		{"a frame that brokers do not send", func(l *lab, _ *stomp.Conn, _ context.CancelCauseFunc) {
			l.broker.Inject(stomp.When(stomp.Sends("MESSAGE"), stomp.Instead(&stomp.Frame{Command: "SEND"})))
			l.publish(1)
		}, func(err error) bool { _, ok := errors.AsType[*stomp.ProtocolError](err); return ok }},
		{"context", func(_ *lab, _ *stomp.Conn, cancel context.CancelCauseFunc) { cancel(reason) }, func(err error) bool { return err == reason }},
		{"Close", func(_ *lab, c *stomp.Conn, _ context.CancelCauseFunc) { c.Close() }, func(err error) bool { return err == stomp.ErrClosed }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				c, err := l.client.Connect(ctx)
				if err != nil {
					t.Fatal(err)
				}
				s := l.subscribe(c)
				l.publish(2)
				time.Sleep(second)
				tt.end(l, c, cancel)
				time.Sleep(second)
				if err := wantEnd(t, s, "1", "2"); !tt.is(err) || c.Err() != err {
					t.Errorf("the stream ended with %v, the connection with %v", err, c.Err())
				}
				if _, err := c.Subscribe(t.Context(), events); err != c.Err() {
					t.Errorf("subscribe after the end: %v", err)
				}
			})
		})
	}
}

// TestUnwantedFrames: a receipt nobody waits for and a message nobody subscribed
// to, as after a lost race, do no harm.
func TestUnwantedFrames(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.broker.Inject(stomp.When(stomp.Sends("MESSAGE"), func(p *stomp.Passage, next func(*stomp.Frame)) {
			next(&stomp.Frame{Command: "RECEIPT", Headers: []stomp.Header{{Name: "receipt-id", Value: "77"}}})
			next(&stomp.Frame{Command: "MESSAGE", Headers: []stomp.Header{{Name: "subscription", Value: "77"}}})
			next(p.Frame)
		}))
		s := l.subscribe(l.connect())
		l.publish(1)
		time.Sleep(second)
		want(t, s, "1")
	})
}

func TestDurableSubscriptionIsEndedAsRabbitMQWants(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		var seen atomic.Pointer[stomp.Frame]
		l.broker.Inject(stomp.When(stomp.Receives("UNSUBSCRIBE"), func(p *stomp.Passage, next func(*stomp.Frame)) {
			seen.Store(p.Frame)
			next(p.Frame)
		}))
		s, err := l.connect().Subscribe(t.Context(), events,
			stomp.Header{Name: "durable", Value: "true"}, stomp.Header{Name: "auto-delete", Value: "false"}, stomp.Header{Name: "prefetch-count", Value: "1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Unsubscribe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b, _ := seen.Load().Append(nil, stomp.V12); !bytes.Equal(b, []byte("UNSUBSCRIBE\nid:1\ndurable:true\nauto-delete:false\nreceipt:3\n\n\x00")) {
			t.Errorf("got %q", b)
		}
	})
}
