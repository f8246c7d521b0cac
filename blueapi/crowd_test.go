package blueapi_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestEverythingAtOnce has many callers run, control, reload and read through one client,
// some of whom give up at any moment, while requests get lost. All come to an end, and
// from a request to reload on nothing but the environment is asked for until a new one is
// seen, or it hangs.
func TestEverythingAtOnce(t *testing.T) {
	n := 30
	if everything() {
		n = 1000
	}
	for seed := range uint64(n) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			w := newWorld(t)
			w.Network().Latency = time.Millisecond
			c := &blueapi.Client{
				Transport: &http.Transport{DialContext: func(ctx context.Context, n, a string) (net.Conn, error) { return w.DialContext(ctx, n, a) }},
			}
			defer c.Close()
			var mu sync.Mutex
			var old, latest string
			var reloading bool
			var since time.Time
			w.Inject(func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
				what := x.Method + " " + strings.TrimPrefix(x.URL.Path, "/api/v1")
				mu.Lock()
				switch {
				case what == "DELETE /environment":
					if !reloading {
						old = latest
					}
					reloading, since = true, x.Time
				case reloading && x.Time.Sub(since) < 75*time.Second && what != "GET /environment" && what != "DELETE /environment":
					t.Errorf("seed %d: %s %v after a request to reload", seed, what, x.Time.Sub(since))
				}
				mu.Unlock()
				a := next()
				var env blueapi.Environment
				if what == "GET /environment" && a.Status == 200 && json.Unmarshal(a.Body, &env) == nil {
					mu.Lock()
					latest = env.ID
					if reloading && env.ID != old {
						reloading = false
					}
					mu.Unlock()
				}
				return a
			})
			for range rng.IntN(4) {
				_, f := commandFaults(rng)
				w.Inject(sim.When(sim.Request(pick(rng, []string{"GET", "PUT", "DELETE"}), pick(rng, []string{"/environment", "/worker/*", "/tasks/*"})), sim.Nth(1+rng.IntN(5), f)))
			}
			var callers sync.WaitGroup
			call := func(r *rand.Rand) {
				ctx := t.Context()
				switch r.IntN(6) {
				case 0:
					run, end := context.WithTimeout(ctx, 5*time.Minute) // somebody may pause it
					_, _ = c.Run(run, nap)
					end()
				case 1:
					ctx, stop := context.WithTimeout(ctx, between(r, time.Millisecond, 2*time.Minute))
					_, _ = c.Control(ctx, blueapi.Command{Verb: pick(r, []blueapi.Verb{blueapi.Abort, blueapi.Pause, blueapi.Stop})})
					stop()
				case 2:
					ctx, stop := context.WithTimeout(ctx, between(r, time.Millisecond, 2*time.Minute))
					_, _ = c.Reload(ctx, r.IntN(2) == 0)
					stop()
				case 3:
					_, _ = c.Plans(ctx)
				case 4:
					_, _ = c.Tasks(ctx, "")
				case 5:
					_, _ = c.WorkerState(ctx)
				}
			}
			begin := time.Now()
			for i := range 12 {
				r := rand.New(rand.NewPCG(seed, uint64(100+i)))
				callers.Go(func() {
					for range 4 {
						time.Sleep(between(r, time.Millisecond, 3*time.Second))
						call(r)
					}
				})
			}
			callers.Wait()
			if took := time.Since(begin); took > 30*time.Minute {
				t.Errorf("seed %d: took %v", seed, took)
			}
		})
		if t.Failed() {
			return
		}
	}
}
