package gateway_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

func put() sim.Match { return sim.Request("PUT", "/worker/task") }

// aliased is a gateway that may replace tasks.
func aliased(w *world) { w.gateway.Aliases = true }

// verdict is the gateway's own word on what became of a request.
func verdict(a answer) string { return a.header.Get("Adamant-Verdict") }

// TestLostStart: whatever befalls the request that starts a plan, or its answer, the
// caller is told the truth, and with aliases it surfaces nowhere.
func TestLostStart(t *testing.T) {
	type seen struct {
		status  int
		verdict string
		runs    int
	}
	started := seen{200, "", 1}
	withdrawn := seen{503, "withdrawn", 0}
	for name, tc := range map[string]struct {
		body           string
		fault          sim.Fault
		plain, aliased seen
	}{
		"answer lost":              {nap, sim.LoseAnswer(sim.Reset), started, started},
		"answer lost in silence":   {nap, sim.LoseAnswer(sim.Silence), started, started},
		"answer cut off":           {nap, sim.CutAnswer(-3, sim.Close), started, started},
		"answered by a proxy":      {nap, sim.Instead(sim.Status(504)), started, started},
		"request lost":             {nap, sim.LoseRequest(sim.Reset), withdrawn, started},
		"request lost in silence":  {nap, sim.LoseRequest(sim.Silence), withdrawn, started},
		"refused by a proxy":       {nap, sim.Status(503), withdrawn, started},
		"late":                     {nap, sim.Late(500*time.Millisecond, sim.Reset), started, started},
		"too late":                 {nap, sim.Late(20*time.Second, sim.Reset), withdrawn, started},
		"sent twice":               {nap, sim.Twice(100 * time.Millisecond), started, started},
		"slow to start":            {slowStart, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer { return next() }, started, started},
		"slow to start, and lost":  {slowStart, sim.LoseAnswer(sim.Reset), started, started},
		"the server stands still":  {slowStart, sim.Stall(2500 * time.Millisecond), started, started},
		"and answers a proxy only": {slowStart, sim.Instead(sim.Status(502)), started, started},
	} {
		for _, aliases := range []bool{false, true} {
			want := tc.plain
			t.Run(name+map[bool]string{true: " with aliases"}[aliases], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, func(w *world) { w.gateway.Aliases = aliases })
					if aliases {
						want = tc.aliased
					}
					id := w.caller.submit(tc.body)
					w.Inject(sim.When(put(), sim.First(1, tc.fault)))
					a := w.caller.start(id)
					if a.err != nil || a.status != want.status || verdict(a) != want.verdict {
						t.Errorf("%v (%s), want %v", a, verdict(a), want)
					}
					switch a.status {
					case 200:
						if a.body != `{"task_id":"`+id+`"}` {
							t.Errorf("started: %v", a)
						}
						if task := w.caller.await(id); task.ID != id || task.Outcome == nil {
							t.Errorf("ended: %+v", task)
						}
					case 503:
						if !strings.Contains(detailOf(t, a), id) || a.header.Get("Retry-After") == "" {
							t.Errorf("%v %v", a, a.header)
						}
						if _, status := w.caller.read(id); status != 404 {
							t.Errorf("a withdrawn task is %d", status)
						}
					}
					time.Sleep(10 * time.Minute)
					if n := len(w.Runs()); n != want.runs {
						t.Errorf("%d runs", n)
					}
				})
			})
		}
	}
}

// TestAlias: a task that took the place of another is seen as the other everywhere.
func TestAlias(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, aliased)
		id := w.caller.submit(nap)
		w.Inject(sim.When(put(), sim.First(2, sim.LoseRequest(sim.Reset))))
		if a := w.caller.start(id); a.status != 200 {
			t.Fatal(a)
		}
		real := w.Runs()[0].TaskID
		if real == id {
			t.Fatal("no other task was made")
		}
		for _, path := range []string{"/tasks", "/tasks/" + id, "/api/v1/tasks/" + id, "/tasks/" + real, "/worker/task"} {
			a := w.caller.get(path)
			if a.status != 200 || !strings.Contains(a.body, id) || strings.Contains(a.body, real) {
				t.Errorf("%s: %v", path, a)
			}
		}
		if a := w.caller.ask(t.Context(), "GET", "/tasks/"+id, "{}"); a.status != 200 || !strings.Contains(a.body, id) || strings.Contains(a.body, real) {
			t.Errorf("with a body: %v", a)
		}
		if a := w.caller.start(id); a.status != 409 {
			t.Errorf("again: %v", a)
		}
		if s := w.gateway.Status(); s.Aliases != 1 || len(s.Starting)+len(s.Unsettled) != 0 {
			t.Errorf("%+v", s)
		}
		w.caller.await(id)
		time.Sleep(time.Second)
		if a := w.caller.start(id); a.status != 404 {
			t.Errorf("again, when it has ended: %v", a)
		}
		if a := w.caller.ask(t.Context(), "DELETE", "/tasks/"+id, ""); a.status != 200 || a.body != `{"task_id":"`+id+`"}` {
			t.Errorf("deleted: %v", a)
		}
		if r := w.did("PUT", "/worker/task"); r[0].Deed != "replaced" || r[0].Status != 200 {
			t.Errorf("%+v", r[0])
		}
		w.Restart(time.Second)
		time.Sleep(2 * time.Second)
		w.caller.get("/environment")
		if s := w.gateway.Status(); s.Aliases != 0 {
			t.Errorf("in another environment: %+v", s)
		}
		if n := len(w.Runs()); n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}

// TestLostAgainAndAgain: five tasks are made, and then it is as if nothing had been
// asked.
func TestLostAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, aliased)
		id := w.caller.submit(nap)
		w.Inject(sim.When(put(), sim.LoseRequest(sim.Reset)))
		if a := w.caller.start(id); a.status != 503 || verdict(a) != "not-sent" {
			t.Errorf("%v (%s)", a, verdict(a))
		}
		if n := w.asked("PUT", "/worker/task"); n != 5 {
			t.Errorf("%d requests", n)
		}
		if task, status := w.caller.read(id); status != 200 || !task.IsPending || task.ID != id {
			t.Errorf("%d %+v", status, task)
		}
		w.Heal()
		if a := w.caller.start(id); a.status != 200 {
			t.Error(a)
		}
		w.caller.await(id)
		if n := len(w.Runs()); n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}

// TestUnreachable: a start that was not sent says so, and is not made up for later.
func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, aliased)
		id := w.caller.submit(nap)
		w.Network().Set(memnet.Kill)
		a := w.caller.start(id)
		if a.status != 503 || verdict(a) != "not-sent" || a.header.Get("Retry-After") == "" || a.header.Get("X-Should-Retry") != "false" {
			t.Errorf("%v %v", a, a.header)
		}
		if a.took < 2*time.Second || a.took > 5*time.Second {
			t.Errorf("after %v", a.took)
		}
		detailOf(t, a)
		w.Network().Set(memnet.Healthy)
		time.Sleep(time.Minute)
		if n := len(w.Runs()); n != 0 {
			t.Errorf("%d runs", n)
		}
	})
}

// TestUnknown: a start of which nobody knows is not made again, whoever asks, and is
// settled when the server answers.
func TestUnknown(t *testing.T) {
	for name, tc := range map[string]struct {
		fault  sim.Fault
		status int // of the same request afterwards
		runs   int
	}{
		"it had begun": {sim.LoseAnswer(sim.Reset), 200, 1},
		"it was lost":  {sim.LoseRequest(sim.Reset), 503, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				id := w.caller.submit(task("nap", `{"seconds":600}`))
				w.Inject(sim.When(put(), sim.First(1, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
					a := tc.fault(x, next)
					w.Network().Set(memnet.Kill)
					return a
				})))
				a := w.caller.start(id)
				if a.status != 504 || verdict(a) != "unknown" || !strings.Contains(detailOf(t, a), id) {
					t.Errorf("%v (%s)", a, verdict(a))
				}
				if s := w.gateway.Status(); len(s.Unsettled) != 1 || s.Unsettled[0] != id {
					t.Errorf("%+v", s)
				}
				w.Network().Set(memnet.Healthy)
				if a := w.caller.start(id); a.status != tc.status {
					t.Errorf("again: %v", a)
				}
				if s := w.gateway.Status(); len(s.Unsettled) != 0 {
					t.Errorf("settled: %+v", s)
				}
				if n := w.asked("PUT", "/worker/task"); n != 1 || len(w.Runs()) != tc.runs {
					t.Errorf("%d requests, %d runs", n, len(w.Runs()))
				}
			})
		})
	}
}

// TestRestarted: a server that has forgotten the task says nothing of what it did.
func TestRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, aliased)
		id := w.caller.submit(nap)
		w.Inject(sim.When(put(), sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			next()
			w.Restart(time.Second)
			return sim.Answer{End: sim.Reset}
		})))
		a := w.caller.start(id)
		if a.status != 504 || verdict(a) != "unknown" || !strings.Contains(detailOf(t, a), id) {
			t.Errorf("%v (%s)", a, verdict(a))
		}
		if n := len(w.Runs()); n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}

// TestJoined: callers who ask for a task to be started while it is, as one that has
// lost patience does, are told what became of the one request that is sent.
func TestJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.caller.submit(slowStart)
		w.Inject(sim.When(put(), sim.First(1, sim.Stall(2500*time.Millisecond))))
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				time.Sleep(time.Duration(i) * 200 * time.Millisecond)
				if a := w.caller.start(id); a.status != 200 || a.body != `{"task_id":"`+id+`"}` {
					t.Error(a)
				}
			})
		}
		callers.Wait()
		time.Sleep(time.Minute)
		if n := w.asked("PUT", "/worker/task"); n != 1 || len(w.Runs()) != 1 {
			t.Errorf("%d requests, %d runs", n, len(w.Runs()))
		}
		joined := 0
		for _, r := range w.did("PUT", "/worker/task") {
			if r.Deed == "joined" {
				joined++
			}
		}
		if joined != 19 {
			t.Errorf("%d joined", joined)
		}
	})
}

// TestStartedAlready: who asks for a task that has been started hears from the server that
// it has, through an outage too.
func TestStartedAlready(t *testing.T) {
	for name, f := range map[string]sim.Fault{
		"healthy": sim.Stall(0), "502": sim.Status(502), "reset": sim.LoseRequest(sim.Reset), "answer lost": sim.LoseAnswer(sim.Reset),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				id := w.caller.submit(longNap)
				if a := w.caller.start(id); a.status != 200 {
					t.Fatal(a)
				}
				w.Inject(sim.When(put(), sim.First(2, f)))
				if a := w.caller.start(id); a.status != 409 || verdict(a) != "" {
					t.Errorf("while it runs: %v (%s)", a, verdict(a))
				}
				w.caller.state("ABORTING")
				w.caller.await(id)
				w.Inject(sim.When(put(), sim.First(2, f)))
				if a := w.caller.start(id); a.status != 404 || verdict(a) != "" {
					t.Errorf("afterwards: %v (%s)", a, verdict(a))
				}
				if n := len(w.Runs()); n != 1 {
					t.Errorf("%d runs", n)
				}
			})
		})
	}
}

// TestBusy: a server that is busy is not asked, so that the task stays as it is.
func TestBusy(t *testing.T) {
	for _, state := range []string{"RUNNING", "PAUSED"} {
		t.Run(state, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				first, second := w.caller.submit(longNap), w.caller.submit(nap)
				if a := w.caller.start(first); a.status != 200 {
					t.Fatal(a)
				}
				if state == "PAUSED" {
					if a := w.caller.state("PAUSED"); a.status != 202 {
						t.Fatal(a)
					}
				}
				a := w.caller.start(second)
				if a.status != 409 || a.body != `{"detail":"Worker already active"}` || verdict(a) != "" {
					t.Errorf("%v (%s)", a, verdict(a))
				}
				if n := w.asked("PUT", "/worker/task"); n != 1 {
					t.Errorf("%d requests", n)
				}
				if a := w.caller.state("ABORTING"); a.status != 202 {
					t.Fatal(a)
				}
				time.Sleep(time.Second)
				if a := w.caller.start(second); a.status != 200 {
					t.Errorf("afterwards: %v", a)
				}
			})
		})
	}
}

// TestBusyAfterAll: when the server says so only to the request itself, the task that
// had to be withdrawn is replaced, or the caller told.
func TestBusyAfterAll(t *testing.T) {
	for aliases, want := range map[bool]struct {
		verdict string
		status  int // of the same request afterwards
		runs    int
	}{false: {"withdrawn", 404, 1}, true: {"", 200, 2}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world) { w.gateway.Aliases = aliases })
			direct := newCaller(t, w.Network(), "blueapi.sim:8000")
			defer direct.http.CloseIdleConnections()
			id := w.caller.submit(nap)
			rival := direct.submit(nap)
			w.Inject(sim.When(put(), sim.Nth(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				if a := direct.start(rival); a.status != 200 {
					t.Error(a)
				}
				return next()
			})))
			a := w.caller.start(id)
			if a.status != 409 || a.body != `{"detail":"Worker already active"}` || verdict(a) != want.verdict {
				t.Errorf("%v (%s)", a, verdict(a))
			}
			time.Sleep(2 * time.Second)
			if a := w.caller.start(id); a.status != want.status {
				t.Errorf("afterwards: %v", a)
			}
			time.Sleep(time.Minute)
			if n := len(w.Runs()); n != want.runs {
				t.Errorf("%d runs", n)
			}
		})
	}
}

// TestGoneBeforeAnythingWasSent: a start is taken back by a caller who goes away while
// it waits, and by none of several.
func TestGoneBeforeAnythingWasSent(t *testing.T) {
	for _, callers := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			id := w.caller.submit(nap)
			w.Network().Set(memnet.Refuse)
			w.Network().ResetConns("")
			time.AfterFunc(1500*time.Millisecond, func() { w.Network().Set(memnet.Healthy) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var others sync.WaitGroup
			if callers == 2 {
				others.Go(func() {
					if a := w.caller.start(id); a.status != 200 {
						t.Error(a)
					}
				})
			}
			w.caller.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+id+`"}`)
			others.Wait()
			time.Sleep(time.Minute)
			if n := len(w.Runs()); n != callers-1 {
				t.Errorf("%d callers: %d runs", callers, n)
			}
		})
	}
}

// refusing has new connections refused for a while. Those that exist go on.
func refusing(w *world) sim.Fault {
	return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
		w.Network().Set(memnet.Refuse)
		time.AfterFunc(1500*time.Millisecond, func() { w.Network().Set(memnet.Healthy) })
		return next()
	}
}

// TestGoneBeforeItCouldBeSent: a start is taken back too that was tried and not sent.
func TestGoneBeforeItCouldBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.caller.submit(nap)
		w.Inject(sim.When(sim.Request("GET", "/worker/state"), sim.First(1, refusing(w))))
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		w.caller.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+id+`"}`)
		time.Sleep(time.Minute)
		if task, status := w.caller.read(id); status != 200 || !task.IsPending || len(w.Runs()) != 0 {
			t.Errorf("%d %+v, %d runs", status, task, len(w.Runs()))
		}
	})
}

// TestGoneAfterwards: what was sent is settled though nobody waits for it.
func TestGoneAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.caller.submit(nap)
		w.Inject(sim.When(put(), sim.First(1, sim.LoseRequest(sim.Silence))))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if a := w.caller.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+id+`"}`); a.err == nil {
			t.Fatal(a)
		}
		time.Sleep(time.Minute)
		if _, status := w.caller.read(id); status != 404 {
			t.Errorf("a task that was lost, and nobody waits for, is %d", status)
		}
		if r := w.did("PUT", "/worker/task"); len(r) != 1 || !r[0].Gone {
			t.Errorf("%+v", r)
		}
	})
}

// startFaults are what can befall a request and its answer.
func startFaults(rng *rand.Rand) (string, sim.Fault) {
	late := time.Duration(rng.IntN(20000)) * time.Millisecond
	switch rng.IntN(9) {
	case 0:
		return "request lost", sim.LoseRequest(sim.Reset)
	case 1:
		return "request lost in silence", sim.LoseRequest(sim.Silence)
	case 2:
		return "answer lost", sim.LoseAnswer(sim.Reset)
	case 3:
		return "answer lost in silence", sim.LoseAnswer(sim.Silence)
	case 4:
		return "502", sim.Status(502)
	case 5:
		return "504 instead", sim.Instead(sim.Status(504))
	case 6:
		return "late " + late.String(), sim.Late(late, sim.Reset)
	case 7:
		return "late in silence " + late.String(), sim.Late(late, sim.Silence)
	}
	return "stall " + late.String(), sim.Stall(late / 5)
}

// TestPromise5 puts pairs of faults at any requests that starting a task takes, for
// callers who ask again whatever they are told: a task runs at most once, and what they
// are told is true.
func TestPromise5(t *testing.T) {
	n := 250
	if everything() {
		n = 10000
	}
	words := map[string]int{}
	for seed := range uint64(n) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 5))
			w := newWorld(t, func(w *world) { w.gateway.Aliases = seed%2 == 0 })
			body := []string{nap, slowStart, task("returns", `{"value":1}`)}[rng.IntN(3)]
			id := w.caller.submit(body)
			var names []string
			for range 1 + rng.IntN(2) {
				name, f := startFaults(rng)
				k := 1 + rng.IntN(14)
				names = append(names, name)
				w.Inject(sim.Nth(k, f))
			}
			name, f := startFaults(rng)
			w.Inject(sim.When(put(), sim.Nth(1, f)))
			names = append(names, name)
			var callers sync.WaitGroup
			var mu sync.Mutex
			var last answer
			for range 1 + rng.IntN(2) {
				pause := time.Duration(rng.IntN(20000)) * time.Millisecond
				callers.Go(func() {
					for range 3 {
						ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
						a := w.caller.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+id+`"}`)
						cancel()
						if a.err != nil {
							t.Errorf("seed %d: %v: %v", seed, names, a)
						}
						mu.Lock()
						last = a
						words[http.StatusText(a.status)+" "+verdict(a)]++
						mu.Unlock()
						if a.status == 200 || verdict(a) == "withdrawn" {
							return
						}
						time.Sleep(pause)
					}
				})
			}
			callers.Wait()
			time.Sleep(10 * time.Minute)
			runs := len(w.Runs())
			if runs > 1 {
				t.Errorf("seed %d: %v: %d runs", seed, names, runs)
			}
			if last.status == 200 && runs != 1 || verdict(last) == "withdrawn" && runs != 0 {
				t.Errorf("seed %d: %v: %v (%s), but %d runs", seed, names, last, verdict(last), runs)
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Log(words)
}

// loseStarts counts the requests to start a task, whatever they look like, and loses
// their answers.
func loseStarts(n *int) sim.Fault {
	var mu sync.Mutex
	return func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		if x.Method != http.MethodPut {
			return next()
		}
		mu.Lock()
		*n++
		mu.Unlock()
		next()
		return sim.Answer{End: sim.Reset}
	}
}
