package blueapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/retry"
)

// world is a simulated server and a client of it, in a bubble of virtual time.
type world struct {
	sim.Server
	client *blueapi.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := new(world)
	w.client = w.newClient(t)
	t.Cleanup(w.Close)
	return w
}

func (w *world) newClient(t *testing.T) *blueapi.Client {
	t.Helper()
	c := &blueapi.Client{Transport: &http.Transport{DialContext: w.DialContext}}
	t.Cleanup(c.Close)
	return c
}

func request(plan, params string) blueapi.TaskRequest {
	return blueapi.TaskRequest{Name: plan, Params: json.RawMessage(params), InstrumentSession: "cm12345-1"}
}

var (
	nap       = request("nap", `{"seconds":0.5}`)
	slowStart = request("slow_start", `{"seconds":6}`)
)

// truth compares the word of a run with what the server really did, long after
// it: what was late has arrived by then.
func (w *world) truth(t *testing.T, what string, result blueapi.Result, err error) {
	t.Helper()
	w.Heal()
	time.Sleep(10 * time.Minute)
	runs := w.Runs()
	if len(runs) > 1 {
		t.Errorf("%s: the plan ran %d times", what, len(runs))
	}
	switch result.Word {
	case blueapi.Done:
		if len(runs) != 1 || err != nil || runs[0].TaskID != result.TaskID {
			t.Errorf("%s: done, but %d runs, %v", what, len(runs), err)
		}
	case blueapi.NotStarted:
		if len(runs) != 0 || blueapi.WordOf(err) != blueapi.NotStarted {
			t.Errorf("%s: not started, but %d runs, %v", what, len(runs), err)
		}
	case blueapi.Unknown:
		if blueapi.WordOf(err) != blueapi.Unknown {
			t.Errorf("%s: unknown, but %v", what, err)
		}
	default:
		t.Errorf("%s: no word: %v", what, err)
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for plan, want := range map[string]struct{ params, kind, result, message string }{
			"nap":        {`{"seconds":0.5}`, "success", "null", ""},
			"returns":    {`{"value":{"a":[1,null]}}`, "success", `{"a":[1,null]}`, ""},
			"fail":       {`{"message":"boom"}`, "error", "", "boom"},
			"slow_start": {`{"seconds":6}`, "success", "null", ""},
		} {
			w := newWorld(t)
			result, err := w.client.Run(t.Context(), request(plan, want.params))
			if err != nil || result.Word != blueapi.Done || result.Outcome == nil {
				t.Fatalf("%s: %+v, %v", plan, result, err)
			}
			if o := result.Outcome; o.Kind != want.kind || string(o.Result) != want.result || o.Message != want.message {
				t.Errorf("%s: outcome %+v", plan, o)
			}
			w.truth(t, plan, result, err)
		}
	})
}

// TestDoubleRun shows what a plain retry does on the server, and that Run does
// not: the server stands still for 2.5 s as the plan is started, and the plan
// takes 6 s before it reports that it runs.
func TestDoubleRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(sim.Request("PUT", "/worker/task"), sim.First(1, sim.Stall(2500*time.Millisecond))))
		id, err := w.client.SubmitTask(t.Context(), slowStart)
		if err != nil {
			t.Fatal(err)
		}
		plain := &http.Client{Transport: &http.Transport{DialContext: w.DialContext}}
		defer plain.CloseIdleConnections()
		var wg sync.WaitGroup
		for i := range 2 { // as a client does that resends after 1 s of silence
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Second)
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, blueapi.DefaultURL+"/worker/task",
					strings.NewReader(`{"task_id":"`+id+`"}`))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Content-Type", "application/json")
				resp, err := plain.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
			})
		}
		wg.Wait()
		time.Sleep(time.Minute)
		if n := len(w.Runs()); n != 2 {
			t.Errorf("a client that resends the PUT ran the plan %d times; the simulator is not like the server", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(sim.Request("PUT", "/worker/task"), sim.First(1, sim.Stall(2500*time.Millisecond))))
		result, err := w.client.Run(t.Context(), slowStart)
		if result.Word != blueapi.Done {
			t.Errorf("%+v, %v", result, err)
		}
		w.truth(t, "run", result, err)
	})
}

// put and post select the two requests that matter.
var (
	put  = sim.Request("PUT", "/worker/task")
	post = sim.Request("POST", "/tasks")
)

// runFaults are the faults at the two requests that make a run.
var runFaults = map[string]func() sim.Fault{
	"PUT answer lost, silence":  func() sim.Fault { return sim.When(put, sim.First(1, sim.LoseAnswer(sim.Silence))) },
	"PUT answer lost, reset":    func() sim.Fault { return sim.When(put, sim.First(1, sim.LoseAnswer(sim.Reset))) },
	"PUT answer lost, closed":   func() sim.Fault { return sim.When(put, sim.First(1, sim.LoseAnswer(sim.Close))) },
	"PUT answer 502":            func() sim.Fault { return sim.When(put, sim.First(1, sim.Instead(sim.Status(502)))) },
	"PUT answer 504":            func() sim.Fault { return sim.When(put, sim.First(1, sim.Instead(sim.Status(504)))) },
	"PUT answer cut":            func() sim.Fault { return sim.When(put, sim.First(1, sim.CutAnswer(-5, sim.Close))) },
	"PUT lost, silence":         func() sim.Fault { return sim.When(put, sim.First(1, sim.LoseRequest(sim.Silence))) },
	"PUT lost, reset":           func() sim.Fault { return sim.When(put, sim.First(1, sim.LoseRequest(sim.Reset))) },
	"PUT lost, 503":             func() sim.Fault { return sim.When(put, sim.First(1, sim.Status(503))) },
	"PUT lost, always":          func() sim.Fault { return sim.When(put, sim.LoseRequest(sim.Reset)) },
	"PUT late, 0.5 s":           func() sim.Fault { return sim.When(put, sim.First(1, sim.Late(500*time.Millisecond, sim.Reset))) },
	"PUT late, 1.5 s":           func() sim.Fault { return sim.When(put, sim.First(1, sim.Late(1500*time.Millisecond, sim.Reset))) },
	"PUT late, 3 s":             func() sim.Fault { return sim.When(put, sim.First(1, sim.Late(3*time.Second, sim.Reset))) },
	"PUT late, silence":         func() sim.Fault { return sim.When(put, sim.First(1, sim.Late(16*time.Second, sim.Silence))) },
	"PUT late, after the word":  func() sim.Fault { return sim.When(put, sim.Late(5*time.Minute, sim.Reset)) },
	"PUT stalled 2.5 s":         func() sim.Fault { return sim.When(put, sim.First(1, sim.Stall(2500*time.Millisecond))) },
	"PUT stalled 10 s":          func() sim.Fault { return sim.When(put, sim.First(1, sim.Stall(10*time.Second))) },
	"PUT twice, on a good day":  func() sim.Fault { return sim.When(put, sim.First(1, sim.Twice(100*time.Millisecond))) },
	"POST answer lost, silence": func() sim.Fault { return sim.When(post, sim.First(1, sim.LoseAnswer(sim.Silence))) },
	"POST answer lost, reset":   func() sim.Fault { return sim.When(post, sim.First(1, sim.LoseAnswer(sim.Reset))) },
	"POST answer cut":           func() sim.Fault { return sim.When(post, sim.First(1, sim.CutAnswer(-5, sim.Close))) },
	"POST twice":                func() sim.Fault { return sim.When(post, sim.First(1, sim.Twice(10*time.Millisecond))) },
	"POST late":                 func() sim.Fault { return sim.When(post, sim.First(1, sim.Late(time.Second, sim.Reset))) },
	"delete answer lost": func() sim.Fault {
		return sim.When(sim.Request("DELETE", "/tasks/*"), sim.First(1, sim.LoseAnswer(sim.Reset)))
	},
	"looking refused": func() sim.Fault {
		return sim.When(sim.Request("GET", "/tasks/*"), sim.First(2, sim.LoseRequest(sim.Reset)))
	},
	"restart at the PUT": nil, // filled in by the test: it needs the server
	"reload at the PUT":  nil,
}

// TestPromise5 puts every fault, and every ordered pair of them, at the requests
// that start a plan: it never runs twice, and the word is true.
func TestPromise5(t *testing.T) {
	names := slices.Sorted(maps.Keys(runFaults))
	words := map[blueapi.Word]int{}
	cases := 0
	for _, a := range names {
		for _, b := range names {
			for _, req := range []blueapi.TaskRequest{nap, slowStart} {
				if duplicatedInAStall(a, b, req) {
					continue // see TestDuplicatedByAProxy
				}
				what := a + " + " + b + " (" + req.Name + ")"
				cases++
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.inject(a)
					if a != b {
						w.inject(b)
					}
					result, err := w.client.Run(t.Context(), req)
					words[result.Word]++
					if a == b && must(a) != 0 && result.Word != must(a) {
						t.Errorf("%s: %v, %v", what, result.Word, err)
					}
					w.truth(t, what, result, err)
				})
			}
		}
	}
	t.Logf("%d cases: %v", cases, words)
}

// duplicatedInAStall tells the one combination that no client can prevent from
// running a plan twice.
func duplicatedInAStall(a, b string, req blueapi.TaskRequest) bool {
	stall := strings.HasPrefix(a, "PUT stalled") || strings.HasPrefix(b, "PUT stalled")
	twice := strings.HasPrefix(a, "PUT twice") || strings.HasPrefix(b, "PUT twice")
	return stall && twice && req.Name == slowStart.Name
}

// must says what the word has to be for a single fault, if it is clear.
func must(name string) blueapi.Word {
	switch name {
	case "PUT lost, always", "PUT late, after the word":
		return blueapi.NotStarted
	case "restart at the PUT", "reload at the PUT":
		return 0
	}
	return blueapi.Done
}

func (w *world) inject(name string) {
	switch name {
	case "restart at the PUT":
		w.Inject(sim.When(put, sim.First(1, func(_ *sim.Exchange, _ func() sim.Answer) sim.Answer {
			w.Restart(2 * time.Second)
			return sim.Answer{End: sim.Reset}
		})))
	case "reload at the PUT":
		w.Inject(sim.When(put, sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.Reload()
			return next()
		})))
	default:
		w.Inject(runFaults[name]())
	}
}

// TestDuplicatedByAProxy is the one case that no client can prevent: a proxy that
// sends the PUT twice while the server stands still and the plan is slow to
// start. Should it ever show one run, the simulator is no longer like the server.
func TestDuplicatedByAProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(put, sim.First(1, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.Freeze()
			time.AfterFunc(2500*time.Millisecond, w.Unfreeze)
			return sim.Twice(time.Second)(x, next)
		})))
		_, err := w.client.Run(t.Context(), slowStart)
		time.Sleep(time.Minute)
		if n := len(w.Runs()); n != 2 {
			t.Errorf("%d runs, %v", n, err)
		}
	})
}

func TestBusyIsNotStartedAndLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first, err := w.client.Start(t.Context(), request("nap", `{"seconds":60}`))
		if err != nil {
			t.Fatal(err)
		}
		result, err := w.client.Run(t.Context(), nap)
		if result.Word != blueapi.NotStarted || result.Reason != blueapi.Busy {
			t.Errorf("%+v, %v", result, err)
		}
		if pending, err := w.client.Tasks(t.Context(), blueapi.TaskPending); err != nil || len(pending) != 0 {
			t.Errorf("left behind: %v, %v", pending, err)
		}
		if result, err := first.Wait(t.Context()); result.Word != blueapi.Done || len(w.Runs()) != 1 {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

func TestRefusedIsNotStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for plan, status := range map[string]int{"nonesuch": http.StatusNotFound, "nap": http.StatusUnprocessableEntity} {
			result, err := w.client.Run(t.Context(), request(plan, `{"wrong":1}`))
			e, _ := errors.AsType[*blueapi.Error](err)
			if result.Word != blueapi.NotStarted || result.Reason != blueapi.Refused || e == nil || e.Status != status {
				t.Errorf("%s: %+v, %v", plan, result, err)
			}
		}
	})
}

// TestPermanentOutage: a run ends, with the right word, if the server goes away
// for good at any of its requests, before or after it was processed.
func TestPermanentOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for k := 1; k <= 12; k++ {
			for _, processed := range []bool{false, true} {
				for _, end := range []sim.End{sim.Reset, sim.Silence} {
					what := fmt.Sprintf("away from request %d on (processed %v, %v)", k, processed, end)
					w := newWorld(t)
					w.Inject(func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
						if x.N < k {
							return next()
						}
						if processed && x.N == k {
							next()
						}
						return sim.Answer{End: end}
					})
					start := time.Now()
					result, err := w.client.Run(t.Context(), nap)
					if took := time.Since(start); took > 3*time.Minute {
						t.Errorf("%s: took %v", what, took)
					}
					w.truth(t, what, result, err)
					w.Close()
				}
			}
		}
	})
}

// TestLookingWhileTheAnswerIsAwaited: a start whose answer never comes is seen by
// reading, long before the answer is given up.
func TestLookingWhileTheAnswerIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.inject("PUT answer lost, silence")
		start := time.Now()
		if _, err := w.client.Start(t.Context(), nap); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestLostStartIsNotWaitedFor: a server that answers, and shows the task as pending
// for longer than it takes to start one, has not got the request.
func TestLostStartIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.inject("PUT lost, silence")
		start := time.Now()
		result, err := w.client.Run(t.Context(), nap)
		if took := time.Since(start); result.Word != blueapi.Done || took < 6*time.Second || took > 11*time.Second {
			t.Errorf("%+v, %v after %v", result, err, took)
		}
		w.truth(t, "lost", result, err)
	})
}

func TestJournalComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("disk full")
		for fail := blueapi.StepIntent; fail <= blueapi.StepStarting; fail++ {
			w := newWorld(t)
			j := &journal{fail: map[blueapi.Step]error{fail: full}}
			w.client.Journal = j
			result, err := w.client.Run(t.Context(), nap)
			if result.Word != blueapi.NotStarted || result.Reason != blueapi.JournalFailed || !errors.Is(err, full) {
				t.Errorf("step %d: %+v, %v", fail, result, err)
			}
			if pending, _ := w.client.Tasks(t.Context(), blueapi.TaskPending); len(pending) > 0 {
				t.Errorf("step %d: a task was left behind", fail)
			}
			w.truth(t, "journal", result, err)
		}

		w := newWorld(t)
		j := new(journal)
		w.client.Journal = j
		w.inject("PUT lost, reset")
		result, err := w.client.Run(t.Context(), nap)
		w.truth(t, "journal", result, err)
		want := []blueapi.Step{
			blueapi.StepIntent, blueapi.StepStarting, blueapi.StepWithdrawn, blueapi.StepStarting,
			blueapi.StepStarted, blueapi.StepEnded,
		}
		if fmt.Sprint(j.steps) != fmt.Sprint(want) {
			t.Errorf("steps %v", j.steps)
		}
	})
}

type journal struct {
	fail  map[blueapi.Step]error
	steps []blueapi.Step
}

func (j *journal) Record(_ context.Context, e blueapi.Entry) error {
	if err := j.fail[e.Step]; err != nil {
		return err
	}
	j.steps = append(j.steps, e.Step)
	return nil
}

func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.inject("PUT stalled 10 s")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		result, err := w.client.Run(ctx, nap)
		if result.Word != blueapi.Unknown || result.Reason != blueapi.Abandoned || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v, %v", result, err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		w.truth(t, "interrupted", result, err)
	})
}

func TestRetryErrorListsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.Status(502))
		_, err := w.client.Plans(t.Context())
		e, _ := errors.AsType[*retry.Error](err)
		if e == nil || len(e.Records) != 5 || e.Op != "GET /plans" {
			t.Errorf("got %v", err)
		}
	})
}

// TestUnknownReasons brings about what no client can settle, and looks at the word
// and the reason that users are told.
func TestUnknownReasons(t *testing.T) {
	deleteIt := func(w *world, x *sim.Exchange) {
		id := strings.TrimPrefix(strings.TrimPrefix(x.URL.Path, "/api/v1"), "/tasks/")
		go func() { _ = w.client.DeleteTask(context.WithoutCancel(context.Background()), id) }()
	}
	for name, tc := range map[string]struct {
		prepare func(w *world)
		want    blueapi.Reason
	}{
		"server gone after the PUT": {func(w *world) {
			w.Inject(sim.When(put, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				w.Restart(time.Hour)
				return sim.Answer{End: sim.Reset}
			}))
		}, blueapi.Silent},
		"restarted after the PUT": {func(w *world) { w.inject("restart at the PUT") }, blueapi.EnvironmentChanged},
		"restarted in mid-plan": {func(w *world) {
			time.AfterFunc(300*time.Millisecond, func() { w.Restart(2 * time.Second) })
		}, blueapi.EnvironmentChanged},
		"reloaded in mid-plan": {func(w *world) {
			time.AfterFunc(300*time.Millisecond, w.Reload)
		}, blueapi.EnvironmentChanged},
		"record deleted in mid-plan": {func(w *world) {
			w.Inject(sim.When(sim.Request("GET", "/tasks/*"), sim.Nth(2, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
				deleteIt(w, x)
				return next()
			})))
		}, blueapi.RecordLost},
		"record deleted on a server without its broker": {func(w *world) {
			w.Inject(sim.When(sim.Request("GET", "/environment"), func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				a := next() // it runs plans, and says for ever that it is not initialised
				a.Body = []byte(strings.Replace(string(a.Body), `"initialized":true`, `"initialized":false`, 1))
				return a
			}), sim.When(sim.Request("GET", "/tasks/*"), sim.Nth(2, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
				deleteIt(w, x)
				return next()
			})))
		}, blueapi.RecordLost},
		"removed before it was seen to start": {func(w *world) {
			w.inject("PUT lost, reset")
			w.Inject(sim.When(sim.Request("GET", "/tasks/*"), sim.First(1, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
				deleteIt(w, x)
				return next()
			})))
		}, blueapi.Removed},
		"another plan in between": {func(w *world) {
			w.inject("PUT lost, reset")
			w.Inject(sim.When(sim.Request("DELETE", "/tasks/*"), sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				other := &blueapi.Client{Transport: &http.Transport{DialContext: w.DialContext}}
				defer other.Close()
				_, _ = other.Start(context.WithoutCancel(context.Background()), request("nap", `{"seconds":1}`))
				return next()
			})))
		}, blueapi.Overtaken},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				tc.prepare(w)
				start := time.Now()
				result, err := w.client.Run(t.Context(), request("nap", `{"seconds":2}`))
				if result.Word != blueapi.Unknown || result.Reason != tc.want {
					t.Errorf("%v, reason %d: %v", result.Word, result.Reason, err)
				}
				if took := time.Since(start); took > 90*time.Second {
					t.Errorf("took %v", took)
				}
				if result.TaskID == "" || err == nil || !strings.Contains(err.Error(), result.TaskID) {
					t.Errorf("does not name the task: %v", err)
				}
				w.Heal()
				time.Sleep(2 * time.Hour)
			})
		})
	}
}
