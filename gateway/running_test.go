package gateway_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestRunning: the status names the plan that goes on, by its caller's id, from its start
// until somebody has seen its end.
func TestRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.gateway.Aliases = true })
		expect := func(when string, want ...string) {
			t.Helper()
			var got []string
			for _, r := range w.gateway.Status().Running {
				got = append(got, r.Task)
				if time.Since(r.Since) < 0 || time.Since(r.Since) > 10*time.Second {
					t.Errorf("%s: since %v", when, r.Since)
				}
			}
			if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
				t.Errorf("%s: %v, not %v", when, got, want)
			}
		}
		expect("before any")
		first := w.caller.submit(nap)
		w.Inject(sim.When(sim.Request("PUT", "/worker/task"), sim.First(1, sim.LoseRequest(sim.Reset))))
		if a := w.caller.start(first); a.status != 200 { // by another task
			t.Fatal(a)
		}
		expect("started", first)
		w.caller.get("/worker/state")
		expect("seen running", first)
		w.caller.await(first)
		expect("its end was seen")

		second := w.caller.submit(nap)
		w.caller.start(second, "Retry-Layer", "adamant")
		expect("started by who retries", second)
		time.Sleep(time.Second)
		expect("nobody has looked", second)
		w.caller.get("/worker/state")
		expect("the worker was seen idle")
	})
}
