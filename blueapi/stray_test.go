package blueapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/retry"
)

func isOurs(x *sim.Exchange) bool { return x.Header.Get("X-Ours") != "" }

// TestControlAfterAnotherAbort: the plan is aborted by somebody else, and another begins,
// while our request is on its way.
func TestControlAfterAnotherAbort(t *testing.T) {
	for _, paused := range []bool{false, true} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("paused=%v,lost=%v", paused, lost), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRival(t, request("nap", `{"seconds":30}`))
					if paused {
						if _, err := r.other.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Second)
					}
					meanwhile := func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
						if _, err := r.other.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort}); err != nil {
							t.Error(err)
						}
						ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
						defer stop()
						r.compete(ctx)
						a := next()
						if lost {
							a.End = sim.Reset
						}
						return a
					}
					r.Inject(sim.When(sim.Request("PUT", "/worker/state"), sim.When(isOurs, sim.First(1, meanwhile))))
					result, err := r.ours.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort})
					r.judge(t, t.Name(), blueapi.Abort, result, err)
					if result.Other != r.otherRun || result.Checked {
						t.Errorf("the other plan is not named: %+v", result)
					}
				})
			})
		}
	}
}

// TestControlInsideARetryingCaller does not go on to another plan when it is
// repeated.
func TestControlInsideARetryingCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRival(t, request("nap", `{"seconds":1}`))
		r.Inject(sim.When(sim.Request("PUT", "/worker/state"), sim.When(isOurs, sim.First(1, sim.LoseRequest(sim.Reset)))))
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		var others sync.WaitGroup
		others.Go(func() { r.compete(ctx) })
		time.Sleep(900 * time.Millisecond)
		_, err := retry.Do(ctx, retry.Policy{}, func(ctx context.Context, _ retry.Attempt) (int, error) {
			_, err := r.ours.Control(ctx, blueapi.Command{Verb: blueapi.Abort})
			return 0, err
		})
		others.Wait()
		time.Sleep(time.Minute)
		if r.outcome(t, r.otherRun) == runEngineInterrupted {
			t.Errorf("the caller went on to the other plan: %v", err)
		}
	})
}

// TestPlanThatBeginsAfterTheCommand is not what the command was meant for.
func TestPlanThatBeginsAfterTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		other := w.newClient(t)
		w.Inject(sim.When(sim.Request("GET", "/worker/state"), sim.First(1, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			if _, err := other.Start(t.Context(), request("nap", `{"seconds":30}`)); err != nil {
				t.Error(err)
			}
			return next()
		})))
		result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort})
		if err == nil || result.Sent > 0 {
			t.Errorf("%+v %v", result, err)
		}
	})
}

// TestAbortWhileAPlanStarts waits until the worker can be told, and tells it.
func TestAbortWhileAPlanStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Plans = []sim.Plan{{
			Name:    "prepare",
			Prelude: func(context.Context, sim.Args) error { time.Sleep(9 * time.Second); return nil },
			Run:     func(ctx context.Context, _ sim.Args) (any, error) { return nil, sim.Sleep(ctx, time.Minute) },
		}}
		go func() { _, _ = w.newClient(t).Start(t.Context(), request("prepare", "{}")) }()
		time.Sleep(6 * time.Second) // after 5 s the server gives up waiting, and answers others
		result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort})
		if err != nil || result.Effect != blueapi.Accepted || result.Sent != 1 {
			t.Errorf("%+v, %v", result, err)
		}
		time.Sleep(time.Second)
		if runs := w.Runs(); len(runs) != 1 || !runs[0].Aborted || runs[0].Ended.IsZero() {
			t.Errorf("%+v", runs)
		}
	})
}

// TestAbortWhileAPlanStartsForLong: that there is nothing to abort is not said of a plan
// that begins later.
func TestAbortWhileAPlanStartsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Plans = []sim.Plan{{
			Name:    "prepare",
			Prelude: func(context.Context, sim.Args) error { time.Sleep(time.Minute); return nil },
			Run:     func(ctx context.Context, _ sim.Args) (any, error) { return nil, sim.Sleep(ctx, time.Minute) },
		}}
		if _, err := w.client.Start(t.Context(), request("prepare", "{}")); err != nil {
			t.Fatal(err)
		}
		result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort})
		e, ok := errors.AsType[*blueapi.ControlError](err)
		if !ok || e.Reason != blueapi.NotActive || result.Sent != 0 || e.Err == nil || !strings.Contains(err.Error(), "not begun") {
			t.Errorf("%+v, %v", result, err)
		}
		time.Sleep(5 * time.Minute)
		if len(w.Runs()) != 1 {
			t.Errorf("%+v", w.Runs())
		}
	})
}

// TestWithdrawalLost: all answers to the DELETE are lost.
func TestWithdrawalLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id, err := w.client.SubmitTask(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		w.Inject(sim.When(sim.Request("DELETE", "/tasks/*"), sim.LoseAnswer(sim.Reset)))
		w.Inject(sim.When(sim.Request("DELETE", "/tasks/*"), sim.LoseAnswer(sim.Reset)))
		_, err = w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort, TaskID: id})
		if e, ok := errors.AsType[*blueapi.ControlError](err); ok && e.Reason == blueapi.ControlUnreachable {
			t.Errorf("after %d DELETEs: %v", w.count(sim.Request("DELETE", "/tasks/*")), err)
		}
	})
}

// TestWithdrawalUnclear: that nothing was sent is not said of a task that may have been
// deleted, whatever ended the command.
func TestWithdrawalUnclear(t *testing.T) {
	del := sim.Request("DELETE", "/tasks/*")
	deleted := func(w *world) sim.Match { return func(*sim.Exchange) bool { return w.count(del) > 0 } }
	for name, c := range map[string]struct {
		befall func(w *world)
		why    blueapi.ControlReason
	}{
		"no answer, and no time": {func(w *world) {
			w.Inject(sim.When(del, sim.LoseAnswer(sim.Silence)))
		}, blueapi.ControlInterrupted},
		"the answer is lost, and the server away": {func(w *world) {
			w.Inject(sim.When(del, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
				w.Network().Set(memnet.Refuse)
				return sim.LoseAnswer(sim.Reset)(x, next)
			}))
		}, blueapi.ControlSilent},
		"it is deleted, and there is no time to look": {func(w *world) {
			w.Inject(sim.When(sim.Request("GET", "/worker/*"), sim.When(deleted(w), sim.LoseAnswer(sim.Silence))))
		}, blueapi.ControlInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				id, err := w.client.SubmitTask(t.Context(), nap)
				if err != nil {
					t.Fatal(err)
				}
				c.befall(w)
				limit := time.Hour
				if c.why == blueapi.ControlInterrupted {
					limit = 3 * time.Second
				}
				ctx, stop := context.WithTimeout(t.Context(), limit)
				defer stop()
				result, err := w.client.Control(ctx, blueapi.Command{Verb: blueapi.Abort, TaskID: id})
				e, ok := errors.AsType[*blueapi.ControlError](err)
				if !ok || e.Reason != c.why || result.Sent == 0 || strings.Contains(err.Error(), "nothing was sent") {
					t.Errorf("%+v, %v", result, err)
				}
			})
		})
	}
}

// TestControlDeadline: whatever the deadline, what is said of what was sent is true.
func TestControlDeadline(t *testing.T) {
	for _, verb := range []blueapi.Verb{blueapi.Abort, blueapi.Pause} {
		for at := time.Duration(0); at < 30*time.Millisecond; at += time.Millisecond / 2 {
			for _, cancel := range []bool{false, true} {
				for name, f := range map[string]sim.Fault{"healthy": sim.Delay(0), "lost": sim.LoseAnswer(sim.Silence), "refused": refuse} {
					synctest.Test(t, func(t *testing.T) {
						r := newRival(t, request("nap", `{"seconds":30}`))
						r.Inject(sim.When(sim.Request("PUT", "/worker/state"), sim.When(isOurs, f)))
						ctx, stop := context.WithTimeout(t.Context(), at)
						if cancel {
							ctx, stop = context.WithCancel(t.Context())
							time.AfterFunc(at, stop)
						}
						defer stop()
						begin := time.Now()
						result, err := r.ours.Control(ctx, blueapi.Command{Verb: verb})
						if d := time.Since(begin) - at; d > 0 {
							t.Errorf("%v late", d)
						}
						synctest.Wait()
						r.mu.Lock()
						n := len(r.commands)
						r.mu.Unlock()
						if n != result.Sent {
							t.Errorf("%s %v at %v: written %d, told %d: %+v %v", name, verb, at, n, result.Sent, result, err)
						}
						e, _ := errors.AsType[*blueapi.ControlError](err)
						if e != nil && e.Reason != blueapi.ControlInterrupted {
							t.Errorf("%s %v at %v cancel=%v: reason %d %v", name, verb, at, cancel, e.Reason, err)
						}
					})
					if t.Failed() {
						return
					}
				}
			}
		}
	}
}

func refuse(*sim.Exchange, func() sim.Answer) sim.Answer {
	return sim.Answer{
		Status: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/json"}, "X-Blueapi-Version": {"1.21.1"}},
		Body: []byte(`{"detail":"Cannot transition"}`),
	}
}

// TestControlRefusedThenInterrupted: of what was refused it is known what became.
func TestControlRefusedThenInterrupted(t *testing.T) {
	e := &blueapi.ControlError{ControlResult: blueapi.ControlResult{TaskID: "T", Sent: 1}, Verb: blueapi.Abort, Reason: blueapi.ControlInterrupted}
	if e.Error() != "interrupted" {
		t.Error(e)
	}
	e.Unanswered = 1
	if !strings.Contains(e.Error(), "not known") {
		t.Error(e)
	}
}

// TestControlHeldByAReload counts no request of the reload as its own.
func TestControlHeldByAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Network().Latency = time.Millisecond
		if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":100}`)); err != nil {
			t.Fatal(err)
		}
		for at := time.Duration(0); at < 10*time.Millisecond; at += time.Millisecond / 4 {
			ctx, stop := context.WithTimeout(t.Context(), 700*time.Millisecond)
			var wg sync.WaitGroup
			wg.Go(func() { time.Sleep(at); _, _ = w.client.Reload(ctx, true); w.Inject(sim.LoseAnswer(sim.Reset)) })
			n := w.count(sim.Request("PUT", "/worker/state"))
			result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort})
			wg.Wait()
			stop()
			n = w.count(sim.Request("PUT", "/worker/state")) - n
			if n != result.Sent {
				t.Errorf("at %v: %d arrived, %+v %v", at, n, result, err)
			}
			w.Heal()
			time.Sleep(5 * time.Minute)
			if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":100}`)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestControlOfLostRequests counts what was sent, and what of it may still arrive.
func TestControlOfLostRequests(t *testing.T) {
	lose, do := sim.LoseRequest(sim.Reset), sim.LoseAnswer(sim.Reset)
	state := func(s string) sim.Fault {
		return func(*sim.Exchange, func() sim.Answer) sim.Answer {
			return sim.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}, "X-Blueapi-Version": {"1.21.1"}}, Body: []byte(s)}
		}
	}
	for name, c := range map[string]struct {
		seconds          int
		puts, states     []sim.Fault // of the first requests; nil is none
		effect           blueapi.Effect
		why              blueapi.ControlReason
		sent, unanswered int
	}{
		"all lost":                      {60, []sim.Fault{lose, lose, lose, lose, lose, lose, lose}, nil, 0, blueapi.ControlSilent, 5, 5},
		"one lost, the next answer too": {60, []sim.Fault{lose, do}, nil, blueapi.Seen, 0, 2, 1},
		"one lost":                      {60, []sim.Fault{lose}, nil, blueapi.Accepted, 0, 2, 1},
		"one lost, then pausing":        {60, []sim.Fault{lose}, []sim.Fault{nil, state(`"PAUSING"`)}, blueapi.Accepted, 0, 2, 1},
		"denied":                        {60, []sim.Fault{deny}, nil, 0, blueapi.Denied, 1, 0},
		"refused twice":                 {60, []sim.Fault{refuse, refuse}, nil, 0, blueapi.Rejected, 2, 0},
		"refused, then over": {1, []sim.Fault{func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			time.Sleep(time.Second)
			return refuse(x, next)
		}}, nil, 0, blueapi.AlreadyOver, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if _, err := w.client.Start(t.Context(), request("nap", fmt.Sprintf(`{"seconds":%d}`, c.seconds))); err != nil {
					t.Fatal(err)
				}
				for method, faults := range map[string][]sim.Fault{http.MethodPut: c.puts, http.MethodGet: c.states} {
					k := 0
					w.Inject(sim.When(sim.Request(method, "/worker/state"), func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
						if k++; k > len(faults) || faults[k-1] == nil {
							return next()
						}
						return faults[k-1](x, next)
					}))
				}
				result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort})
				var why blueapi.ControlReason
				if e, ok := errors.AsType[*blueapi.ControlError](err); ok {
					why = e.Reason
				}
				if result.Effect != c.effect || why != c.why || result.Sent != c.sent || result.Unanswered != c.unanswered {
					t.Errorf("%+v, %v", result, err)
				}
			})
		})
	}
}

// TestGuardThatWasSlow is read again: its answer may have been old when it came.
func TestGuardThatWasSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":60}`)); err != nil {
			t.Fatal(err)
		}
		guard := sim.Request("GET", "/worker/task")
		slow := func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			a := next()
			time.Sleep(1500 * time.Millisecond)
			return a
		}
		guards := w.count(guard)
		var atPut int
		w.Inject(sim.When(sim.Request("PUT", "/worker/state"), func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			atPut = w.count(guard) - guards
			return next()
		}))
		// A copy is made of what is silent for a second: it is slow too.
		w.Inject(sim.When(guard, sim.When(func(*sim.Exchange) bool { n := w.count(guard) - guards; return n == 2 || n == 3 }, slow)))
		if result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort}); err != nil || result.Sent != 1 {
			t.Errorf("%+v, %v", result, err)
		}
		if atPut != 5 {
			t.Errorf("the task was read %d times", atPut)
		}
	})
}

// TestResumeAnswered: the answer to a resume is waited for to the end of the plan, and
// one that the server failed in is told from one that is over.
func TestResumeAnswered(t *testing.T) {
	for _, broken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":60}`)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
				t.Fatal(err)
			}
			if broken {
				w.Inject(sim.When(sim.Request("PUT", "/worker/state"), sim.Instead(fails)))
			}
			result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Resume})
			e, _ := errors.AsType[*blueapi.ControlError](err)
			if result.Sent != 1 || !broken && result.Effect != blueapi.Accepted || broken && (e == nil || e.Reason != blueapi.ResumeBroken) {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

// fails answers as blueapi does when its worker fails.
func fails(*sim.Exchange, func() sim.Answer) sim.Answer {
	return sim.Answer{Status: http.StatusInternalServerError, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte("Internal Server Error")}
}

// TestAbortOfATaskThatBegins while it is being withdrawn aborts it.
func TestAbortOfATaskThatBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id, err := w.client.SubmitTask(t.Context(), request("nap", `{"seconds":60}`))
		if err != nil {
			t.Fatal(err)
		}
		w.Inject(sim.When(sim.Request("DELETE", "/tasks/*"), sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.startPlain(t, id)
			return next()
		})))
		result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort, TaskID: id})
		if err != nil || result.Effect != blueapi.Accepted || result.Sent != 1 {
			t.Errorf("%+v, %v", result, err)
		}
		time.Sleep(time.Second)
		if runs := w.Runs(); len(runs) != 1 || !runs[0].Aborted {
			t.Errorf("%+v", runs)
		}
	})
}

// TestAbortOfATaskBehindAnother is not Checked: it may be in the worker's queue.
func TestAbortOfATaskBehindAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":60}`)); err != nil {
			t.Fatal(err)
		}
		id, err := w.client.SubmitTask(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort, TaskID: id})
		if err != nil || result.Effect != blueapi.TaskWithdrawn || result.Checked || result.Sent != 0 {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

// TestAbortOfATaskInTheQueue: the plan of a task that waits in the worker's queue begins
// although the task was deleted. While it waits, the other plan may be one that is being
// made, with a worker that says it is idle, or one that runs.
func TestAbortOfATaskInTheQueue(t *testing.T) {
	for name, at := range map[string]time.Duration{"being made": 15 * time.Second, "running": 30 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.Plans = []sim.Plan{{
					Name:    "prepare",
					Prelude: func(ctx context.Context, _ sim.Args) error { return sim.Sleep(ctx, 20*time.Second) },
					Run:     func(ctx context.Context, _ sim.Args) (any, error) { return nil, sim.Sleep(ctx, time.Minute) },
				}}
				var ids []string
				var starts sync.WaitGroup
				for _, r := range []blueapi.TaskRequest{request("prepare", "{}"), request("nap", `{"seconds":5}`)} {
					id, err := w.client.SubmitTask(t.Context(), r)
					if err != nil {
						t.Fatal(err)
					}
					ids = append(ids, id)
				}
				for _, id := range ids { // both pass the server's check before either is begun
					starts.Go(func() { w.startPlain(t, id) })
					time.Sleep(time.Millisecond / 10)
				}
				time.Sleep(at)
				result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort, TaskID: ids[1]})
				starts.Wait()
				time.Sleep(5 * time.Minute)
				if runs := w.Runs(); len(runs) != 2 || runs[1].TaskID != ids[1] {
					t.Fatalf("%+v: the task was not in the queue", runs)
				}
				if err != nil || result.Effect != blueapi.TaskWithdrawn || result.Checked {
					t.Errorf("%+v, %v", result, err)
				}
			})
		})
	}
}

// TestControlBesideABadPath: reads that always fail, and many of them, do not hold it up.
func TestControlBesideABadPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":60}`)); err != nil {
			t.Fatal(err)
		}
		w.Inject(sim.When(sim.Request("GET", "/plans"), sim.Status(http.StatusBadGateway)))
		ctx, stop := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		for range 200 {
			readers.Go(func() {
				for ctx.Err() == nil {
					_, _ = w.client.Plans(ctx)
				}
			})
		}
		time.Sleep(10 * time.Second)
		begin := time.Now()
		result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort})
		if took := time.Since(begin); err != nil || result.Effect != blueapi.Accepted || !result.Checked || took > 5*time.Second {
			t.Errorf("after %v: %+v, %v", took, result, err)
		}
		stop()
		readers.Wait()
	})
}

func deny(*sim.Exchange, func() sim.Answer) sim.Answer {
	return sim.Answer{
		Status: http.StatusForbidden, Header: http.Header{"Content-Type": {"application/json"}, "X-Blueapi-Version": {"1.21.1"}},
		Body: []byte(`{"detail":"Not authorized to set worker state"}`),
	}
}

// TestVerdictsOfCommands: a caller that retries repeats what was not sent, and nothing else.
func TestVerdictsOfCommands(t *testing.T) {
	for why := blueapi.NotActive; why <= blueapi.ControlInterrupted; why++ {
		if v := retry.VerdictOf(&blueapi.ControlError{Reason: why}); (v == retry.NotSent) != (why == blueapi.ControlUnreachable) || v != retry.NotSent && v != retry.Fatal {
			t.Errorf("reason %d: %v", why, v)
		}
	}
	for why := blueapi.PlanActive; why <= blueapi.ReloadHangs; why++ {
		want := map[blueapi.ReloadReason]retry.Verdict{blueapi.PlanActive: retry.Rejected, blueapi.ReloadUnreachable: retry.NotSent}[why]
		if want == 0 {
			want = retry.Fatal
		}
		if v := retry.VerdictOf(&blueapi.ReloadError{Reason: why}); v != want {
			t.Errorf("reason %d: %v", why, v)
		}
	}
}
