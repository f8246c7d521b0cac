package stomp_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

const kept = "events/kept" // a stream

// makeStream makes the stream, with a few messages that are older than any session.
func (l *lab) makeStream(old int) {
	l.t.Helper()
	if err := l.client.MakeStream(l.t.Context(), kept, events, 1e9); err != nil {
		l.t.Fatal(err)
	}
	for k := range old {
		l.broker.Publish(events, []byte("old "+strconv.Itoa(k)))
	}
}

// openStream opens a session and waits until it is subscribed.
func (l *lab) openStream() *stomp.Session {
	l.t.Helper()
	s := l.client.OpenStream(l.t.Context(), kept, events)
	l.t.Cleanup(func() { s.Close() })
	if err := s.Subscribed(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// numbers are the messages' words from first to last.
func numbers(first, last int) (words []string) {
	for n := first; n <= last; n++ {
		words = append(words, strconv.Itoa(n))
	}
	return words
}

// TestStreamReplays: the network fails in every way for 30 s, and the broker goes on
// publishing. All comes, once and in order, and what was old before the session does
// not.
func TestStreamReplays(t *testing.T) {
	for fault := memnet.Kill; fault <= memnet.Stall; fault++ {
		for _, old := range []int{1, 4, 5, 50} {
			t.Run(fmt.Sprintf("%v with %d before", fault, old), func(t *testing.T) {
				inLab(t, func(t *testing.T, l *lab) {
					l.makeStream(old)
					s := l.openStream()
					l.publish(3)
					time.Sleep(second)
					want(t, s, "1", "2", "3")
					l.net.Set(fault)
					for range 300 {
						l.publish(1)
						time.Sleep(100 * time.Millisecond)
					}
					want(t, s, "open")
					l.net.Set(memnet.Healthy)
					time.Sleep(30 * second) // a dial that hung is ended by then
					l.publish(1)
					time.Sleep(second)
					gaps := want(t, s, append([]string{"gap"}, numbers(4, 304)...)...)
					if len(gaps) == 1 && (gaps[0].Replayed == (fault == memnet.Kill) || gaps[0].Missed != 0) { // the broker may have been down
						t.Errorf("the gap is %+v", gaps[0])
					}
				})
			})
		}
	}
}

// TestStreamIdle: the connection is lost before the session has had a message. What
// was sent since Subscribed is replayed all the same.
func TestStreamIdle(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.makeStream(6)
		s := l.openStream()
		time.Sleep(time.Hour)
		l.net.Set(memnet.Reset)
		time.Sleep(second)
		l.publish(10)
		l.net.Set(memnet.Healthy)
		time.Sleep(3 * second)
		if gaps := want(t, s, append([]string{"gap"}, numbers(1, 10)...)...); len(gaps) == 1 && !gaps[0].Replayed {
			t.Errorf("the gap is %+v", gaps[0])
		}
	})
}

// TestStreamEmpty: nobody can say where an empty stream was left. It takes a second to
// be sure that there is nothing, and what is sent while the connection is away may be
// missing, and is said to be.
func TestStreamEmpty(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.makeStream(0)
		start := time.Now()
		s := l.openStream()
		if took := time.Since(start); took > 1100*time.Millisecond {
			t.Errorf("subscribed after %v", took)
		}
		l.net.Set(memnet.Kill)
		time.Sleep(second)
		l.publish(1)
		l.net.Set(memnet.Healthy)
		time.Sleep(3 * second)
		l.publish(1)
		time.Sleep(second)
		if gaps := want(t, s, "gap", "2"); len(gaps) == 1 && gaps[0].Replayed {
			t.Errorf("the gap is %+v", gaps[0])
		}
		l.broker.Disconnect()
		l.publish(1)
		time.Sleep(3 * second)
		if gaps := want(t, s, "gap", "3"); len(gaps) == 1 && !gaps[0].Replayed {
			t.Errorf("the gap is %+v", gaps[0])
		}
	})
}

// TestStreamIsNotWhatItWas: the stream has dropped what was not read, or was deleted
// and made again. That is said, and the session goes on.
func TestStreamIsNotWhatItWas(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*lab)
		then   []string
	}{
		"dropped":              {func(l *lab) { l.publish(20); l.broker.Forget(kept, 5) }, numbers(19, 23)},
		"read, and dropped":    {func(l *lab) { l.broker.Forget(kept, 0); l.publish(2) }, numbers(4, 5)},
		"made anew, shorter":   {func(l *lab) { l.broker.DeleteStream(kept); l.makeStream(0); l.publish(2) }, nil},
		"made anew, longer":    {func(l *lab) { l.broker.DeleteStream(kept); l.makeStream(0); l.publish(50) }, nil},
		"made anew, and empty": {func(l *lab) { l.broker.DeleteStream(kept); l.makeStream(0) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.makeStream(5)
				s := l.openStream()
				l.publish(3)
				time.Sleep(second)
				want(t, s, "1", "2", "3")
				l.broker.Inject(stomp.When(stomp.Receives("SUBSCRIBE"), func(p *stomp.Passage, next func(*stomp.Frame)) {
					if strings.HasPrefix(p.Frame.Get("x-stream-offset"), "offset=") { // the session's
						stomp.Cut(0)(p, next)
						return
					}
					next(p.Frame)
				}))
				l.broker.Disconnect()
				tt.change(l)
				l.broker.Inject()
				time.Sleep(15 * second)
				gaps := want(t, s, append([]string{"gap"}, tt.then...)...)
				if len(gaps) == 1 && (gaps[0].Replayed || gaps[0].Err == nil) {
					t.Errorf("the gap is %+v", gaps[0])
				}
				from := l.sent + 1
				l.publish(3)
				time.Sleep(second)
				want(t, s, numbers(from, l.sent)...)
				l.broker.Disconnect()
				l.publish(3)
				time.Sleep(second)
				if gaps := want(t, s, append([]string{"gap"}, numbers(from+3, l.sent)...)...); len(gaps) == 1 && !gaps[0].Replayed {
					t.Errorf("the gap is %+v", gaps[0])
				}
			})
		})
	}
}

// TestStreamRefused: without a stream the session is subscribed to the topic soon
// after, and says why once.
func TestStreamRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		broker *stomp.Broker
		fault  stomp.Fault
		code   string
	}{
		"there is none":   {new(stomp.Broker), nil, "not_found"},
		"not allowed":     {new(stomp.Broker), stomp.When(readsQueue, stomp.Refuse("access_refused", "")), "access_refused"},
		"not a stream":    {new(stomp.Broker), stomp.When(sendsStream, stomp.Instead(message("subscription", "1"))), ""},
		"not RabbitMQ":    {&stomp.Broker{Server: "ActiveMQ/6.1"}, nil, ""},
		"it does not say": {&stomp.Broker{Server: " "}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.broker.Close()
				synctest.Wait()
				l.start(tt.broker)
				if name == "not a stream" {
					l.makeStream(5)
				}
				if tt.fault != nil {
					l.broker.Inject(tt.fault)
				}
				start := time.Now()
				s := l.openStream()
				if took := time.Since(start); took > 500*time.Millisecond {
					t.Errorf("subscribed after %v", took)
				}
				l.publish(1)
				time.Sleep(second)
				gaps := want(t, s, "gap", "1")
				refused, ok := errors.AsType[*stomp.StreamError](gaps[0].Err)
				why, said := errors.AsType[*stomp.Error](gaps[0].Err)
				if !ok || refused.Stream != kept || said != (tt.code != "") || said && why.Message != tt.code {
					t.Errorf("the gap is %+v", gaps[0])
				}
				l.broker.Disconnect()
				time.Sleep(second)
				l.publish(1)
				time.Sleep(second)
				gaps = want(t, s, "gap", "2")
				if _, again := errors.AsType[*stomp.StreamError](gaps[0].Err); again || gaps[0].Replayed {
					t.Errorf("the second gap is %+v", gaps[0])
				}
			})
		})
	}
}

func readsQueue(p *stomp.Passage) bool {
	return stomp.Receives("SUBSCRIBE")(p) && strings.HasPrefix(p.Frame.Get("destination"), "/amq/queue/")
}

func sendsStream(p *stomp.Passage) bool {
	return stomp.Sends("MESSAGE")(p) && p.Frame.Get("x-stream-offset") != ""
}

func message(header, value string) *stomp.Frame {
	return &stomp.Frame{Command: "MESSAGE", Headers: []stomp.Header{{Name: header, Value: value}}}
}

// TestStreamRefusedLater: a broker that has just started does not know its streams at
// once, and may have dropped what it was sent. It is asked ten times.
func TestStreamRefusedLater(t *testing.T) {
	for refusals, lost := range map[int]bool{9: false, 10: true} {
		t.Run(fmt.Sprint(refusals), func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.makeStream(5)
				s := l.openStream()
				l.broker.Inject(stomp.When(readsQueue, stomp.First(refusals, stomp.Refuse("not_found", ""))))
				l.broker.Disconnect()
				l.publish(5)
				time.Sleep(20 * second)
				l.publish(5)
				time.Sleep(second)
				words := append([]string{"gap"}, numbers(1, 10)...)
				if lost {
					words = append([]string{"gap"}, numbers(6, 10)...)
				}
				gaps := want(t, s, words...)
				if _, told := errors.AsType[*stomp.StreamError](gaps[0].Err); told != lost || gaps[0].Replayed {
					t.Errorf("the gap is %+v", gaps[0])
				}
			})
		})
	}
}

// TestStreamDeleted: a stream is deleted under its session.
func TestStreamDeleted(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.makeStream(5)
		s := l.openStream()
		l.broker.DeleteStream(kept)
		time.Sleep(20 * second)
		l.publish(1)
		time.Sleep(second)
		gaps := want(t, s, "gap", "1")
		if _, told := errors.AsType[*stomp.StreamError](gaps[0].Err); !told || gaps[0].Replayed {
			t.Errorf("the gap is %+v", gaps[0])
		}
	})
}

// TestStreamSlowConsumer: a consumer that takes nothing has a bounded number of
// messages waiting, and finds all the others when it goes on.
func TestStreamSlowConsumer(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.makeStream(1)
		s := l.openStream()
		quick := l.openStream() // its place is its own
		var sent, acks atomic.Int64
		l.broker.Inject(func(p *stomp.Passage, next func(*stomp.Frame)) {
			switch {
			case stomp.Sends("MESSAGE")(p):
				sent.Add(1)
			case stomp.Receives("ACK")(p):
				acks.Add(1)
			}
			next(p.Frame)
		})
		for n := 1; n <= 20_000; n++ {
			l.publish(1)
			if n%100 == 0 {
				time.Sleep(10 * time.Millisecond)
				want(t, quick, numbers(n-99, n)...)
			}
		}
		if ahead := sent.Load() - 20_000; ahead < 900 || ahead > 1100 {
			t.Errorf("%d messages were sent to a consumer that takes none", ahead)
		}
		for n := 1; n <= 20_000; n++ {
			if n%100 == 0 {
				time.Sleep(10 * time.Millisecond)
				if ahead := int(sent.Load()) - 20_000 - n; ahead > 1100 {
					t.Fatalf("%d messages were sent ahead of the %dth", ahead, n)
				}
			}
			d, err := s.Next(t.Context())
			if err != nil || d.Message == nil || string(d.Message.Body) != strconv.Itoa(n) {
				t.Fatalf("%d: %+v, %v", n, d, err)
			}
		}
		if n := acks.Load(); n > 2*20_000/250 {
			t.Errorf("%d ACKs for 40,000 messages", n)
		}
	})
}

// TestStreamLargeMessages: messages that are too large are missed, however many, and the
// broker sends on.
func TestStreamLargeMessages(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.client.Limits.Body = 1000
		l.makeStream(1)
		s := l.openStream()
		l.publish(1)
		for range 5000 {
			l.broker.Publish(events, make([]byte, 1001))
		}
		l.publish(1)
		time.Sleep(second)
		gaps := want(t, s, "1", "gap") // as long as the first waits, no more is sent
		time.Sleep(second)
		gaps = append(gaps, want(t, s, "gap", "2")...)
		missed := 0
		for _, g := range gaps {
			_, limit := errors.AsType[*stomp.LimitError](g.Err)
			if missed += g.Missed; !limit || g.Replayed {
				t.Errorf("gap %+v", g)
			}
		}
		if missed != 5000 {
			t.Errorf("%d are missed", missed)
		}
	})
}

// TestStreamGapsJoin: of several gaps with no message between them the consumer gets
// one, which says that nothing is missing only if each of them does.
func TestStreamGapsJoin(t *testing.T) {
	lose := func(l *lab) { l.broker.Disconnect() }
	refuse := func(l *lab) {
		l.broker.Inject(stomp.When(readsQueue, stomp.First(1, stomp.Refuse("not_found", ""))))
		l.broker.Disconnect()
	}
	large := func(l *lab) { l.broker.Publish(events, make([]byte, 2000)) }
	for name, tt := range map[string]struct {
		first, second func(*lab)
		whole         bool
	}{
		"both replayed":       {lose, lose, true},
		"the second":          {refuse, lose, false},
		"the first":           {lose, refuse, false},
		"a message was large": {large, lose, false},
		"and is":              {lose, large, false},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.client.Limits.Body = 1000
				l.makeStream(1)
				s := l.openStream()
				tt.first(l)
				time.Sleep(10 * second)
				tt.second(l)
				time.Sleep(10 * second)
				if gaps := want(t, s, "gap"); len(gaps) == 1 && gaps[0].Replayed != tt.whole {
					t.Errorf("gap %+v", gaps[0])
				}
			})
		})
	}
}

// TestStreamNoRoom: messages that have no room in the queue are asked for again.
func TestStreamNoRoom(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.client.Queue = 50 << 10
		l.makeStream(1)
		s := l.openStream()
		l.publish(2000)
		last, waits := 0, 0
		for last < 2000 {
			d, err := s.Next(t.Context())
			switch {
			case err != nil:
				t.Fatal(err)
			case d.Gap == nil:
				if n := atoi(string(d.Message.Body)); n != last+1 {
					t.Fatalf("%d after %d", n, last)
				}
				last++
			case d.Gap.Until.IsZero():
				if waits++; !errors.Is(d.Gap.Err, stomp.ErrFull) {
					t.Fatal(d.Gap.Err)
				}
			case !d.Gap.Replayed:
				t.Fatalf("%+v", d.Gap)
			}
			if last%100 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		if waits == 0 {
			t.Error("there was always room")
		}
		time.Sleep(10 * second)
	})
}

// TestMakeStream: a stream is made if the broker has said twice that there is none,
// and otherwise nothing is sent that could delete one.
func TestMakeStream(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(*lab)
		makes   int
		fails   bool
	}{
		{"none", func(*lab) {}, 1, false},
		{"there is one", func(l *lab) { l.makeStream(1) }, 0, false},
		{"the broker starts", func(l *lab) {
			l.makeStream(1)
			l.broker.Inject(stomp.When(readsQueue, stomp.First(1, stomp.Refuse("not_found", "home node is down"))))
		}, 0, false},
		{"it cannot be read", func(l *lab) {
			l.makeStream(1)
			l.broker.Inject(stomp.When(readsQueue, stomp.Refuse("precondition_failed", "no replica")))
		}, 0, true},
		{"not RabbitMQ", func(l *lab) { l.broker.Server = "artemis" }, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				tt.prepare(l)
				makes := 0
				l.broker.Inject(func(p *stomp.Passage, next func(*stomp.Frame)) {
					if !p.Sent && p.Frame.Get("x-queue-type") != "" {
						makes++
					}
					next(p.Frame)
				})
				err := l.client.MakeStream(t.Context(), kept, events, 1e9)
				refused, ok := errors.AsType[*stomp.StreamError](err)
				if makes != tt.makes || tt.fails != ok || ok != (err != nil) || ok && refused.Stream != kept {
					t.Errorf("%d were made: %v", makes, err)
				}
			})
		})
	}
}
