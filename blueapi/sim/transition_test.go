package sim_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// change asks the worker to change its state, and returns the answer in one text.
func (l *lab) change(body string) string {
	l.t.Helper()
	status, b, err := l.ask(l.t.Context(), "PUT", "/worker/state", body)
	if err != nil {
		l.t.Fatal(err)
	}
	return fmt.Sprint(status, " ", b)
}

// starts submits and starts a plan.
func (l *lab) starts(plan, params string) (id string) {
	l.t.Helper()
	id = l.submit(plan, params)
	if status, err := l.put(id); status != 200 {
		l.t.Fatal(plan, status, err)
	}
	return id
}

func (l *lab) expect(what, got, want string) {
	l.t.Helper()
	if got != want {
		l.t.Errorf("%s: %s, expected %s", what, got, want)
	}
}

const (
	pause  = `{"new_state":"PAUSED"}`
	resume = `{"new_state":"RUNNING"}`
	abort  = `{"new_state":"ABORTING"}`
	stop   = `{"new_state":"STOPPING"}`
)

// steps is a plan that notes how far it came: it sleeps 1 s, twice between
// checkpoints.
func steps(log *[]string) sim.Plan {
	return sim.Plan{Name: "steps", Run: func(ctx context.Context, _ sim.Args) (any, error) {
		for i := range 3 {
			if err := sim.Checkpoint(ctx); err != nil {
				return nil, err
			}
			for range 2 {
				if err := sim.Sleep(ctx, time.Second); err != nil {
					*log = append(*log, "ended early")
					return nil, err
				}
			}
			*log = append(*log, fmt.Sprint("step ", i))
		}
		return nil, nil
	}}
}

// TestResumeRepeats: a resumed plan goes on at its last checkpoint.
func TestResumeRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		l := newLab(t, &sim.Server{Plans: []sim.Plan{steps(&log)}})
		id := l.starts("steps", `{}`)
		time.Sleep(3500 * time.Millisecond) // 1.5 s after the second checkpoint
		l.expect("pause", l.change(pause), `202 "PAUSED"`)
		if task := l.task(id); !task.IsComplete || task.Outcome.Type != "RunEngineInterrupted" {
			t.Errorf("while paused: %+v", task)
		}
		time.Sleep(time.Hour)
		if r := l.Runs(); !r[0].Ended.IsZero() || len(log) != 1 {
			t.Errorf("while paused: %+v, %q", r, log)
		}
		begin := time.Now()
		l.expect("resume", l.change(resume), `202 "IDLE"`)
		if d := time.Since(begin).Round(100 * time.Millisecond); d != 4*time.Second {
			t.Errorf("resumed for %v", d) // 1 s that was over, 1 s that was not, and 2 s
		}
		if r := l.Runs(); len(log) != 3 || r[0].Ended.IsZero() || r[0].Aborted || r[0].Killed {
			t.Errorf("%q, %+v", log, r)
		}
		if task := l.task(id); task.Outcome.Type != "RunEngineInterrupted" {
			t.Errorf("afterwards: %+v", task)
		}
		l.starts("steps", `{}`)
	})
}

func TestDeferredPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		l := newLab(t, &sim.Server{Plans: []sim.Plan{steps(&log)}})
		l.starts("steps", `{}`)
		time.Sleep(time.Second)
		l.expect("pause", l.change(`{"new_state":"PAUSED","defer":true}`), `202 "RUNNING"`)
		time.Sleep(1400 * time.Millisecond) // bluesky waits half a second at the checkpoint
		l.expect("before", l.get("/worker/state"), `"RUNNING"`)
		time.Sleep(200 * time.Millisecond)
		l.expect("after", l.get("/worker/state"), `"PAUSED"`)
		l.expect("stop", l.change(stop), `202 "IDLE"`)
		if r := l.Runs(); !slices.Equal(log, []string{"step 0"}) || !r[0].Aborted {
			t.Errorf("%q, %+v", log, r)
		}
	})
}

// TestAbort: the plan has its say, and may take long over it.
func TestAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tidy := sim.Plan{Name: "tidy", Run: func(ctx context.Context, _ sim.Args) (any, error) {
			err := sim.Sleep(ctx, time.Minute)
			return nil, errors.Join(err, sim.Sleep(context.WithoutCancel(ctx), time.Second), sim.Emit(context.WithoutCancel(ctx)))
		}}
		untidy := sim.Plan{Name: "untidy", Run: func(ctx context.Context, _ sim.Args) (any, error) {
			_ = sim.Sleep(ctx, time.Minute)
			return nil, &sim.PlanError{Type: "ValueError", Message: "boom"}
		}}
		l := newLab(t, &sim.Server{Plans: []sim.Plan{tidy, untidy}})

		id := l.starts("tidy", `{}`)
		l.expect("abort", l.change(abort), `202 "ABORTING"`)
		l.expect("again", l.change(abort), `400 {"detail":"Cannot transition from ABORTING to ABORTING"}`)
		time.Sleep(2 * time.Second)
		l.expect("state", l.get("/worker/state"), `"IDLE"`)
		l.expect("outcome", l.task(id).Outcome.Type, "RunEngineInterrupted")

		// Paused, it waits for that; the document that cannot be sent is an error.
		l.starts("tidy", `{}`)
		l.change(pause)
		begin := time.Now()
		l.expect("abort while paused", l.change(abort), "500 Internal Server Error")
		if d := time.Since(begin).Round(100 * time.Millisecond); d != time.Second {
			t.Errorf("answered after %v", d)
		}

		id = l.starts("untidy", `{}`)
		l.expect("abort", l.change(abort), `202 "IDLE"`)
		time.Sleep(time.Second)
		l.expect("outcome", l.task(id).Outcome.Type, "ValueError")
	})
}

// TestEmitAfterResume: that ends the plan, and nobody is told but who resumed it.
func TestEmitAfterResume(t *testing.T) {
	inLab(t, func(l *lab) {
		l.starts("many_events", `{"n":10,"delay":1}`)
		time.Sleep(2500 * time.Millisecond)
		l.change(pause)
		begin := time.Now()
		l.expect("resume", l.change(resume), "500 Internal Server Error")
		if d := time.Since(begin); d > 100*time.Millisecond {
			l.t.Errorf("answered after %v", d)
		}
		l.expect("state", l.get("/worker/state"), `"IDLE"`)
		id := l.starts("many_events", `{"n":3}`)
		time.Sleep(time.Second)
		l.expect("the next plan", l.task(id).Outcome.Kind, "success")
	})
}

// TestCommandMeetsTheEnd sends a command at any moment around the end of a plan.
func TestCommandMeetsTheEnd(t *testing.T) {
	tests := map[string][]string{
		abort: {
			`202 "IDLE"`,
			`400 {"detail":"Error while transitioning from RUNNING to ABORTING - RunEngine is already idle."}`,
			`400 {"detail":"Cannot transition from IDLE to ABORTING"}`,
		},
		pause: {
			`202 "PAUSED"`, "500 Internal Server Error", `400 {"detail":"Cannot transition from IDLE to PAUSED"}`,
		},
	}
	for body, want := range tests {
		var seen []string
		for d := 997 * time.Millisecond; d < 1003*time.Millisecond; d += 200 * time.Microsecond {
			inLab(t, func(l *lab) {
				l.starts("nap", `{"seconds":1}`)
				time.Sleep(time.Until(l.Runs()[0].Began.Add(d)))
				if got := l.change(body); !slices.Contains(seen, got) {
					seen = append(seen, got)
				}
			})
		}
		if !slices.Equal(seen, want) {
			t.Errorf("%s: %q, expected %q", body, seen, want)
		}
	}
}

// TestQueuedBehindAPausedPlan: the second of two plans that were started together
// fails when the first is paused, and the worker stays paused.
func TestQueuedBehindAPausedPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := sim.Plan{
			Name:    "slow",
			Prelude: func(ctx context.Context, _ sim.Args) error { return sim.Sleep(ctx, 12*time.Second) },
			Run:     func(ctx context.Context, _ sim.Args) (any, error) { return nil, sim.Sleep(ctx, time.Minute) },
		}
		l := newLab(t, &sim.Server{Plans: []sim.Plan{slow}})
		ids := []string{l.submit("slow", `{}`), l.submit("nap", `{"seconds":20}`)}
		l.Freeze()
		time.AfterFunc(time.Second, l.Unfreeze)
		if got := l.puts(time.Millisecond, ids...); !slices.Equal(got, []int{500, 500}) {
			t.Errorf("answers %v", got)
		}
		time.Sleep(5 * time.Second)
		l.expect("pause", l.change(pause), `202 "PAUSED"`)
		time.Sleep(time.Second)
		l.expect("state", l.get("/worker/state"), `"PAUSED"`)
		if task := l.task(ids[1]); !task.IsComplete || task.Outcome.Message != "The RunEngine is in a paused state" || l.ran(ids[1]) != 0 {
			t.Errorf("%+v", task)
		}
		l.expect("abort", l.change(abort), `202 "IDLE"`)
	})
}

// TestPausedPlanIsLost: a new environment does not know of it.
func TestPausedPlanIsLost(t *testing.T) {
	for name, renew := range map[string]func(*lab){
		"reload":  func(l *lab) { l.Reload() },
		"restart": func(l *lab) { l.Restart(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.starts("nap", `{"seconds":20}`)
				l.change(pause)
				renew(l)
				time.Sleep(10 * time.Second)
				l.expect("state", l.get("/worker/state"), `"IDLE"`)
				if r := l.Runs(); r[0].Ended.IsZero() || !r[0].Killed {
					l.t.Errorf("%+v", r)
				}
			})
		})
	}
}
