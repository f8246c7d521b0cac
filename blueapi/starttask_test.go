package blueapi_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestStartTask starts a stored task once, and has a word for whatever keeps it from that.
func TestStartTask(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		befall func(w *world)
		word   blueapi.Word
		why    blueapi.Reason
		puts   int
	}{
		"well":            {func(*world) {}, blueapi.Done, blueapi.Ended, 1},
		"server away":     {func(w *world) { w.Inject(sim.Status(502)) }, blueapi.NotStarted, blueapi.Unreachable, 0},
		"task unreadable": {func(w *world) { w.Inject(sim.When(sim.Request("GET", "/tasks/*"), sim.Status(502))) }, blueapi.NotStarted, blueapi.Unreachable, 0},
		"request was lost": {func(w *world) {
			w.Inject(sim.When(sim.Request("PUT", "/*/*"), sim.First(1, sim.LoseRequest(sim.Reset))))
		}, blueapi.NotStarted, blueapi.Withdrawn, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				id, err := w.newClient(t).SubmitTask(t.Context(), nap)
				if err != nil {
					t.Fatal(err)
				}
				c.befall(w)
				var result blueapi.Result
				run, err := w.client.StartTask(t.Context(), id)
				if err == nil {
					defer run.Close()
					result, err = run.Wait(t.Context())
				} else if e, ok := errors.AsType[*blueapi.RunError](err); ok {
					result = e.Result
				}
				if result.Word != c.word || result.Reason != c.why || w.puts() != c.puts {
					t.Errorf("%+v, %v, %d requests to start it", result, err, w.puts())
				}
				w.truth(t, "", result, err)
			})
		})
	}
}

// TestStartTaskThatHasBegun: a task that somebody else has started is not asked for again.
func TestStartTaskThatHasBegun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id, err := w.client.SubmitTask(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		start(t, w, id)
		before := w.puts()
		run, err := w.client.StartTask(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		result, err := run.Wait(t.Context())
		if n := w.puts() - before; n != 0 {
			t.Errorf("%d requests to start it", n)
		}
		w.truth(t, "", result, err)
		_, err = w.client.StartTask(t.Context(), "none")
		if e, ok := errors.AsType[*blueapi.Error](err); !ok || e.Status != http.StatusNotFound {
			t.Errorf("%v", err)
		}
	})
}
