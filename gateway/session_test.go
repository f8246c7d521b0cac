package gateway_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// session returns the record of the only session, once it has ended.
func (w *world) session() gateway.Record {
	w.Helper()
	for range 600 {
		if all := w.did("GET", "/api/v2/run_plan"); len(all) > 0 {
			return all[0]
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.Fatal("the session does not end")
	return gateway.Record{}
}

// untilRunning waits until the only plan runs.
func (w *world) untilRunning() {
	w.Helper()
	for range 600 {
		if len(w.Runs()) == 1 && w.caller.get("/worker/state").body == `"RUNNING"` {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.Fatal("it does not run")
}

// takeLeave sends a close frame and waits for no answer.
func takeLeave(conn net.Conn) error {
	_, err := conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8})
	return err
}

// losses are the ways in which a connection ends without a close frame.
func losses() map[string]func(net.Conn) error {
	return map[string]func(net.Conn) error{
		"end of stream": net.Conn.Close,
		"reset":         func(c net.Conn) error { c.(*memnet.Conn).Reset(); return nil },
		"half closed": func(c net.Conn) error {
			c.(*memnet.Conn).CutAfter(0, io.EOF)
			_, err := c.Write([]byte{0})
			return err
		},
	}
}

// TestPromise5LostCaller: the plan of a caller whose connection is lost goes on; with
// AbortOnLoss it is aborted, as by the server.
func TestPromise5LostCaller(t *testing.T) {
	for name, lose := range losses() {
		for _, aborted := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " aborts"}[aborted], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, func(w *world) { brokered(w); w.gateway.AbortOnLoss = aborted })
					conn := w.bare(`{"task":` + task("many_events", `{"n":60,"delay":0.1}`) + `}`)
					go func() { _, _ = io.Copy(io.Discard, conn) }()
					w.untilRunning()
					if err := lose(conn); err != nil {
						t.Fatal(err)
					}
					r := w.session()
					conn.Close()
					if !r.Gone || r.Status != 101 || (r.Deed == gateway.Aborted) != aborted {
						t.Errorf("%+v", r)
					}
					if aborted {
						w.wasAborted()
					} else {
						w.goesOn("many_events")
					}
				})
			})
		}
	}
}

// wasAborted holds that the only plan that ran was.
func (w *world) wasAborted() {
	w.Helper()
	runs := w.Runs()
	if len(runs) != 1 {
		w.Fatalf("%+v", runs)
	}
	if t := w.caller.await(runs[0].TaskID); t.Outcome == nil || t.Outcome.Type != "RunEngineInterrupted" {
		w.Errorf("%+v", t)
	}
	for _, x := range w.Exchanges() {
		if x.Method == http.MethodPut && strings.HasSuffix(x.URL.Path, "/worker/state") && string(x.Body) != `{"new_state":"ABORTING","defer":false,"reason":"Client disconnected"}` {
			w.Errorf("%s", x.Body)
		}
	}
}

// TestPromise6Leave: a caller who takes leave has its plan aborted, and nobody else's,
// whenever that is.
func TestPromise6Leave(t *testing.T) {
	for _, body := range []string{longNap, slowStart, task("many_events", `{"n":600,"delay":0.1}`)} {
		for after := time.Duration(0); after < 40*time.Millisecond; after += time.Millisecond {
			if !everything() && after > 10*time.Millisecond && after%(7*time.Millisecond) != 0 {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				conn := w.bare(`{"task":` + body + `}`)
				defer conn.Close()
				time.Sleep(after)
				if err := takeLeave(conn); err != nil {
					t.Fatal(err)
				}
				r := w.session()
				over := body == slowStart // it may be before it can be aborted
				if !r.Gone || r.Verdict != "" || !over && (r.Deed == gateway.Aborted) != (len(w.Runs()) == 1) {
					t.Errorf("after %v: %+v, %d runs", after, r, len(w.Runs()))
				}
				if len(w.Runs()) == 1 && !over {
					w.wasAborted()
				}
				// One that was just being stored may stay, and is never started.
				if a := w.caller.get("/tasks?task_status=PENDING"); len(w.Runs()) == 1 && a.body != `{"tasks":[]}` {
					t.Errorf("after %v: left: %v", after, a)
				}
				next := w.caller.submit(nap)
				if a := w.caller.start(next); a.status != 200 {
					t.Errorf("after %v: the next: %v", after, a)
				}
				if task := w.caller.await(next); task.Outcome == nil || task.Outcome.Kind != "success" {
					t.Errorf("after %v: the next: %+v", after, task)
				}
			})
		}
	}
}

// TestLeaveAtTheEnd: to take leave when the plan has just ended hits no other plan.
func TestLeaveAtTheEnd(t *testing.T) {
	for after := 490 * time.Millisecond; after < 540*time.Millisecond; after += time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			conn := w.bare(`{"task":` + nap + `}`)
			defer conn.Close()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			time.Sleep(400 * time.Millisecond)
			next := w.caller.submit(longNap)
			go func() { // as soon as it can be
				for w.caller.start(next).status != 200 {
					time.Sleep(time.Millisecond)
				}
			}()
			time.Sleep(after - 400*time.Millisecond)
			_ = takeLeave(conn) // if the session has not ended
			w.session()
			time.Sleep(time.Second)
			if task, _ := w.caller.read(next); task.IsPending || task.IsComplete {
				t.Errorf("after %v: %+v", after, task)
			}
		})
	}
}

// TestLostCallersEnd: the end of a plan that goes on without its caller is kept.
func TestLostCallersEnd(t *testing.T) {
	kept := &starts{}
	inStomp(t, func(w *world) { w.gateway.Journal = kept }, func(t *testing.T, w *world) {
		conn := w.bare(`{"task":` + task("nap", `{"seconds":3}`) + `}`)
		w.untilRunning()
		conn.Close()
		time.Sleep(10 * time.Second)
		if left := kept.begun(); len(left) > 0 || len(w.Runs()) != 1 {
			t.Errorf("no end of %v", left)
		}
	})
}

// TestLostBeforeAnythingWasSent: a caller that is lost while nothing can be sent takes its
// request back, though it was tried before.
func TestLostBeforeAnythingWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.Inject(sim.When(sim.Request("POST", "/tasks"), sim.First(1, refusing(w))))
		conn := w.bare(`{"task":` + nap + `}`)
		time.Sleep(700 * time.Millisecond)
		conn.Close()
		time.Sleep(time.Minute)
		if r := w.session(); !r.Gone || len(w.Runs()) != 0 {
			t.Errorf("%+v, %d runs", r, len(w.Runs()))
		}
		if a := w.caller.get("/tasks"); a.body != `{"tasks":[]}` {
			t.Errorf("left: %v", a)
		}
	})
}

// TestLeaveWhileAPlanStarts: a plan that the worker has taken, and makes for longer than a
// command waits for that, is aborted when it has begun.
func TestLeaveWhileAPlanStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.Plans = []sim.Plan{{
				Name:    "prepare",
				Prelude: func(ctx context.Context, _ sim.Args) error { return sim.Sleep(ctx, 30*time.Second) },
				Run:     func(ctx context.Context, _ sim.Args) (any, error) { return nil, sim.Sleep(ctx, time.Hour) },
			}}
		})
		conn := w.bare(`{"task":` + task("prepare", "{}") + `}`)
		defer conn.Close()
		time.Sleep(8 * time.Second)
		if err := takeLeave(conn); err != nil {
			t.Fatal(err)
		}
		if r := w.session(); r.Deed != gateway.Aborted || r.Verdict != "" {
			t.Errorf("%+v", r)
		}
		w.wasAborted()
	})
}

// TestLeaveDuringOutage: the server is away when the caller takes leave: its plan is
// aborted when that is back.
func TestLeaveDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		conn := w.bare(`{"task":` + longNap + `}`)
		defer conn.Close()
		w.untilRunning()
		w.Network().Set(memnet.Kill)
		time.Sleep(time.Second)
		if err := takeLeave(conn); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		w.Network().Set(memnet.Healthy)
		if r := w.session(); r.Deed != gateway.Aborted || r.Verdict != "" {
			t.Errorf("%+v", r)
		}
		w.wasAborted()
	})
}

// TestBrokerAway: a caller is told the end although the broker is away, at once or later.
func TestBrokerAway(t *testing.T) {
	for name, when := range map[string]time.Duration{"before": 0, "meanwhile": 700 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) {
					w.gateway.Broker = &blueapi.Broker{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
						if when == 0 {
							return nil, io.EOF
						}
						return w.DialBroker(ctx, network, addr)
					}}
				})
				conn, _, err := w.caller.open()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.CloseNow()
				say(t, conn, `{"task":`+task("returns", `{"value":42}`)+`}`)
				if when != 0 {
					time.Sleep(when)
					w.Network().SetAt("broker.sim:61613", memnet.Kill)
				}
				got := rest(conn)
				if len(got.finals()) != 1 || !strings.Contains(got.finals()[0], `"result":42`) || got.code != 1000 {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// TestEndEventLost: a caller is told the end although the event that says so is lost.
func TestEndEventLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, brokered)
		w.InjectBroker(loseEnd())
		got := w.caller.runPlan(nap)
		if len(got.finals()) != 1 || got.code != 1000 {
			t.Errorf("%+v", got)
		}
		if want := []string{"RUNNING", "IDLE", "IDLE"}; len(got.frames) != len(want) {
			t.Errorf("%q", got.frames)
		}
	})
}

// TestPausedUnseen: the end of the session of a paused plan is told although the server's
// word of that is lost.
func TestPausedUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, brokered)
		w.InjectBroker(loseEnd())
		go func() {
			time.Sleep(500 * time.Millisecond)
			w.caller.state("PAUSED")
		}()
		got := w.caller.runPlan(longNap)
		if len(got.finals()) != 1 || !strings.Contains(got.finals()[0], `"state":"PAUSED"`) || got.code != 1000 {
			t.Errorf("%+v", got)
		}
		if a := w.caller.state("ABORTING"); a.status != 202 {
			t.Error(a)
		}
	})
}

// padded makes each event document a mebibyte.
func padded(w *world) {
	padding := bytes.Repeat([]byte("x"), 1<<20)
	w.InjectBroker(stomp.When(stomp.Sends("MESSAGE"), func(p *stomp.Passage, next func(*stomp.Frame)) {
		f := *p.Frame
		f.Body = bytes.Replace(f.Body, []byte(`"filled":{}`), slices.Concat([]byte(`"filled":{"`), padding, []byte(`":true}`)), 1)
		f.Headers = slices.DeleteFunc(slices.Clone(f.Headers), func(h stomp.Header) bool { return h.Name == "content-length" })
		next(&f)
	}))
}

// TestSlowCaller: a caller who takes nothing holds up neither the plan nor others, and
// is given up when too much waits for it.
func TestSlowCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, brokered)
		padded(w)
		conn, _, err := w.caller.open()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		conn.SetReadLimit(2 << 20)
		say(t, conn, `{"task":`+task("many_events", `{"n":100,"delay":0.1}`)+`}`)
		w.untilRunning()
		time.Sleep(9 * time.Second)
		if other := w.caller.get("/worker/state"); other.body != `"RUNNING"` || other.took > time.Second {
			t.Errorf("%v after %v", other, other.took)
		}
		got := rest(conn)
		if id := w.Runs()[0].TaskID; got.code != websocket.StatusPolicyViolation || !strings.HasPrefix(got.reason, "task "+id+" goes on") || len(got.frames) > 20 {
			t.Errorf("%d frames, %d %s", len(got.frames), got.code, got.reason)
		}
		if r := w.session(); !r.Gone || r.Deed != "" || r.Verdict != "" {
			t.Errorf("%+v", r)
		}
		w.goesOn("many_events")
	})
}

// TestSessionClosed: a gateway that is closed tells those whose plans it has run, and the
// plans go on.
func TestSessionClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, brokered)
		conn, _, err := w.caller.open()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		say(t, conn, `{"task":`+task("nap", `{"seconds":20}`)+`}`)
		w.untilRunning()
		idle, _, err := w.caller.open()
		if err != nil {
			t.Fatal(err)
		}
		defer idle.CloseNow()
		go w.gateway.Close()
		got := rest(conn)
		if id := w.Runs()[0].TaskID; got.code != websocket.StatusServiceRestart || !strings.Contains(got.reason, "task "+id+" goes on") {
			t.Errorf("%+v", got)
		}
		if got := rest(idle); got.code != websocket.StatusServiceRestart {
			t.Errorf("%+v", got)
		}
		w.next(nil)
		w.goesOn("nap")
	})
}

// TestSessionClosedWhileAway: a gateway that is closed does not wait for a server that is
// away, though its callers would.
func TestSessionClosedWhileAway(t *testing.T) {
	for name, busy := range map[string]bool{"opening": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) { w.gateway.Wait = 10 * time.Minute })
				w.caller.get("/environment")
				if busy {
					w.caller.start(w.caller.submit(longNap))
					w.Inject(sim.When(sim.Request("DELETE", "/tasks/*"), func(*sim.Exchange, func() sim.Answer) sim.Answer {
						w.Network().Set(memnet.Kill)
						return sim.Answer{End: sim.Reset}
					}))
				} else {
					w.Network().Set(memnet.Kill)
				}
				var caller sync.WaitGroup
				caller.Go(func() { w.attempt(nap) })
				time.Sleep(5 * time.Second)
				begin := time.Now()
				w.gateway.Close()
				if took := time.Since(begin); took > 10*time.Second {
					t.Errorf("closed after %v", took)
				}
				caller.Wait()
			})
		})
	}
}

// TestSessionUnknown: what nobody knows is told so, and which task it is about.
func TestSessionUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.Inject(sim.When(put(), sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			next()
			w.Restart(time.Second)
			return sim.Answer{End: sim.Reset}
		})))
		got := w.caller.runPlan(longNap)
		if len(got.finals()) != 0 || got.code != websocket.StatusInternalError || !strings.HasPrefix(got.reason, "task "+w.Runs()[0].TaskID+": not known whether it ran") {
			t.Errorf("%+v", got)
		}
		if r := w.session(); r.Verdict != "unknown" || r.Gone {
			t.Errorf("%+v", r)
		}
	})
}

// TestSessionUnreachable: if the server cannot be reached, or goes away before the plan is
// asked for, the session tells that nothing was started, as blueapi's Python client shows
// that; callers who retry by themselves, and pages that may be strangers, are refused.
// What the server, or a proxy before it, has said stays an HTTP answer.
func TestSessionUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.Inject(listed(page))
		w.caller.get("/plans", "Origin", page)
		conn, _, err := w.caller.open()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		w.Network().Set(memnet.Kill)
		for _, headers := range [][]string{{"Retry-Layer", "mine"}, {"Origin", "http://evil.example"}} {
			_, resp, _ := w.caller.open(headers...)
			if resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Adamant-Verdict") != "not-sent" {
				t.Error(resp)
			}
		}
		say(t, conn, `{"task":`+nap+`}`)
		for _, got := range []told{rest(conn), w.caller.runPlan(nap), w.caller.runPlan(nap, "Origin", page)} {
			if got.frames != nil || got.code != websocket.StatusTryAgainLater || !strings.HasPrefix(got.reason, "not started, safe to run again: ") {
				t.Errorf("%+v", got)
			}
		}
		for _, r := range w.did("GET", "/api/v2/run_plan") {
			if r.Verdict != "not-sent" || r.Gone {
				t.Errorf("%+v", r)
			}
		}
		w.Network().Set(memnet.Healthy)
		time.Sleep(time.Minute)
		if n := len(w.Runs()); n != 0 {
			t.Errorf("%d runs", n)
		}
	})
}

// TestSessionsAtOnce: of many sessions that ask at the same time, one runs at a time; who
// is told that the server is busy leaves nothing behind.
func TestSessionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, brokered)
		results := make(chan told)
		for range 20 {
			go func() { results <- w.caller.runPlan(nap) }()
		}
		ran := 0
		for range 20 {
			got := <-results
			switch {
			case got.code == 1000 && len(got.finals()) == 1:
				ran++
			case got.code != websocket.StatusTryAgainLater || got.reason != "Worker busy" || len(got.frames) != 1:
				t.Errorf("%+v", got)
			}
		}
		if ran == 0 || len(w.Runs()) != ran {
			t.Errorf("%d ran, %d runs", ran, len(w.Runs()))
		}
		if a := w.caller.get("/tasks?task_status=PENDING"); a.body != `{"tasks":[]}` {
			t.Errorf("left: %v", a)
		}
	})
}

// TestSessionJournal: what a session may have done is written before it is; of a plan
// whose caller was lost no end is, so that it can be found.
func TestSessionJournal(t *testing.T) {
	for name, want := range map[string][]string{
		"to its end":     {"1 false", "2 true", "4 true", "6 true"},
		"lost":           {"1 false", "2 true", "4 true"},
		"cannot be kept": {"6 false"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := new(diary)
				if name == "cannot be kept" {
					d.failAt = blueapi.StepIntent
				}
				w := newWorld(t, func(w *world) { brokered(w); w.gateway.Journal = d })
				if name == "lost" {
					conn := w.bare(`{"task":` + longNap + `}`)
					w.untilRunning()
					conn.Close()
				} else if got := w.caller.runPlan(nap); len(want) == 1 && (got.code != websocket.StatusTryAgainLater || !strings.Contains(got.reason, "journal")) {
					t.Errorf("%+v", got)
				}
				w.session()
				if !slices.Equal(d.steps, want) {
					t.Errorf("%q", d.steps)
				}
				if n := len(w.Runs()); (n == 1) != (len(want) > 1) {
					t.Errorf("%d runs", n)
				}
			})
		})
	}
}

// TestTwoGateways: a session goes through two gateways as through one.
func TestTwoGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, aliased)
		w.second(false)
		w.Inject(sim.When(put(), sim.First(1, sim.LoseRequest(sim.Reset))))
		if got := w.caller.runPlan(nap); got.code != 1000 || len(got.finals()) != 1 {
			t.Errorf("%+v", got)
		}
		if n := len(w.Runs()); n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}

// TestSessionAnsweredOpen: what the server itself says to a caller who opens a session
// stays an HTTP answer, though it is a failure.
func TestSessionAnsweredOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for _, status := range []int{401, 403, 429, 500} {
			w.Heal()
			w.Inject(func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				a := next()
				a.Status = status
				return a
			})
			_, resp, err := w.caller.open()
			if want := map[int]int{500: 503}[status]; err == nil || resp == nil || resp.StatusCode != max(want, status) {
				t.Errorf("%d: %v %v", status, resp, err)
			}
		}
	})
}

// TestSessionsWithoutBroker: a broker that is away, or refuses, holds up the first session
// at most, and no start of any kind after that; sessions have events again once it is back.
func TestSessionsWithoutBroker(t *testing.T) {
	for name, listens := range map[string]bool{"nobody listens": false, "somebody listens": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, brokered)
				if listens {
					serveStomp(t, w, w.gateway.ServeStomp)
				}
				time.Sleep(time.Second)
				w.Network().SetAt("broker.sim:61613", memnet.Kill)
				time.Sleep(2 * time.Second)
				begin := time.Now()
				for range 5 {
					if got := w.caller.runPlan(task("nap", `{"seconds":0.1}`)); got.code != 1000 || len(got.finals()) != 1 {
						t.Errorf("%+v", got)
					}
					id := w.caller.submit(task("nap", `{"seconds":0.1}`))
					if a := w.caller.start(id); a.status != 200 {
						t.Error(a)
					}
					w.caller.await(id)
				}
				if d := time.Since(begin); len(w.Runs()) != 10 || d > 10*time.Second {
					t.Errorf("%d runs in %v", len(w.Runs()), d)
				}
				w.Network().SetAt("broker.sim:61613", memnet.Healthy)
				time.Sleep(20 * time.Second)
				got := w.caller.runPlan(task("many_events", `{"n":3}`))
				if got.code != 1000 || !strings.Contains(strings.Join(got.frames, ""), `"name":"event"`) {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// TestSessionStartedNone: the record of a session that has started no task names none.
func TestSessionStartedNone(t *testing.T) {
	for _, fails := range []blueapi.Step{0, blueapi.StepStarting} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world) { brokered(w); w.gateway.Journal = &diary{failAt: fails} })
			w.caller.runPlan(nap)
			time.Sleep(time.Minute)
			if all := w.did("GET", "/api/v2/run_plan"); len(all) != 1 || (all[0].Task == "") != (fails != 0) {
				t.Errorf("step %d fails: %+v", fails, all)
			}
		})
	}
}
