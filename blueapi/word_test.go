package blueapi_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// always answers in the server's place.
func always(status int, kind, body string) sim.Fault {
	return func(*sim.Exchange, func() sim.Answer) sim.Answer {
		a := sim.Answer{Status: status, Header: http.Header{}, Body: []byte(body)}
		if kind != "" {
			a.Header.Set("Content-Type", kind)
		}
		return a
	}
}

const isJSON = "application/json"

// slowScan is a plan that prepares for long, as one that connects devices, before
// it runs.
func slowScan(prepare, scan time.Duration) sim.Plan {
	pause := func(ctx context.Context, d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return sim.Plan{
		Name:    "slow_scan",
		Prelude: func(ctx context.Context, _ sim.Args) error { return pause(ctx, prepare) },
		Run:     func(ctx context.Context, _ sim.Args) (any, error) { return nil, pause(ctx, scan) },
	}
}

// TestQueuedBehindAnotherPlan: two clients start plans at the same time, and the
// other plan takes more than 5 s to begin. Both pass the server's check, and our
// task waits in the worker's channel behind the other, pending, where DELETE does
// not reach it.
func TestQueuedBehindAnotherPlan(t *testing.T) {
	for name, tc := range map[string]struct {
		stall   time.Duration // of the server, as both start
		prepare time.Duration // of the other plan
		scan    time.Duration // and then its run
		lost    bool          // the answer to our PUT
		late    time.Duration // our second PUT
	}{
		"at the same moment":                    {0, 6 * time.Second, time.Minute, false, 0},
		"500":                                   {2 * time.Second, 6 * time.Second, time.Minute, false, 0},
		"answer lost":                           {2 * time.Second, 6 * time.Second, time.Minute, true, 0},
		"answer lost, and withdrawn":            {2 * time.Second, 15 * time.Second, time.Minute, true, 0},
		"answer lost, withdrawn, started again": {2 * time.Second, 15 * time.Second, time.Second, true, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.Plans = []sim.Plan{slowScan(tc.prepare, tc.scan)}
				id, err := w.newClient(t).SubmitTask(t.Context(), request("slow_scan", `{}`))
				if err != nil {
					t.Fatal(err)
				}
				first := sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
					if tc.stall > 0 {
						w.Freeze()
						time.AfterFunc(tc.stall, w.Unfreeze)
					}
					go w.startPlain(t, id)
					time.Sleep(100 * time.Microsecond) // the other is first
					a := next()
					if tc.lost {
						a = sim.Answer{End: sim.Reset}
					}
					return a
				})
				w.Inject(sim.When(put, first), sim.When(put, sim.Nth(3, sim.Delay(tc.late))))
				result, err := w.client.Run(t.Context(), nap)
				time.Sleep(10 * time.Minute)
				n := 0
				for _, r := range w.Runs() {
					if r.Plan == nap.Name {
						n++
					}
				}
				if n > 1 || result.Word == blueapi.NotStarted && n > 0 {
					t.Errorf("%v (reason %d), but the plan ran %d times: %v", result.Word, result.Reason, n, err)
				}
			})
		})
	}
}

// TestNotFoundOfAProxy: a gateway whose routes are being reloaded answers 404 in
// JSON, after an attempt to delete that was lost. The task is still there.
func TestNotFoundOfAProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		del := sim.Request("DELETE", "/tasks/*")
		w.Inject(
			sim.When(put, sim.First(1, sim.Late(5*time.Minute, sim.Reset))),
			sim.When(del, sim.Nth(1, sim.LoseRequest(sim.Reset))),
			sim.When(del, sim.Nth(1, always(404, isJSON, `{"message":"no Route matched with those values"}`))),
		)
		result, err := w.client.Run(t.Context(), nap)
		time.Sleep(10 * time.Minute)
		if n := len(w.Runs()); n > 1 {
			t.Errorf("the plan ran %d times: %v, %v", n, result.Word, err)
		}
	})
}

// TestRecordIsThereAgain: one answer 404 of a gateway in mid-plan does not mean
// that the record was deleted.
func TestRecordIsThereAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(sim.Request("GET", "/tasks/*"), sim.Nth(4, always(404, isJSON, `{"message":"no Route matched with those values"}`))))
		result, err := w.client.Run(t.Context(), request("nap", `{"seconds":5}`))
		if result.Word != blueapi.Done {
			t.Errorf("%v, reason %d: %v", result.Word, result.Reason, err)
		}
	})
}

// TestStartedOnlyInWords: something else than blueapi says that the plan was
// started, or begun, which it was not: the run must come to an end.
func TestStartedOnlyInWords(t *testing.T) {
	get := sim.Request("GET", "/tasks/*")
	for name, f := range map[string]sim.Fault{
		"PUT 204":                 sim.When(put, sim.First(1, always(204, "", ""))),
		"PUT 200 {}":              sim.When(put, sim.First(1, always(200, isJSON, `{}`))),
		"PUT 200 of another task": sim.When(put, sim.First(1, always(200, isJSON, `{"task_id":"other"}`))),
	} {
		t.Run(name, func(t *testing.T) { endsInTime(t, f) })
	}
	t.Run("GET 200 {}", func(t *testing.T) {
		endsInTime(t, sim.When(put, sim.LoseRequest(sim.Reset)), sim.When(get, sim.First(1, always(200, isJSON, `{}`))))
	})
}

func endsInTime(t *testing.T, faults ...sim.Fault) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(faults...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		result, err := w.client.Run(ctx, nap)
		if ctx.Err() != nil {
			t.Errorf("watched a plan for an hour that was never started: %v, %v", result.Word, err)
		}
		w.truth(t, "run", result, err)
	})
}

// TestStartRefused: the user may make tasks but not start them. That is a refusal
// and no reason to try five times.
func TestStartRefused(t *testing.T) {
	for _, status := range []int{401, 403, 422} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.Inject(sim.When(put, func(*sim.Exchange, func() sim.Answer) sim.Answer {
				return sim.Answer{Status: status, Header: http.Header{"Content-Type": {isJSON}, "X-Blueapi-Version": {sim.Version}}, Body: []byte(`{"detail":"no"}`)}
			}))
			result, err := w.client.Run(t.Context(), nap)
			puts := 0
			for _, x := range w.Exchanges() {
				if put(&x) {
					puts++
				}
			}
			if result.Word != blueapi.NotStarted || result.Reason != blueapi.Refused || puts != 1 {
				t.Errorf("%d: %v, reason %d, %d requests to start: %v", status, result.Word, result.Reason, puts, err)
			}
		})
	}
}

// TestWaitAgain: what has ended has ended, whoever tidies up after it.
func TestWaitAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r, err := w.client.Start(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		first, err := r.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.client.DeleteTask(t.Context(), r.TaskID()); err != nil {
			t.Fatal(err)
		}
		second, err := r.Wait(t.Context())
		if second.Word != first.Word {
			t.Errorf("first %v, then %v: %v", first.Word, second.Word, err)
		}
	})
}

// TestEndWasSeen: the record that was read says that the plan succeeded, which
// that of a paused one never does, and then the server goes away.
func TestEndWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(sim.Request("GET", "/worker/task"), sim.LoseRequest(sim.Reset)))
		result, err := w.client.Run(t.Context(), nap)
		if result.Word != blueapi.Done || result.Outcome == nil {
			t.Errorf("%v, reason %d: %v", result.Word, result.Reason, err)
		}
	})
}

// TestUnauthorisedForAMoment: a server that cannot reach the identity provider
// answers 401 to tokens that are good; so does a Token that fails. A plan that
// runs is not lost for that.
func TestUnauthorisedForAMoment(t *testing.T) {
	t.Run("401", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			time.AfterFunc(2*time.Second, func() { w.Inject(always(401, isJSON, `{"detail":"Not authenticated"}`)) })
			time.AfterFunc(3*time.Second, w.Heal)
			result, err := w.client.Run(t.Context(), request("nap", `{"seconds":5}`))
			if result.Word != blueapi.Done {
				t.Errorf("%v, reason %d: %v", result.Word, result.Reason, err)
			}
		})
	})
	t.Run("no token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			begun := time.Now()
			w.client.Token = func(context.Context) (string, error) {
				if age := time.Since(begun); age > 2*time.Second && age < 3*time.Second {
					return "", errors.New("the identity provider does not answer")
				}
				return "x", nil
			}
			result, err := w.client.Run(t.Context(), request("nap", `{"seconds":5}`))
			if result.Word != blueapi.Done {
				t.Errorf("%v, reason %d: %v", result.Word, result.Reason, err)
			}
		})
	})
}

// TestDeadlineIsTheCallers: a deadline that leaves no time for another attempt
// ends the run, not the server.
func TestDeadlineIsTheCallers(t *testing.T) {
	for name, tc := range map[string]struct {
		f    sim.Fault
		want blueapi.Reason
	}{
		"before": {sim.LoseRequest(sim.Reset), blueapi.Interrupted},
		"after":  {sim.When(sim.Request("*", "/[tw]*/*"), sim.LoseRequest(sim.Reset)), blueapi.Abandoned},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.Inject(tc.f)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				result, err := w.client.Run(ctx, nap)
				if result.Reason != tc.want {
					t.Errorf("%v, reason %d: %v", result.Word, result.Reason, err)
				}
			})
		})
	}
}

// TestCancelledBeforeTheStart: a run whose caller has gone does not start its plan.
func TestCancelledBeforeTheStart(t *testing.T) {
	sent := 0
	const runs = 300
	for range runs {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.client.RunTrace = &blueapi.RunTrace{Submitted: func(string) { cancel() }}
			_, _ = w.client.Run(ctx, nap)
			time.Sleep(time.Minute)
			sent += len(w.Runs())
		})
	}
	if sent > 0 {
		t.Errorf("%d of %d plans ran all the same", sent, runs)
	}
}
