package stomp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// TestSessionRestart: the broker is away for a while. The stream says since when,
// until when and after which message, and goes on by itself.
func TestSessionRestart(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := l.open()
		l.publish(2)
		time.Sleep(time.Minute)
		l.publish(1)
		down := time.Now()
		time.Sleep(second)
		l.broker.Close()
		l.publish(1) // nobody hears of it
		time.Sleep(10 * time.Millisecond)
		gaps := want(t, s, "1", "2", "3", "open")
		if len(gaps) != 1 {
			return
		}
		if g := gaps[0]; !g.From.Equal(down.Add(time.Millisecond)) || g.Last != "T_1@@session-1@@3" || !errors.Is(g.Err, io.EOF) || g.Attempts != 0 || g.Missed != 0 {
			t.Errorf("the gap begins as %+v", g)
		}
		time.Sleep(30 * second)
		want(t, s)
		l.start(&stomp.Broker{})
		up := time.Now()
		if err := s.Subscribed(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(up); took > 2*second+10*time.Millisecond {
			t.Errorf("subscribed again after %v", took)
		}
		l.publish(1)
		back := time.Now()
		time.Sleep(second)
		gaps = want(t, s, "gap", "5")
		if g := gaps[0]; !g.From.Equal(down.Add(time.Millisecond)) || g.Until.After(back) || back.Sub(g.Until) > 10*time.Millisecond || g.Last != "T_1@@session-1@@3" || g.Attempts < 15 {
			t.Errorf("the gap ended as %+v", g)
		}
	})
}

// TestSessionSchedule: attempts to connect keep to the schedule of the project,
// and to two seconds after the fifth.
func TestSessionSchedule(t *testing.T) {
	for _, tt := range []struct {
		name     string
		delay    func(int) time.Duration
		min, max []time.Duration // of the pauses
	}{
		{
			"default", nil,
			[]time.Duration{0, 250, 375, 562, 843, 2000, 2000, 2000},
			[]time.Duration{0, 375, 563, 844, 1266, 2000, 2000, 2000},
		},
		{
			"the caller's", func(k int) time.Duration { return time.Duration(k+1) * second },
			[]time.Duration{0, 1000, 2000, 3000, 4000, 5000, 6000},
			[]time.Duration{0, 1000, 2000, 3000, 4000, 5000, 6000},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.client.Delay = tt.delay
				s := l.open()
				time.Sleep(time.Minute)
				l.net.Set(memnet.Kill)
				last := time.Now()
				time.Sleep(time.Minute)
				dials := l.net.Dials()[1:]
				for i := range tt.min {
					pause := dials[i].At.Sub(last)
					if low, high := tt.min[i]*time.Millisecond, tt.max[i]*time.Millisecond; pause < low || pause > high+2*time.Millisecond { // which it takes to be refused
						t.Errorf("before attempt %d: %v, want %v to %v", i+1, pause, low, high)
					}
					last = dials[i].At
				}
				s.Close()
				l.net.Set(memnet.Healthy)
			})
		})
	}
}

// TestSessionFlapping: a broker that accepts and closes is treated as one that is
// away, so that it is not stormed.
func TestSessionFlapping(t *testing.T) {
	for name, fault := range map[string]stomp.Fault{
		"after CONNECTED": stomp.When(stomp.Receives("SUBSCRIBE"), stomp.Cut(0)),
		"after RECEIPT": stomp.When(stomp.Sends("RECEIPT"), func(p *stomp.Passage, next func(*stomp.Frame)) {
			next(p.Frame)
			stomp.Cut(0)(p, next)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.broker.Inject(fault)
				s := l.client.Open(t.Context(), events)
				time.Sleep(time.Minute)
				var at []time.Time
				for _, d := range l.net.Dials() {
					at = append(at, d.At)
				}
				if n := memnet.Busiest(at, second); n > 4 || len(at) < 25 || len(at) > 35 {
					t.Errorf("%d dials in a minute, %d in a second", len(at), n)
				}
				l.broker.Inject()
				if err := s.Subscribed(t.Context()); err != nil {
					t.Error(err)
				}
				time.Sleep(3 * second)
				l.publish(1)
				time.Sleep(second)
				got, _, _ := drain(t, s)
				if len(got) != 2 || got[0] != "gap" || got[1] != "1" {
					t.Errorf("a consumer that comes late gets %v", got)
				}
				s.Close()
			})
		})
	}
}

// TestSessionBrokerAbsent: a session may be opened before its broker is up.
func TestSessionBrokerAbsent(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.net.Set(memnet.Refuse)
		opened := time.Now()
		s := l.client.Open(t.Context(), events)
		ctx, cancel := context.WithTimeout(t.Context(), 3*second)
		defer cancel()
		if err := s.Subscribed(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("while it is away: %v", err)
		}
		if gaps := want(t, s, "open"); !gaps[0].From.Equal(opened) || gaps[0].Last != "" || gaps[0].Attempts != 1 {
			t.Errorf("the gap begins as %+v", gaps[0])
		}
		l.net.Set(memnet.Healthy)
		if err := s.Subscribed(t.Context()); err != nil {
			t.Error(err)
		}
		if gaps := want(t, s, "gap"); !gaps[0].From.Equal(opened) || gaps[0].Attempts < 5 {
			t.Errorf("the gap ended as %+v", gaps[0])
		}
		s.Close()
	})
}

// TestSessionMessageBeforeReceipt: a broker may send messages before the receipt
// of SUBSCRIBE. They come after the notice that the gap is over.
func TestSessionMessageBeforeReceipt(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		s := l.open()
		l.publish(1)
		time.Sleep(second)
		l.broker.Inject(stomp.When(stomp.Sends("RECEIPT"), func(p *stomp.Passage, next func(*stomp.Frame)) {
			next(&stomp.Frame{Command: "MESSAGE", Headers: []stomp.Header{{Name: "subscription", Value: "1"}}, Body: []byte("early")})
			stomp.Delay(second)(p, next)
		}))
		l.broker.Disconnect()
		time.Sleep(500 * time.Millisecond)
		want(t, s, "1", "gap", "early")
		time.Sleep(second)
		l.publish(1)
		time.Sleep(second)
		want(t, s, "2")
	})
}

// TestSessionRefused: what the broker refuses ends the session, but not at the
// first word, and later not at the fourth: it may be starting or shutting down.
func TestSessionRefused(t *testing.T) {
	wrong := func(c *stomp.Client) { c.Passcode = "wrong" }
	for _, tt := range []struct {
		name, destination, command string
		prepare                    func(*stomp.Client)
		times                      int
	}{
		{"bad credentials", events, "CONNECT", wrong, 2},
		{"bad destination", "/nonsense", "SUBSCRIBE", func(*stomp.Client) {}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				tt.prepare(l.client)
				s := l.client.Open(t.Context(), tt.destination)
				err := s.Subscribed(t.Context())
				if e, ok := errors.AsType[*stomp.Error](err); !ok || e.Command != tt.command {
					t.Errorf("got %v", err)
				}
				if end := wantEnd(t, s, "open"); end != err {
					t.Errorf("the stream ended with %v", end)
				}
				if n := len(l.net.Dials()); n != tt.times {
					t.Errorf("%d attempts", n)
				}
				s.Close()
			})
		})
	}
	t.Run("a passcode that cannot be sent", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			l.client.Passcode = "sec\nret"
			s := l.client.Open(t.Context(), events)
			err := s.Subscribed(t.Context())
			if pe, ok := errors.AsType[*stomp.ProtocolError](err); !ok || !pe.Unsent || strings.Contains(err.Error(), "sec") {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("at its shutdown and its start", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			l.broker.Inject(stomp.When(stomp.Receives("CONNECT"), stomp.First(1, stomp.Refuse("Bad CONNECT", "not now"))))
			s := l.client.Open(t.Context(), events)
			time.Sleep(100 * time.Millisecond)
			l.net.Set(memnet.Refuse)
			time.Sleep(10 * second)
			l.broker.Inject(stomp.When(stomp.Receives("CONNECT"), stomp.First(1, stomp.Refuse("Bad CONNECT", "not yet"))))
			l.net.Set(memnet.Healthy)
			if err := s.Subscribed(t.Context()); err != nil {
				t.Error(err)
			}
			s.Close()
		})
	})
	for refusals, ends := range map[int]bool{4: false, 5: true} {
		t.Run(fmt.Sprintf("%d later", refusals), func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				s := l.open()
				l.broker.Inject(stomp.When(stomp.Receives("CONNECT"), stomp.First(refusals, stomp.Refuse("Bad CONNECT", "starting"))))
				for range 3 { // refusals are counted in a row
					l.broker.Disconnect()
					time.Sleep(time.Minute)
				}
				_, _, err := drain(t, s)
				if (err != nil) != ends {
					t.Errorf("it ended with %v", err)
				}
			})
		})
	}
}

// TestSessionEnds: Close and the end of the context end a session in every state,
// quickly, and leave nothing behind, as the bubble sees.
func TestSessionEnds(t *testing.T) {
	states := map[string]func(*lab){
		"subscribed":   func(l *lab) {},
		"connecting":   func(l *lab) { l.net.Set(memnet.BlackHole) },
		"handshake":    func(l *lab) { l.net.Set(memnet.Stall) },
		"waiting":      func(l *lab) { l.net.Set(memnet.Refuse) },
		"subscribing":  func(l *lab) { l.broker.Inject(stomp.When(stomp.Sends("RECEIPT"), stomp.Drop)) },
		"mute broker":  func(l *lab) { l.broker.Inject(stomp.When(stomp.Receives("DISCONNECT"), stomp.Drop)) },
		"already over": func(l *lab) { l.client.Passcode = "wrong" },
	}
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				state(l)
				s := l.client.Open(t.Context(), events)
				time.Sleep(1100 * time.Millisecond)
				start := time.Now()
				s.Close()
				s.Close()
				if took := time.Since(start); took > time.Second {
					t.Errorf("Close took %v", took)
				}
				_, _, err := drain(t, s)
				if _, refused := errors.AsType[*stomp.Error](err); err != stomp.ErrClosed && !refused || s.Subscribed(t.Context()) != err {
					t.Errorf("it ended with %v, and is subscribed: %v", err, s.Subscribed(t.Context()))
				}

				reason := errors.New("enough")
				ctx, cancel := context.WithCancelCause(t.Context())
				s = l.client.Open(ctx, events)
				time.Sleep(1100 * time.Millisecond)
				cancel(reason)
				if _, _, err := drain(t, s); err != reason && name != "already over" {
					t.Errorf("it ended with %v", err)
				}
				l.net.Set(memnet.Healthy)
			})
		})
	}
}

// TestSessionTakesLeave: Close sends DISCONNECT, so that the broker's log is not
// full of lost connections.
func TestSessionTakesLeave(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		left := 0
		l.broker.Inject(stomp.When(stomp.Receives("DISCONNECT"), func(p *stomp.Passage, next func(*stomp.Frame)) {
			left++
			next(p.Frame)
		}))
		s := l.open()
		s.Close()
		if left != 1 {
			t.Errorf("%d DISCONNECTs", left)
		}
	})
}

// TestSessionThroughFaults publishes a message every 50 ms through a broker and a
// network that fail at random, and holds the stream to its promise: in order, and
// where messages are missing there is a gap.
func TestSessionThroughFaults(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				s := l.open()
				go breakThings(l, rnd)
				go func() {
					for range 12_000 { // ten minutes
						l.publish(1)
						if !l.pause(50 * time.Millisecond) {
							return
						}
					}
				}()
				last, gap, got, gaps := 0, false, 0, 0
				for last < 12_000 {
					d, err := s.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if d.Gap != nil {
						if gap = true; !d.Gap.Until.IsZero() {
							gaps++
						}
						continue
					}
					n := atoi(string(d.Message.Body))
					if n <= last || n > last+1 && !gap {
						t.Fatalf("%d after %d, and no gap", n, last)
					}
					last, gap, got = n, false, got+1
				}
				if gaps < 5 || got < 3000 {
					t.Errorf("%d messages and %d gaps: nothing was tested", got, gaps)
				}
			})
		})
	}
}

// breakThings makes a fault every few seconds, for nine minutes, and then heals
// everything. No fault loses a single message of a connection: of that a topic
// leaves no trace.
func breakThings(l *lab, rnd *rand.Rand) {
	end := time.Now().Add(9 * time.Minute)
	for time.Now().Before(end) {
		if !l.pause(time.Duration(rnd.IntN(15_000)) * time.Millisecond) {
			return
		}
		switch rnd.IntN(9) {
		case 0:
			l.broker.Disconnect()
		case 1:
			l.broker.Inject(stomp.When(stomp.Sends("MESSAGE"), stomp.Nth(1, stomp.Cut(rnd.IntN(150)))))
		case 2:
			l.broker.Inject(stomp.When(stomp.Sends("RECEIPT"), stomp.First(3, stomp.Drop)))
			l.broker.Disconnect()
		case 3:
			l.broker.Inject(stomp.When(stomp.Sends("MESSAGE"), stomp.First(50, stomp.Delay(100*time.Millisecond))))
		case 4:
			l.broker.Inject(stomp.When(stomp.Sends("CONNECTED"), stomp.First(1, stomp.Cut(rnd.IntN(60)))))
			l.broker.Disconnect()
		case 5:
			l.broker.Inject(stomp.When(stomp.Receives("SUBSCRIBE"), stomp.First(2, stomp.Delay(12*time.Second))))
			l.broker.Disconnect()
		default:
			l.net.Set(memnet.Fault(1 + rnd.IntN(6)))
			l.pause(time.Duration(rnd.IntN(20_000)) * time.Millisecond)
			l.net.Set(memnet.Healthy)
		}
		if rnd.IntN(4) == 0 {
			l.broker.Inject()
		}
	}
	l.broker.Inject()
}

// TestSessionLoad: 10,000 messages a second for a minute, with a consumer that
// stalls for 10 s. Nothing is lost, the consumer has caught up soon after, and
// what is kept is no more than what was not taken.
func TestSessionLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("600,000 messages")
	}
	inLab(t, func(t *testing.T, l *lab) {
		const perSecond, seconds, stall = 10_000, 60, 10
		body := make([]byte, 500) // a progress event of two motors
		s := l.open()
		before := heap()
		go func() {
			for range seconds * 100 {
				for range perSecond / 100 {
					l.broker.Publish(events, body)
				}
				if !l.pause(10 * time.Millisecond) {
					return
				}
			}
		}()
		got, most := 0, uint64(0)
		begin := time.Now()
		stalled := false
		for got < seconds*perSecond {
			d, err := s.Next(t.Context())
			if err != nil || d.Gap != nil {
				t.Fatalf("after %d messages: %+v, %v", got, d.Gap, err)
			}
			if got++; got == 20*perSecond {
				stalled = true
				time.Sleep(stall * second)
				synctest.Wait()
				most = heap() - before
			}
		}
		if took := time.Since(begin); !stalled || took > seconds*second+100*time.Millisecond {
			t.Errorf("the last of %d messages came after %v", got, took)
		}
		after := int64(heap()) - int64(before)
		t.Logf("%d MB in the stall, %d kB in the end", most>>20, after>>10)
		if most > 140<<20 || after > 4<<20 {
			t.Errorf("%d MB in the stall, %d kB in the end", most>>20, after>>10)
		}
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSessionBound: a consumer that has gone away costs no more than the queue
// may hold.
func TestSessionBound(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.client.Queue = 1 << 20
		s := l.open()
		before := heap()
		body := make([]byte, 10_000)
		for range 2000 {
			l.broker.Publish(events, body)
			time.Sleep(time.Millisecond)
			if rand.IntN(100) == 0 {
				l.broker.Disconnect() // gaps are no messages, but cost as well
			}
		}
		time.Sleep(10 * second)
		if grown := int64(heap()) - int64(before); grown > 2<<20 {
			t.Errorf("%d kB are kept", grown>>10)
		}
		runtime.KeepAlive(s)
	})
}
