package gateway_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

// TestCommandForWhatWasStarted: a plan that was started through the gateway is what its
// caller means, though nobody has asked since what the worker does.
func TestCommandForWhatWasStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.gateway.Wait = time.Minute })
		direct := newCaller(t, w.Network(), "blueapi.sim:8000")
		defer direct.http.CloseIdleConnections()
		if a := w.caller.start(w.caller.submit(task("nap", `{"seconds":25}`))); a.status != 200 {
			t.Fatal(a)
		}
		next := direct.submit(longNap)
		time.Sleep(20 * time.Second)
		w.Inject(sim.When(func(x *sim.Exchange) bool { return x.Header.Get("X-Direct") == "" }, sim.Status(503)))
		var asked sync.WaitGroup
		asked.Go(func() {
			if a := w.caller.state("ABORTING"); a.status != 400 {
				t.Error(a, a.header)
			}
		})
		time.Sleep(10 * time.Second)
		if a := direct.start(next, "X-Direct", "yes"); a.status != 200 {
			t.Fatal(a)
		}
		w.Heal()
		asked.Wait()
		time.Sleep(time.Second)
		if w.Runs()[1].Aborted {
			t.Error("the next plan was aborted")
		}
	})
}

// TestCommandInOtherWords: a command is bound to its plan in whatever form the server
// takes it, or is not kept until another runs.
func TestCommandInOtherWords(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		kind   string
	}{
		"byte order mark":     {400, "\ufeff" + `{"new_state":"ABORTING"}`, "application/json"},
		"a strange parameter": {400, `{"new_state":"ABORTING"}`, "application/json; utf-8"},
		"a text for a truth":  {503, `{"new_state":"ABORTING","defer":"no"}`, "application/json"},
		"UTF-16":              {503, "{\x00\"\x00n\x00}\x00", "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) { w.gateway.Wait = time.Minute })
				direct := newCaller(t, w.Network(), "blueapi.sim:8000")
				defer direct.http.CloseIdleConnections()
				if a := w.caller.start(w.caller.submit(task("nap", `{"seconds":5}`))); a.status != 200 {
					t.Fatal(a)
				}
				next := direct.submit(longNap)
				w.Network().Set(memnet.Kill)
				var asked sync.WaitGroup
				asked.Go(func() {
					a := w.caller.ask(t.Context(), "PUT", "/worker/state", tc.body, "Content-Type", tc.kind)
					if a.status != tc.status || a.status == 503 && verdict(a) != "not-sent" {
						t.Errorf("%v (%s)", a, verdict(a))
					}
				})
				time.Sleep(10 * time.Second)
				w.Network().Set(memnet.Healthy)
				if a := direct.start(next); a.status != 200 {
					t.Fatal(a)
				}
				asked.Wait()
				time.Sleep(time.Second)
				if n := w.asked("PUT", "/worker/state"); n != 0 || w.Runs()[1].Aborted {
					t.Errorf("%d commands; the next plan was aborted: %v", n, w.Runs()[1].Aborted)
				}
			})
		})
	}
}
