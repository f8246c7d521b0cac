package gateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

func setState() sim.Match { return sim.Request("PUT", "/worker/state") }

// TestControl: commands to a plan that runs are answered as the server answers.
func TestControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, bare := newWorld(t, nil), newWorld(t, nil)
		bare.caller.get("/environment")
		direct := newCaller(t, bare.Network(), "blueapi.sim:8000")
		defer direct.http.CloseIdleConnections()
		for _, c := range []*caller{w.caller, direct} {
			if a := c.start(c.submit(longNap)); a.status != 200 {
				t.Fatal(a)
			}
		}
		for _, body := range []string{
			`{"new_state":"RUNNING"}`, `{"new_state":"PAUSED"}`, `{"new_state":"PAUSED"}`, `{"new_state":"RUNNING"}`, `{"new_state":"RUNNING"}`,
		} {
			want := direct.ask(t.Context(), "PUT", "/worker/state", body)
			got := w.caller.ask(t.Context(), "PUT", "/worker/state", body)
			if got.status != want.status || got.body != want.body || got.header.Get("Adamant-Warning") != "" {
				t.Errorf("%s: %v %v, want %v", body, got, got.header, want)
			}
			if body == `{"new_state":"RUNNING"}` && got.status == 202 && got.took < 50*time.Second {
				t.Errorf("resumed in %v", got.took) // it is answered when the plan has ended
			}
		}
		for _, verb := range []string{"ABORTING", "STOPPING"} {
			for _, c := range []*caller{w.caller, direct} {
				if a := c.start(c.submit(longNap)); a.status != 200 {
					t.Fatal(a)
				}
			}
			body := `{"new_state":"` + verb + `","reason":"because"}`
			want := direct.ask(t.Context(), "PUT", "/api/v1/worker/state", body)
			got := w.caller.ask(t.Context(), "PUT", "/api/v1/worker/state", body)
			if got.status != want.status || got.body != want.body {
				t.Errorf("%s: %v, want %v", body, got, want)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestLostCommand: a command whose answer is lost is answered all the same, and had its
// effect once.
func TestLostCommand(t *testing.T) {
	for _, to := range []string{"ABORTING", "STOPPING", "PAUSED"} {
		for name, f := range map[string]sim.Fault{"request": sim.LoseRequest(sim.Reset), "answer": sim.LoseAnswer(sim.Reset), "proxy": sim.Instead(sim.Status(504))} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				if a := w.caller.start(w.caller.submit(longNap)); a.status != 200 {
					t.Fatal(a)
				}
				w.Inject(sim.When(setState(), sim.First(1, f)))
				if a := w.caller.state(to); a.status != 202 {
					t.Errorf("%s: %s lost: %v", to, name, a)
				}
			})
		}
	}
}

// TestCommandsDoNotStray: the plan that was active when a caller asked ends in an
// outage, and another begins; the caller's command is not for that.
func TestCommandsDoNotStray(t *testing.T) {
	for _, seen := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world) { w.gateway.Wait = time.Minute })
			w.caller.get("/environment")
			direct := newCaller(t, w.Network(), "blueapi.sim:8000")
			defer direct.http.CloseIdleConnections()
			if a := direct.start(direct.submit(task("nap", `{"seconds":5}`))); a.status != 200 {
				t.Fatal(a)
			}
			next := direct.submit(longNap)
			if seen {
				w.caller.get("/worker/task")
			}
			w.Inject(sim.When(func(x *sim.Exchange) bool { return x.Header.Get("X-Direct") == "" }, sim.Status(503)))
			var asked sync.WaitGroup
			asked.Go(func() {
				a := w.caller.state("ABORTING")
				if want := map[bool]int{true: 400, false: 202}[seen]; a.status != want {
					t.Errorf("seen before %v: %v", seen, a)
				}
			})
			time.Sleep(10 * time.Second)
			if a := direct.start(next, "X-Direct", "yes"); a.status != 200 {
				t.Fatal(a)
			}
			w.Heal()
			asked.Wait()
			time.Sleep(time.Second)
			if aborted := w.Runs()[1].Aborted; aborted == seen { // unless nobody could know better
				t.Errorf("seen before %v: the next plan was aborted: %v", seen, aborted)
			}
		})
	}
}

// TestCommandAfterALateOne: that a command was late, and meant for a plan that had ended,
// says nothing of the next command: that is for the plan that the worker was seen to have.
func TestCommandAfterALateOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.caller.get("/environment")
		direct := newCaller(t, w.Network(), "blueapi.sim:8000")
		defer direct.http.CloseIdleConnections()
		outage := func() {
			w.Inject(sim.When(func(x *sim.Exchange) bool { return x.Header.Get("X-Direct") == "" }, sim.Status(503)))
			time.AfterFunc(time.Second, w.Heal)
		}
		if a := direct.start(direct.submit(task("nap", `{"seconds":1}`))); a.status != 200 {
			t.Fatal(a)
		}
		next := direct.submit(longNap)
		w.caller.get("/worker/task")
		time.Sleep(500 * time.Millisecond)
		outage()
		time.AfterFunc(600*time.Millisecond, func() {
			if a := direct.start(next, "X-Direct", "yes"); a.status != 200 {
				t.Error(a)
			}
		})
		if a := w.caller.state("ABORTING"); a.status != 400 {
			t.Errorf("for the plan that has ended: %v", a)
		}
		outage()
		if a := w.caller.state("ABORTING"); a.status != 202 {
			t.Errorf("for the one that runs: %v", a)
		}
	})
}

// TestCommandToNothing: a command for which there was no plan is not kept for one that
// begins later.
func TestCommandToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.caller.get("/environment")
		direct := newCaller(t, w.Network(), "blueapi.sim:8000")
		defer direct.http.CloseIdleConnections()
		want := direct.state("ABORTING", "X-Direct", "yes")
		id := direct.submit(longNap, "X-Direct", "yes")
		ours := func(x *sim.Exchange) bool { return x.Header.Get("X-Direct") == "" }
		first := func(x *sim.Exchange) bool { return ours(x) && x.URL.Path == "/worker/task" }
		w.Inject(sim.When(first, sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.Inject(sim.When(ours, sim.Status(503)))
			time.AfterFunc(1500*time.Millisecond, w.Heal)
			time.AfterFunc(500*time.Millisecond, func() {
				if a := direct.start(id, "X-Direct", "yes"); a.status != 200 {
					t.Error(a)
				}
			})
			return next()
		})))
		if a := w.caller.state("ABORTING"); a.status != want.status || a.body != want.body {
			t.Errorf("%v, want %v", a, want)
		}
		time.Sleep(5 * time.Second)
		if runs := w.Runs(); len(runs) != 1 || runs[0].Aborted {
			t.Errorf("%+v", runs)
		}
	})
}

// TestPromise6 sends commands in a plan's last seconds while another client starts a
// plan as soon as that has ended, with faults at any request: if the other plan was hit,
// the caller is told that it may have been.
func TestPromise6(t *testing.T) {
	n := 150
	if everything() {
		n = 5000
	}
	words := map[string]int{}
	for seed := range uint64(n) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 6))
			w := newWorld(t, nil)
			id := w.caller.submit(task("nap", `{"seconds":5}`))
			if a := w.caller.start(id); a.status != 200 {
				t.Fatal(a)
			}
			direct := newCaller(t, w.Network(), "blueapi.sim:8000")
			defer direct.http.CloseIdleConnections()
			to := []string{"ABORTING", "STOPPING", "PAUSED"}[rng.IntN(3)]
			time.Sleep(time.Duration(1000+rng.IntN(3990)) * time.Millisecond)
			var names []string
			for range 1 + rng.IntN(2) {
				name, f := startFaults(rng)
				m := setState()
				if rng.IntN(2) == 0 {
					m = sim.Request("GET", "/worker/*")
				}
				names = append(names, name)
				ours := func(x *sim.Exchange) bool { return x.Header.Get("X-Rival") == "" && m(x) }
				w.Inject(sim.When(ours, sim.Nth(1+rng.IntN(4), f)))
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			next := direct.submit(longNap, "X-Rival", "yes")
			var rival sync.WaitGroup
			rival.Go(func() {
				for ctx.Err() == nil {
					if a := direct.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+next+`"}`, "X-Rival", "yes"); a.status == 200 {
						return
					}
					time.Sleep(3 * time.Millisecond)
				}
			})
			a := w.caller.state(to)
			if a.err != nil {
				t.Errorf("seed %d: %v: %v", seed, names, a)
			}
			if to == "PAUSED" && a.status == 202 {
				_ = direct.state("ABORTING", "X-Rival", "yes")
			}
			rival.Wait()
			w.Heal()
			time.Sleep(30 * time.Second)
			told := a.header.Get("Adamant-Warning") != "" || a.status >= 500
			words[fmt.Sprint(a.status, " told ", told)]++
			for _, run := range w.Runs() {
				if run.TaskID == next && run.Aborted && !told && to != "PAUSED" {
					t.Errorf("seed %d: %v: the other plan was hit, and nothing was said: %v %v", seed, names, a, a.header)
				}
			}
			time.Sleep(time.Minute)
		})
		if t.Failed() {
			return
		}
	}
	t.Log(words)
}

// TestControlThroughGateway: a client that guards its commands itself does so through a
// gateway too.
func TestControlThroughGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.client()
		run, err := c.Start(t.Context(), blueapi.TaskRequest{Name: "nap", Params: []byte(`{"seconds":60}`), InstrumentSession: "cm12345-1"})
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		for _, verb := range []blueapi.Verb{blueapi.Pause, blueapi.Abort} {
			w.Inject(sim.When(setState(), sim.First(1, sim.LoseAnswer(sim.Reset))))
			if result, err := c.Control(t.Context(), blueapi.Command{Verb: verb, TaskID: run.TaskID()}); err != nil {
				t.Errorf("%v: %+v, %v", verb, result, err)
			}
			w.Heal()
		}
		if _, err := c.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort}); err == nil || !strings.Contains(err.Error(), "Cannot transition from IDLE to ABORTING") {
			t.Error(err)
		}
	})
}

// TestAbandonedCommand: a command that still waits is dropped when its caller goes.
func TestAbandonedCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		if a := w.caller.start(w.caller.submit(longNap)); a.status != 200 {
			t.Fatal(a)
		}
		w.Network().Set(memnet.Kill)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		w.caller.ask(ctx, "PUT", "/worker/state", `{"new_state":"ABORTING"}`)
		w.Network().Set(memnet.Healthy)
		time.Sleep(10 * time.Second)
		if w.Runs()[0].Aborted || w.asked("PUT", "/worker/state") != 0 {
			t.Error("the plan was aborted for nobody")
		}
	})
}

// TestCommandInVain: commands that could not be carried out are answered truthfully.
func TestCommandInVain(t *testing.T) {
	away := func(w *world) sim.Fault {
		return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			next()
			w.Network().Set(memnet.Kill)
			return sim.Answer{End: sim.Reset}
		}
	}
	for name, tc := range map[string]struct {
		to      string
		prepare func(w *world)
		status  int
		verdict string
	}{
		"the server is away":      {"ABORTING", func(w *world) { w.Network().Set(memnet.Kill) }, 503, "not-sent"},
		"it goes away when asked": {"ABORTING", func(w *world) { w.Inject(sim.When(setState(), away(w))) }, 504, "unknown"},
		"it goes away in between": {"ABORTING", func(w *world) { w.Inject(sim.When(sim.Request("GET", "/worker/state"), away(w))) }, 503, "not-sent"},
		"nobody may": {"PAUSED", func(w *world) {
			w.Inject(sim.When(setState(), own(403, `{"detail":"Not authorized to set worker state"}`)))
		}, 403, ""},
		"the server refuses":         {"PAUSED", func(w *world) { w.Inject(sim.When(setState(), own(418, `{"detail":"no"}`))) }, 418, ""},
		"it does not answer as such": {"PAUSED", func(w *world) { w.Inject(sim.When(sim.Request("GET", "/worker/task"), own(200, `[]`))) }, 502, "not-sent"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				if a := w.caller.start(w.caller.submit(longNap)); a.status != 200 {
					t.Fatal(a)
				}
				tc.prepare(w)
				a := w.caller.state(tc.to)
				if a.status != tc.status || verdict(a) != tc.verdict {
					t.Errorf("%v (%s)", a, verdict(a))
				}
				detailOf(t, a)
			})
		})
	}
}

// own is an answer of blueapi's own.
func own(status int, body string) sim.Fault {
	return func(*sim.Exchange, func() sim.Answer) sim.Answer {
		h := http.Header{"Content-Type": {"application/json"}, "X-Blueapi-Version": {sim.Version}}
		return sim.Answer{Status: status, Header: h, Body: []byte(body)}
	}
}

// TestResumedPlanThatBreaks: a resumed plan that emits a document is aborted by the
// server, which says that it is broken (1.21.1).
func TestResumedPlanThatBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		if a := w.caller.start(w.caller.submit(task("count", `{"detectors":["det"],"num":50,"delay":0.5}`))); a.status != 200 {
			t.Fatal(a)
		}
		time.Sleep(time.Second)
		if a := w.caller.state("PAUSED"); a.status != 202 {
			t.Fatal(a)
		}
		if a := w.caller.state("RUNNING"); a.status != 500 || !strings.Contains(detailOf(t, a), "over") {
			t.Error(a)
		}
	})
}
