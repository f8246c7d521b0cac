package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/gateway"
)

// TestStompLateSubscriber: who connects, subscribes without waiting, and starts a plan,
// misses nothing, however late the subscription arrives. With a broker, the Python
// client waits for ever then, with nothing broken.
func TestStompLateSubscriber(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Millisecond, 500 * time.Millisecond, 5 * time.Second} {
		inStomp(t, nil, func(t *testing.T, w *world) {
			early := newEar(w)
			e := dialEar(w)
			id := w.caller.submit(task("nap", `{"seconds":0.001}`))
			if a := w.caller.start(id); a.status != 200 {
				t.Fatal(a)
			}
			time.Sleep(delay)
			e.subscribe()
			time.Sleep(time.Second)
			if got := words(e.heard(), id); got != "RUNNING, IDLE, IDLE complete" {
				t.Errorf("after %v: %s", delay, got)
			}
			if got, want := words(e.heard(), ""), words(early.heard(), ""); got != want {
				t.Errorf("after %v: %s, but one who was early: %s", delay, got, want)
			}
		})
	}
}

// TestStompComesAgain: a caller that has lost its connection gets what was told
// meanwhile, no document twice, and the end once.
func TestStompComesAgain(t *testing.T) {
	inStomp(t, nil, func(t *testing.T, w *world) {
		whole := newEar(w)
		id := w.caller.submit(task("many_events", `{"n":40,"delay":0.1}`))
		if a := w.caller.start(id); a.status != 200 {
			t.Fatal(a)
		}
		var got []heard
		e := newEar(w)
		for _, away := range []time.Duration{0, 100 * time.Millisecond, 900 * time.Millisecond, 10 * time.Second} {
			time.Sleep(500 * time.Millisecond)
			e.conn.Close()
			<-e.done
			got = append(got, e.heard()...)
			time.Sleep(away)
			e = newEar(w)
		}
		time.Sleep(time.Second)
		got = append(got, e.heard()...)
		all := whole.heard()
		if n := len(all) - len(got); n < 0 || words(got, "") != words(all[n:], "") {
			t.Errorf("in parts: %s\nin one:   %s", words(got, ""), words(all, ""))
		}
		if n := len(ends(got, id)); n != 1 {
			t.Errorf("%d ends", n)
		}
		if s := w.gateway.Status().Stomp; s.Replayed == 0 || s.Gaps != 0 || s.Callers != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestStompMuchMissed: a caller that comes back gets all that it has missed and is kept,
// though it takes its time to read.
func TestStompMuchMissed(t *testing.T) {
	inStomp(t, nil, func(t *testing.T, w *world) {
		const n = 36 // of a million bytes
		conn, err := w.DialBroker(t.Context(), "tcp", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		e := newEar(w)
		e.conn.Close()
		<-e.done
		all := []byte("CONNECT\naccept-version:1.2\n\n\x00")
		for k := range n {
			all = fmt.Appendf(all, "SEND\ndestination:"+topic+"\n\n{\"name\":\"event\",\"doc\":{\"n\":%1000000d}}\x00", k)
		}
		if _, err := conn.Write(all); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		e = connectEar(w)
		defer e.conn.Close()
		e.send(subscribe)
		time.Sleep(time.Second) // all of it waits
		go e.listen()
		time.Sleep(time.Second)
		e.mu.Lock()
		if got := len(e.frames) - 1; got != n { // without CONNECTED
			t.Errorf("%d of %d", got, n)
		}
		e.mu.Unlock()
		if s := w.gateway.Status().Stomp; s.Cut > 0 || s.Gaps > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestStompSubscribesAgain: who has come back, and subscribes a second time in the same
// connection, is not told again what it was.
func TestStompSubscribesAgain(t *testing.T) {
	inStomp(t, nil, func(t *testing.T, w *world) {
		time.Sleep(time.Minute) // the gateway is not young any more
		e := newEar(w)
		e.conn.Close()
		<-e.done
		id := w.caller.submit(task("many_events", `{"n":2}`))
		w.caller.start(id)
		time.Sleep(5 * time.Second)
		e = newEar(w)
		e.send("UNSUBSCRIBE\nid:0\n\n\x00")
		e.subscribe()
		time.Sleep(time.Second)
		if got := words(e.heard(), ""); got != "RUNNING, start, descriptor, event, event, stop, IDLE, IDLE complete" {
			t.Errorf("told: %s", got)
		}
	})
}

// TestStompNeighbours: a caller that has lost its connection is told the end, though
// others, who look alike, have come from the same machine meanwhile, and were lost too.
func TestStompNeighbours(t *testing.T) {
	for _, lost := range []bool{false, true} {
		inStomp(t, nil, func(t *testing.T, w *world) {
			time.Sleep(time.Minute) // the gateway is not young any more
			e := newEar(w)
			id := w.caller.submit(task("nap", `{"seconds":2}`))
			w.caller.start(id)
			e.conn.Close()
			<-e.done
			time.Sleep(time.Second)
			neighbour := newEar(w)
			time.Sleep(2 * time.Second)
			if lost {
				neighbour.conn.Close()
				<-neighbour.done
			}
			time.Sleep(2 * time.Second)
			if e = newEar(w); !e.endOf(id, time.Second) {
				t.Errorf("no end; the neighbour was lost: %v", lost)
			}
			time.Sleep(time.Minute)
			if n := len(ends(e.heard(), id)); n != 1 {
				t.Errorf("%d ends; the neighbour was lost: %v", n, lost)
			}
		})
	}
}

// TestStompMuchWasTold: a caller that has lost its connection is told the end, though
// more was told since than is kept.
func TestStompMuchWasTold(t *testing.T) {
	inStomp(t, padded, func(t *testing.T, w *world) {
		time.Sleep(time.Minute) // the gateway is not young any more
		e := newEar(w)
		id := w.caller.submit(nap)
		w.caller.start(id)
		e.conn.Close()
		<-e.done
		time.Sleep(2 * time.Second)
		if a := w.caller.start(w.caller.submit(task("many_events", `{"n":70,"delay":0.1}`))); a.status != 200 {
			t.Fatal(a)
		}
		time.Sleep(10 * time.Second)
		e = newEar(w)
		time.Sleep(time.Second)
		if got := e.heard(); len(ends(got, id)) != 1 || len(got) < 60 {
			t.Errorf("%d ends, %d messages: %+v", len(ends(got, id)), len(got), w.gateway.Status().Stomp)
		}
	})
}

// TestStompTakesLeave: a caller that has taken leave begins anew.
func TestStompTakesLeave(t *testing.T) {
	inStomp(t, nil, func(t *testing.T, w *world) {
		time.Sleep(time.Minute) // the gateway is not young any more
		e := newEar(w)
		id := w.caller.submit(nap)
		w.caller.start(id)
		e.endOf(id, 5*time.Second)
		e.send("DISCONNECT\nreceipt:bye\n\n\x00") // without UNSUBSCRIBE
		before := time.Now()
		if <-e.done; time.Since(before) > time.Second {
			t.Errorf("let go after %v", time.Since(before))
		}
		if got := e.frames[len(e.frames)-1]; got.Command != "RECEIPT" || got.Get("receipt-id") != "bye" {
			t.Errorf("the last frame is %v", got)
		}
		e = newEar(w)
		time.Sleep(time.Second)
		if got := words(e.heard(), ""); got != "" {
			t.Errorf("told: %s", got)
		}
	})
}

// TestStompRefusedStart: who has come for a plan that is refused is let go at once, by a
// gateway that has just been started too.
func TestStompRefusedStart(t *testing.T) {
	inStomp(t, nil, func(t *testing.T, w *world) {
		w.caller.start(w.caller.submit(longNap))
		e := newEar(w)
		if a := w.caller.start(w.caller.submit(nap)); a.status != 409 {
			t.Fatal(a)
		}
		before := time.Now()
		if e.leave(); time.Since(before) > time.Second {
			t.Errorf("let go after %v", time.Since(before))
		}
	})
}

type starts struct {
	mu   sync.Mutex
	runs []blueapi.Entry // the last of each
}

func (s *starts) Record(_ context.Context, e blueapi.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = append(slices.DeleteFunc(s.runs, func(r blueapi.Entry) bool { return r.RunID == e.RunID }), e)
	return nil
}

// begun are the runs that were started and have no end.
func (s *starts) begun() (all []blueapi.Attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.runs {
		if e.Step == blueapi.StepStarted {
			all = append(all, blueapi.Attachment{RunID: e.RunID, TaskID: e.TaskID, EnvironmentID: e.EnvironmentID, Step: e.Step, At: e.At})
		}
	}
	return all
}

// following makes the gateway that comes after the world's, which has ended.
func following(t *testing.T, w *world, kept *starts) *gateway.Gateway {
	g := w.gateway
	next := &gateway.Gateway{Upstream: g.Upstream, Transport: g.Transport, Broker: g.Broker, Log: g.Log, Journal: kept, Begun: kept.begun()}
	t.Cleanup(func() { next.Close() })
	serveStomp(t, w, next.ServeStomp)
	return next
}

// TestStompOldEnd: what had ended before a gateway was started is told to nobody, if
// those who listened to the one before it were told, if nobody did, or if it was not
// started there.
func TestStompOldEnd(t *testing.T) {
	for name, tc := range map[string]struct{ listens, elsewhere, read, brokerless bool }{
		"told": {listens: true}, "told by record": {listens: true, brokerless: true}, "heard of": {},
		"read": {read: true, brokerless: true}, "another's": {elsewhere: true},
	} {
		t.Run(name, func(t *testing.T) {
			kept := &starts{}
			inStomp(t, func(w *world) {
				if w.gateway.Journal = kept; tc.brokerless {
					w.gateway.Broker = nil
				}
			}, func(t *testing.T, w *world) {
				time.Sleep(time.Minute) // nobody comes back
				var e *ear
				if tc.listens {
					e = newEar(w)
				}
				id := ""
				if tc.elsewhere {
					w.gateway.Close()
					other := &blueapi.Client{URL: "http://blueapi.example", Transport: w.gateway.Transport}
					defer other.Close()
					if _, err := other.Run(t.Context(), blueapi.TaskRequest{Name: "nap", Params: json.RawMessage(`{"seconds":0.5}`), InstrumentSession: "cm1-1"}); err != nil {
						t.Fatal(err)
					}
				} else {
					id = w.caller.submit(nap)
					w.caller.start(id)
				}
				if tc.read {
					w.caller.await(id)
				}
				time.Sleep(3 * time.Second)
				if e != nil {
					e.leave()
				}
				w.gateway.Close()
				if left := kept.begun(); len(left) > 0 {
					t.Errorf("no end of %v", left)
				}
				next := following(t, w, kept)
				e = newEar(w)
				time.Sleep(time.Minute)
				if s := next.Status().Stomp; s.Healed != 0 {
					t.Errorf("%+v", s)
				}
				if got := words(e.heard(), ""); got != "" {
					t.Errorf("told: %s", got)
				}
			})
		})
	}
}

// TestStompAnotherGateway: who has lost a gateway that was killed is told the end by the
// one that comes after it, whether the plan has ended by then or not.
func TestStompAnotherGateway(t *testing.T) {
	for _, seconds := range []string{"0.5", "30"} {
		kept := &starts{}
		inStomp(t, func(w *world) { w.gateway.Journal = kept }, func(t *testing.T, w *world) {
			e := newEar(w)
			id := w.caller.submit(task("nap", `{"seconds":`+seconds+`}`))
			if a := w.caller.start(id); a.status != 200 {
				t.Fatal(a)
			}
			w.gateway.Close()
			<-e.done
			if len(ends(e.heard(), id)) > 0 {
				t.Fatal("too late")
			}
			time.Sleep(time.Second)
			following(t, w, kept)
			time.Sleep(10 * time.Second) // as bluesky-stomp does
			e = newEar(w)
			came := time.Now()
			time.Sleep(5 * time.Second)
			another := newEar(w)
			if !e.endOf(id, time.Minute) {
				t.Errorf("no end after %s s", seconds)
			}
			if !another.endOf(id, time.Minute) {
				t.Errorf("no end after %s s for the second who came", seconds)
			}
			if seconds == "0.5" { // the Python client would hang, if it were let go at once
				e.leave()
				if took := time.Since(came); took < 10*time.Second || took > 12*time.Second {
					t.Errorf("let go after %v", took)
				}
			}
			time.Sleep(time.Minute)
			if n := len(ends(e.heard(), id)); n != 1 {
				t.Errorf("%d ends", n)
			}
		})
	}
}
