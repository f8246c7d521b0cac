package blueapi_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// notebook is a journal in memory.
type notebook struct{ entries []blueapi.Entry }

func (n *notebook) Record(_ context.Context, e blueapi.Entry) error {
	n.entries = append(n.entries, e)
	return nil
}

func (n *notebook) steps() (steps []blueapi.Step) {
	for _, e := range n.entries {
		steps = append(steps, e.Step)
	}
	return steps
}

// puts counts the requests to start a task.
func (w *world) puts() (n int) {
	for _, x := range w.Exchanges() {
		if x.Method == http.MethodPut && x.URL.Path == "/api/v1/worker/task" {
			n++
		}
	}
	return n
}

// TestAttach goes on with a run from each step that a journal can have recorded last:
// what was not sent is never sent, and what may have been sent is settled.
func TestAttach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		step  blueapi.Step
		sent  bool // the request to start the task arrived
		owned bool
		word  blueapi.Word
		why   blueapi.Reason
		steps []blueapi.Step
	}{
		{"intent", blueapi.StepIntent, false, true, blueapi.NotStarted, blueapi.Interrupted, []blueapi.Step{blueapi.StepEnded}},
		{"not sent", blueapi.StepNotSent, false, true, blueapi.NotStarted, blueapi.Interrupted, []blueapi.Step{blueapi.StepEnded}},
		{"withdrawn", blueapi.StepWithdrawn, false, true, blueapi.NotStarted, blueapi.Interrupted, []blueapi.Step{blueapi.StepEnded}},
		{"lost on the way", blueapi.StepStarting, false, true, blueapi.NotStarted, blueapi.Withdrawn, []blueapi.Step{blueapi.StepWithdrawn, blueapi.StepEnded}},
		{"arrived", blueapi.StepStarting, true, true, blueapi.Done, blueapi.Ended, []blueapi.Step{blueapi.StepStarted, blueapi.StepEnded}},
		{"started", blueapi.StepStarted, true, true, blueapi.Done, blueapi.Ended, []blueapi.Step{blueapi.StepEnded}},
		{"was unknown", blueapi.StepEnded, true, true, blueapi.Done, blueapi.Ended, []blueapi.Step{blueapi.StepStarted, blueapi.StepEnded}},
		{"watched only", blueapi.StepStarting, true, false, blueapi.Done, blueapi.Ended, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				client := w.newClient(t)
				env, err := client.Environment(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				task, err := client.SubmitTask(t.Context(), nap)
				if err != nil {
					t.Fatal(err)
				}
				if tt.sent {
					start(t, w, task)
				}
				before := w.puts()
				journal := new(notebook)
				client.Journal = journal
				result, err := attach(t.Context(), client, blueapi.Attachment{
					RunID: "r", Plan: "nap", TaskID: task, EnvironmentID: env.ID, Step: tt.step, Owned: tt.owned,
				})
				if result.Word != tt.word || result.Reason != tt.why {
					t.Errorf("%+v, %v", result, err)
				}
				if got := journal.steps(); !slices.Equal(got, tt.steps) {
					t.Errorf("recorded %v", got)
				}
				if n := w.puts(); n != before {
					t.Errorf("%d requests to start a task", n-before)
				}
				w.truth(t, "", result, err)
			})
		})
	}
}

// start starts a task as somebody does who does not care.
func start(t *testing.T, w *world, task string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: w.DialContext, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://blueapi.sim/worker/task", strings.NewReader(`{"task_id":"`+task+`"}`))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	if resp, err := c.Do(req); err == nil {
		resp.Body.Close()
	}
}

func attach(ctx context.Context, c *blueapi.Client, a blueapi.Attachment) (blueapi.Result, error) {
	r, err := c.Attach(ctx, a)
	if err != nil {
		if e, ok := errors.AsType[*blueapi.RunError](err); ok {
			return e.Result, err
		}
		return blueapi.Result{}, err
	}
	defer r.Close()
	return r.Wait(ctx)
}

// TestAttachLate: a request to start the task that is still on its way when the run
// is taken over finds nothing.
func TestAttachLate(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{time.Second, 3 * time.Second, 5 * time.Second, 7 * time.Second, 20 * time.Second} {
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				client := w.newClient(t)
				env, _ := client.Environment(t.Context())
				task, err := client.SubmitTask(t.Context(), nap)
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(late, func() { start(t, w, task) })
				result, err := attach(t.Context(), client, blueapi.Attachment{
					RunID: "r", Plan: "nap", TaskID: task, EnvironmentID: env.ID, Step: blueapi.StepStarting, Owned: true,
				})
				w.truth(t, "", result, err)
			})
		})
	}
}

// TestAttachAfterRestart: a server that has forgotten the task is no proof of
// anything.
func TestAttachAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		env, _ := w.client.Environment(t.Context())
		task, err := w.client.SubmitTask(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		start(t, w, task)
		w.Restart(time.Second)
		result, err := attach(t.Context(), w.client, blueapi.Attachment{
			RunID: "r", Plan: "nap", TaskID: task, EnvironmentID: env.ID, Step: blueapi.StepStarting, Owned: true,
		})
		if result.Word != blueapi.Unknown || result.Reason != blueapi.EnvironmentChanged {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

// TestAttachToOthers: a task that nobody here has started is watched; one that the
// server does not know is not waited for.
func TestAttachToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		task, err := w.client.SubmitTask(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Second, func() { start(t, w, task) })
		result, err := attach(t.Context(), w.client, blueapi.Attachment{TaskID: task})
		if result.Word != blueapi.Done || result.Outcome == nil {
			t.Errorf("%+v, %v", result, err)
		}
		w.truth(t, "", result, err)
		begin := time.Now()
		_, err = attach(t.Context(), w.client, blueapi.Attachment{TaskID: "none"})
		if e, ok := errors.AsType[*blueapi.Error](err); !ok || e.Status != http.StatusNotFound || time.Since(begin) > time.Second {
			t.Errorf("%v", err)
		}
	})
}

// TestAttachUnanswered: a run whose start was asked for has a word although the server
// cannot even be asked for its environment.
func TestAttachUnanswered(t *testing.T) {
	t.Parallel()
	for why, limit := range map[blueapi.Reason]time.Duration{blueapi.Silent: time.Hour, blueapi.Abandoned: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			task, err := w.client.SubmitTask(t.Context(), nap)
			if err != nil {
				t.Fatal(err)
			}
			w.Inject(sim.Status(http.StatusBadGateway))
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			result, err := attach(ctx, w.client, blueapi.Attachment{Plan: "nap", TaskID: task, Step: blueapi.StepStarting, Owned: true})
			if result.Word != blueapi.Unknown || result.Reason != why {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

// TestAttachDuringRestart: a task that a restart takes away while it is asked for does
// not count as deleted by somebody in the environment that comes after.
func TestAttachDuringRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		task, err := w.client.SubmitTask(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		w.Inject(sim.When(sim.Request("GET", "/environment"), sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.Restart(time.Second)
			return next()
		})))
		_, err = attach(t.Context(), w.client, blueapi.Attachment{TaskID: task})
		if e, ok := errors.AsType[*blueapi.Error](err); !ok || e.Status != http.StatusNotFound {
			t.Errorf("%v", err)
		}
	})
}
