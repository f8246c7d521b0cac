package gateway_test

import (
	"context"
	"encoding/json"
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
)

// TestEverythingAtOnce has callers submit, start, control, reload, delete and read
// through one gateway, some of whom give up at any moment, while requests and answers get
// lost and the server goes away. No task is started twice, each that is said to be
// started was, from a request to reload on nothing but the environment and the server's
// health is asked for until a new one shows, and nothing is left behind.
func TestEverythingAtOnce(t *testing.T) {
	n := 12
	if everything() {
		n = 400
	}
	words := map[string]int{}
	for seed := range uint64(n) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			w := newWorld(t, func(w *world) { w.gateway.Aliases = seed%3 != 0 })
			kinds := outages()
			w.Inject(reloads(t, seed))
			for range rng.IntN(6) {
				_, f := startFaults(rng)
				w.Inject(sim.Nth(1+rng.IntN(300), f))
			}
			var mu sync.Mutex
			started := map[string]bool{} // parameters of tasks that were said to be
			var callers sync.WaitGroup
			for i := range 10 {
				r := rand.New(rand.NewPCG(seed, uint64(100+i)))
				callers.Go(func() {
					for k := range 8 {
						time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
						ctx, stop := context.WithTimeout(t.Context(), []time.Duration{10 * time.Minute, time.Duration(r.IntN(5000)) * time.Millisecond}[r.IntN(4)/3])
						what, a := act(ctx, w.caller, r, fmt.Sprintf(`{"seconds":0.%d%d1}`, i, k))
						stop()
						mu.Lock()
						if a.err == nil {
							words[fmt.Sprint(what[:4], a.status, verdict(a))]++
						}
						if strings.HasPrefix(what, "{") && a.err == nil && a.status == http.StatusOK {
							started[what] = true
						}
						mu.Unlock()
					}
				})
			}
			if rng.IntN(2) == 0 {
				o := kinds[rng.IntN(7)] // those of the network: the others would heal what is observed
				at, long := time.Duration(rng.IntN(20))*time.Second, time.Duration(rng.IntN(20000))*time.Millisecond
				callers.Go(func() {
					time.Sleep(at)
					o.begin(w)
					time.Sleep(long)
					o.end(w)
				})
			}
			callers.Wait()
			time.Sleep(10 * time.Minute)
			runs := map[string]int{}
			for _, run := range w.Runs() {
				runs[string(run.Params)]++
			}
			for params, n := range runs {
				if n > 1 {
					t.Errorf("seed %d: %s ran %d times", seed, params, n)
				}
			}
			for params := range started {
				if runs[params] != 1 {
					t.Errorf("seed %d: %s was said to be started, and ran %d times", seed, params, runs[params])
				}
			}
			if s := w.gateway.Status(); s.Callers != 0 || s.Waiting != 0 || len(s.Starting) != 0 || s.Reloading {
				t.Errorf("seed %d: %+v", seed, s)
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Log(words)
}

// act does something a caller may do. It returns the parameters of the task, if it was
// to be started.
func act(ctx context.Context, c *caller, r *rand.Rand, params string) (what string, a answer) {
	switch r.IntN(12) {
	case 0:
		return "stop", c.ask(ctx, "PUT", "/worker/state", `{"new_state":"STOPPING"}`)
	case 1:
		if r.IntN(4) == 0 {
			return "reload", c.ask(ctx, "DELETE", "/environment", "")
		}
		return "docs", c.ask(ctx, "GET", "/docs", "")
	case 2:
		return "tasks", c.ask(ctx, "GET", "/tasks", "")
	case 3:
		return "state", c.ask(ctx, "GET", "/worker/state", "")
	case 4:
		return "environment", c.ask(ctx, "GET", "/environment", "")
	}
	a = c.ask(ctx, "POST", "/tasks", task("nap", params))
	var t struct {
		ID string `json:"task_id"`
	}
	if a.err != nil || a.status != http.StatusCreated || json.Unmarshal([]byte(a.body), &t) != nil {
		return "post", a
	}
	if r.IntN(6) == 0 {
		return "delete", c.ask(ctx, "DELETE", "/tasks/"+t.ID, "")
	}
	return params, c.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+t.ID+`"}`)
}

// reloads watches what is asked for while the server reloads.
func reloads(t *testing.T, seed uint64) sim.Fault {
	var mu sync.Mutex
	var old, latest string
	var reloading bool
	var since time.Time
	return func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		what := x.Method + " " + strings.TrimPrefix(x.URL.Path, "/api/v1")
		mu.Lock()
		switch {
		case what == "DELETE /environment":
			if !reloading {
				old = latest
			}
			reloading, since = true, x.Time
		case reloading && x.Time.Sub(since) < 75*time.Second && what != "GET /environment" && what != "GET /healthz":
			t.Errorf("seed %d: %s %v after a request to reload", seed, what, x.Time.Sub(since))
		}
		mu.Unlock()
		a := next()
		var env blueapi.Environment
		if what == "GET /environment" && a.Status == http.StatusOK && json.Unmarshal(a.Body, &env) == nil {
			mu.Lock()
			latest = env.ID
			if reloading && env.ID != old {
				reloading = false
			}
			mu.Unlock()
		}
		return a
	}
}
