package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// loseEnd loses the events that say that a task is complete.
func loseEnd() stomp.Fault {
	return stomp.When(func(p *stomp.Passage) bool {
		return p.Sent && p.Frame != nil && bytes.Contains(p.Frame.Body, []byte(`"task_complete":true`))
	}, stomp.Drop)
}

// strikes are what can befall one request of a session's.
func strikes(w *world) map[string]sim.Fault {
	return map[string]sim.Fault{
		"request reset":   sim.LoseRequest(sim.Reset),
		"request silent":  sim.LoseRequest(sim.Silence),
		"answer reset":    sim.LoseAnswer(sim.Reset),
		"answer silent":   sim.LoseAnswer(sim.Silence),
		"answer cut":      sim.CutAnswer(-3, sim.Close),
		"refused by 502":  sim.Status(502),
		"answered by 504": sim.Instead(sim.Status(504)),
		"late":            sim.Late(3*time.Second, sim.Reset),
		"later":           sim.Late(20*time.Second, sim.Reset),
		"twice":           sim.Twice(100 * time.Millisecond),
		"stalled":         sim.Stall(2500 * time.Millisecond),
		"restarted": func(*sim.Exchange, func() sim.Answer) sim.Answer {
			w.Restart(time.Second)
			return sim.Answer{End: sim.Reset}
		},
		"restarted after": func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			next()
			w.Restart(time.Second)
			return sim.Answer{End: sim.Reset}
		},
		"broker restarted": func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.StopBroker()
			a := next()
			w.StartBroker()
			return a
		},
		"events cut off": func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.Network().SetAt("broker.sim:61613", memnet.Kill)
			a := next()
			time.AfterFunc(700*time.Millisecond, func() { w.Network().SetAt("broker.sim:61613", memnet.Healthy) })
			return a
		},
		"end event lost": func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.InjectBroker(loseEnd())
			return next()
		},
	}
}

// TestPromise5SessionFaults: whatever befalls any request of a session, its plan runs at
// most once, and its caller is told the end once, or honestly that nobody knows or that
// nothing was started.
func TestPromise5SessionFaults(t *testing.T) {
	var cases, told1000, tell atomic.Int64
	rng := rand.New(rand.NewPCG(1, 11))
	for _, body := range []string{nap, slowStart, task("many_events", `{"n":3,"delay":0.1}`)} {
		for _, name := range []string{"broker", "polling"} {
			set := map[string]func(*world){"broker": brokered}[name]
			for _, strike := range slices.Sorted(maps.Keys(strikes(nil))) {
				for k := 1; k <= 14; k++ {
					if !everything() && rng.IntN(8) != 0 {
						continue
					}
					t.Run(fmt.Sprintf("%s %s request %d of %.20s", name, strike, k, body), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							w := newWorld(t, set)
							w.Inject(sim.Nth(k, strikes(w)[strike]))
							got, status := w.attempt(body)
							cases.Add(1)
							time.Sleep(10 * time.Minute) // for what is late
							runs := len(w.Runs())
							switch {
							case runs > 1:
								t.Errorf("%d runs", runs)
							case status != 101 && (status != 503 || runs != 0):
								t.Errorf("status %d, %d runs", status, runs)
							case strike == "broker restarted" && runs == 0 && len(got.finals()) == 1 && strings.Contains(got.finals()[0], "Error(s) publishing event: "):
								// The server lost its broker before the plan began, and says so.
							case got.code == 1000 && (runs != 1 || len(got.finals()) != 1 || !strings.Contains(got.frames[len(got.frames)-1], `"task_complete":true`)):
								t.Errorf("%+v, %d runs", got, runs)
							case got.code == 1013 && (runs != 0 || len(got.finals()) != 0):
								t.Errorf("%+v, %d runs", got, runs)
							case got.code == 1011 && (!strings.HasPrefix(got.reason, "task ") || len(got.finals()) != 0):
								t.Errorf("%+v, %d runs", got, runs)
							case status == 101 && got.code != 1000 && got.code != 1011 && got.code != 1013:
								t.Errorf("%+v, %d runs", got, runs)
							}
							if got.code == 1000 {
								told1000.Add(1)
							} else {
								tell.Add(1)
								if !strings.HasPrefix(strike, "restarted") {
									t.Errorf("%d: %+v", status, got) // one lost message is no reason to fail
								}
							}
						})
					})
				}
			}
		}
	}
	t.Logf("%d sessions: %d were told the end, %d that it is not known or was not started", cases.Load(), told1000.Load(), tell.Load())
}

// TestPromise6LeaveFaults: whatever befalls a request of a session whose caller leaves at
// any time, its plan runs at most once; taking leave aborts it, unless it has ended or the
// record says that nobody knows; and the plan that comes next is left alone.
func TestPromise6LeaveFaults(t *testing.T) {
	long := task("many_events", `{"n":600,"delay":0.1}`)
	rng := rand.New(rand.NewPCG(1, 12))
	for _, strike := range slices.Sorted(maps.Keys(strikes(nil))) {
		for k := 1; k <= 20; k++ {
			for _, leave := range []string{"close", "end of stream"} {
				if !everything() && rng.IntN(8) != 0 {
					continue
				}
				after := time.Duration(rng.IntN(4000)) * time.Millisecond
				if rng.IntN(2) == 0 {
					after /= 100
				}
				t.Run(fmt.Sprintf("%s request %d %s after %v", strike, k, leave, after), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, brokered)
						w.Inject(sim.Nth(k, strikes(w)[strike]))
						conn := w.bare(`{"task":` + long + `}`)
						defer conn.Close()
						go func() { _, _ = io.Copy(io.Discard, conn) }()
						time.Sleep(after)
						how := losses()[leave]
						if leave == "close" {
							how = takeLeave
						}
						_ = how(conn) // if the session has not ended
						r := w.session()
						w.Heal()
						w.HealBroker()
						w.leftAlone(r, leave == "close")
					})
				})
			}
		}
	}
}

// leftAlone holds the record of a session whose caller left to what became of its plan,
// and of the next one.
func (w *world) leftAlone(r gateway.Record, aborts bool) {
	w.Helper()
	runs := w.Runs()
	if len(runs) > 1 {
		w.Fatalf("%d runs", len(runs))
	}
	if len(runs) == 1 {
		task, status := w.caller.read(runs[0].TaskID)
		goesOn := status == 200 && !task.IsComplete
		if aborts && r.Gone && r.Verdict == "" && goesOn {
			w.Errorf("it goes on: %+v", r)
		}
		if !aborts && status == 200 && task.Outcome != nil && task.Outcome.Type == "RunEngineInterrupted" {
			w.Errorf("it was aborted: %+v", r)
		}
		if goesOn {
			w.caller.state("ABORTING")
		}
	}
	time.Sleep(time.Minute) // for what is late
	next := w.caller.submit(nap)
	if a := w.caller.start(next); a.status != 200 {
		w.Errorf("the next: %v", a)
	}
	if task := w.caller.await(next); task.Outcome == nil || task.Outcome.Kind != "success" && !strings.Contains(task.Outcome.Message, "publishing event") {
		w.Errorf("the next: %+v", task)
	}
}

// attempt opens a session and has a plan run by it; status is that of the upgrade.
func (w *world) attempt(body string) (got told, status int) {
	conn, resp, err := w.caller.open()
	if err != nil {
		if resp == nil {
			w.Error(err)
			return got, 0
		}
		return got, resp.StatusCode
	}
	defer conn.CloseNow()
	say(w.T, conn, `{"kind":"submit","task":`+body+`}`)
	return rest(conn), 101
}
