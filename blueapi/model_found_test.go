package blueapi_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// These play what TestModel finds, on the simulator.

// slowNap is a plan that needs 6 s to begin and can be paused then.
func slowNap() sim.Plan {
	return sim.Plan{
		Name:    "slow_nap",
		Prelude: func(ctx context.Context, _ sim.Args) error { return sim.Sleep(ctx, 6*time.Second) },
		Run:     func(ctx context.Context, _ sim.Args) (any, error) { return nil, sim.Sleep(ctx, 10*time.Second) },
	}
}

// together has two clients start plans in the same moment, so that both pass the
// server's check: the one that begins, and the one that waits in its queue, to whose PUT
// the fault happens.
func together(t *testing.T, w *world, first, second blueapi.TaskRequest, fault sim.Fault) (results [2]blueapi.Result) {
	t.Helper()
	met := make(chan struct{})
	var puts atomic.Int32
	w.Inject(sim.When(put, sim.First(2, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		if puts.Add(1) == 1 {
			<-met
			return next()
		}
		close(met)
		time.Sleep(10 * time.Microsecond)
		return fault(x, next)
	})))
	var wg sync.WaitGroup
	for i, req := range []blueapi.TaskRequest{first, second} {
		c := w.newClient(t)
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 100 * time.Millisecond)
			results[i], _ = c.Run(t.Context(), req)
		})
	}
	wg.Wait()
	return results
}

// TestPausedAndSucceeded: a plan that is paused has not ended because the worker has
// taken, and failed, the task that waited behind it.
func TestPausedAndSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(world)
		w.Plans = []sim.Plan{slowNap()}
		t.Cleanup(w.Close)
		w.client = w.newClient(t)
		resumed := make(chan time.Time, 1)
		go func() {
			time.Sleep(11 * time.Second) // it has begun, and the worker answers again
			if _, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
				t.Error(err)
			}
			time.Sleep(20 * time.Second)
			resumed <- time.Now()
			// Control would not do it: the worker names another task.
			conn := &http.Client{Transport: &http.Transport{DialContext: w.DialContext}}
			defer conn.CloseIdleConnections()
			sendPlain(t, conn, http.MethodPut, "/worker/state", `{"new_state":"RUNNING"}`)
		}()
		results := together(t, w, request("slow_nap", `{}`), nap, sim.Delay(0))
		if r := w.Runs()[0]; results[0].Word != blueapi.Done || time.Now().Before(<-resumed) || r.Ended.IsZero() {
			t.Errorf("%+v, %+v", results[0], r)
		}
		if results[1].Word != blueapi.Done || results[1].Outcome == nil || results[1].Outcome.Type != "RuntimeError" {
			t.Errorf("the other one: %+v", results[1])
		}
	})
}

// TestWhatNoClientCanSettle shows two of the chances of TestModel: another client's plan
// is slow to begin, ours waits behind it, and nothing that we can read tells so. Should
// one of these ever show no run, the simulator is no longer like the server.
func TestWhatNoClientCanSettle(t *testing.T) {
	for name, tc := range map[string]struct {
		fault   sim.Fault
		deleted bool // the other task, while the worker has it
	}{
		"a proxy sends the PUT twice":                    {sim.Twice(time.Second), false},
		"the answer is lost, and the other task deleted": {sim.LoseAnswer(sim.Reset), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if tc.deleted {
					go func() {
						time.Sleep(10500 * time.Millisecond) // both PUTs are over
						if id, err := w.client.WorkerTask(t.Context()); err != nil || w.client.DeleteTask(t.Context(), id) != nil {
							t.Error(id, err)
						}
					}()
				}
				results := together(t, w, request("slow_start", `{"seconds":15}`), nap, tc.fault)
				time.Sleep(time.Minute)
				if n := len(ours(w, nap)); results[1].Word != blueapi.NotStarted || n != 1 {
					t.Errorf("%+v, %d runs", results[1], n)
				}
			})
		})
	}
}

// TestReloadedAsItIsWithdrawn shows another one, which takes three things at once: the
// request to start the plan arrives between the last look at the task and its deletion,
// and somebody reloads the environment before the worker is read again. What answers
// then is a worker that was made anew in the old environment (1.21.1).
func TestReloadedAsItIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var late func() sim.Answer
		w.Inject(
			sim.When(put, sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				late = next
				return sim.Answer{End: sim.Reset}
			})),
			sim.When(del, sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				late()
				defer w.Reload()
				return next()
			})),
		)
		plan := request("nap", `{"seconds":2}`)
		result, err := w.client.Run(t.Context(), plan)
		if n := len(ours(w, plan)); result.Word != blueapi.NotStarted || n != 1 {
			t.Errorf("%+v, %v, %d runs", result, err, n)
		}
		time.Sleep(time.Minute)
	})
}
