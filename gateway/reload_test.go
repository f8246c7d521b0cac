package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/memnet"
)

// environment reads the environment.
func (c *caller) environment() (env blueapi.Environment) {
	c.t.Helper()
	a := c.get("/environment")
	if a.status != 200 || json.Unmarshal([]byte(a.body), &env) != nil {
		c.t.Errorf("environment: %v", a)
	}
	return env
}

// TestReload: a reload is answered at once; until the new environment shows all other
// callers wait, and then get what they asked for. The same callers would have the server
// hang.
func TestReload(t *testing.T) {
	for name, fault := range map[string]sim.Fault{
		"healthy":      nil,
		"answer lost":  sim.LoseAnswer(sim.Reset),
		"request lost": sim.LoseRequest(sim.Reset),
		"503":          sim.Status(503),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(w *world) { w.TeardownTime = 2 * time.Second })
				pending := w.caller.submit(nap)
				before := w.caller.environment()
				if fault != nil {
					w.Inject(sim.When(sim.Request("DELETE", "/environment"), sim.First(1, fault)))
				}
				ctx, stop := context.WithCancel(t.Context())
				var pollers sync.WaitGroup
				var mu sync.Mutex
				var slowest time.Duration
				for i := range 10 {
					pollers.Go(func() {
						time.Sleep(time.Duration(i) * 37 * time.Millisecond)
						for ctx.Err() == nil {
							path := []string{"/worker/state", "/plans", "/tasks", "/worker/task", "/nonesuch"}[i%5]
							a := w.caller.get(path)
							if a.err != nil || a.status != 200 && path != "/nonesuch" {
								t.Errorf("%s: %v", path, a)
							}
							mu.Lock()
							slowest = max(slowest, a.took)
							mu.Unlock()
							time.Sleep(500 * time.Millisecond)
						}
					})
				}
				time.Sleep(3 * time.Second)
				a := w.caller.ask(t.Context(), "DELETE", "/environment", "")
				if a.status != 200 || a.body != `{"environment_id":"`+before.ID+`","initialized":false,"error_message":null}` {
					t.Errorf("%v", a)
				}
				if fault == nil && a.took > time.Second {
					t.Errorf("answered after %v", a.took)
				}
				if s := w.gateway.Status(); fault == nil && !s.Reloading {
					t.Errorf("%+v", s)
				}
				if again := w.caller.ask(t.Context(), "DELETE", "/environment", ""); again.status != 200 {
					t.Errorf("again: %v", again)
				}
				if a := w.caller.get("/healthz"); a.status != 200 || a.took > time.Second {
					t.Errorf("health: %v after %v", a, a.took)
				}
				begin := time.Now()
				for {
					if env := w.caller.environment(); env.ID != before.ID && env.Initialized {
						break
					}
					if time.Since(begin) > time.Minute {
						t.Fatal("no new environment")
					}
					time.Sleep(500 * time.Millisecond)
				}
				if a := w.caller.start(pending); a.status != 404 {
					t.Errorf("a task of before: %v", a)
				}
				time.Sleep(2 * time.Second)
				stop()
				pollers.Wait()
				if slowest < 3*time.Second || slowest > 20*time.Second {
					t.Errorf("the slowest took %v", slowest)
				}
				most := 1
				if name != "healthy" {
					most = 2 // if it was lost, it is asked again
				}
				if n := w.asked("DELETE", "/environment"); n > most {
					t.Errorf("%d requests to reload", n)
				}
			})
		})
	}
}

// TestReloadUnreachable: a reload that could not be asked for holds nobody back.
func TestReloadUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.caller.environment()
		w.Network().Set(memnet.Kill)
		if a := w.caller.ask(t.Context(), "DELETE", "/environment", ""); a.status != 503 || verdict(a) != "not-sent" {
			t.Error(a)
		}
		w.Network().Set(memnet.Healthy)
		if a := w.caller.get("/plans"); a.status != 200 {
			t.Error(a)
		}
		if n := w.asked("DELETE", "/environment"); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestReloadThroughGateway: clients that reload themselves, and their calls, come through
// a gateway.
func TestReloadThroughGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.TeardownTime = 2 * time.Second })
		c := w.client()
		before, err := c.Environment(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var others sync.WaitGroup
		for i := range 5 {
			others.Go(func() {
				time.Sleep(time.Duration(i) * 300 * time.Millisecond)
				if _, err := w.client().Plans(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(200 * time.Millisecond)
		after, err := c.Reload(t.Context(), false)
		if err != nil || after.ID == before.ID {
			t.Errorf("%+v, %v", after, err)
		}
		others.Wait()
	})
}

// TestReloadOutlastsAnOutage is promise 1 for reloads.
func TestReloadOutlastsAnOutage(t *testing.T) {
	for i, o := range outages() {
		for k := range 5 {
			if !everything() && (i+k)%5 != 0 {
				continue
			}
			at := []time.Duration{-900, -300, 1, 5, 800}[k] * time.Millisecond
			t.Run(fmt.Sprintf("%s/%v", o.name, at), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, nil)
					before := w.caller.environment()
					outlast(t, w, o, 2*time.Second, at, func() error {
						return wants(w.caller.ask(t.Context(), "DELETE", "/environment", ""), 200)
					})
					time.Sleep(2 * time.Minute)
					if after := w.caller.environment(); after.ID == before.ID || !after.Initialized {
						t.Errorf("%+v", after)
					}
					if a := w.caller.get("/plans"); a.status != 200 || !strings.Contains(a.body, "nap") {
						t.Error(a)
					}
				})
			})
		}
	}
}

// reloadStore is a ReloadStore.
type reloadStore struct{ last gateway.Reload }

func (r *reloadStore) KeepReload(_ context.Context, last gateway.Reload) error {
	r.last = last
	return nil
}

func (r *reloadStore) Reload(context.Context) (gateway.Reload, error) { return r.last, nil }

// TestReloadOutlivesTheGatewayForAll: who comes in another way than by asking is held back
// too, and so is what the gateway itself asks.
func TestReloadOutlivesTheGatewayForAll(t *testing.T) {
	for name, come := range map[string]func(w *world){
		"session": func(w *world) {
			if got := w.caller.runPlan(nap); got.code != 1000 {
				w.Errorf("%+v", got)
			}
		},
		"listener": func(w *world) {
			serveStomp(w.T, w, w.gateway.ServeStomp)
			newEar(w)
			time.Sleep(30 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kept := new(reloadStore)
				w := newWorld(t, func(w *world) {
					w.TeardownTime, w.ReloadTime = 4*time.Second, 15*time.Second
					w.gateway.ReloadStore = kept
				})
				before := w.caller.environment()
				if a := w.caller.ask(t.Context(), "DELETE", "/environment", ""); a.status != 200 {
					t.Fatal(a)
				}
				w.next(func(g *gateway.Gateway) { g.ReloadStore = kept })
				come(w)
				if now := w.caller.environment(); now.ID == before.ID || !now.Initialized {
					t.Errorf("%+v", now)
				}
				if a := w.caller.get("/worker/state"); a.body != `"IDLE"` {
					t.Error(a)
				}
			})
		})
	}
}

// TestReloadThatIsNone: the next gateway holds nobody back for a reload that was refused,
// nor for longer than one takes if the clock was wrong.
func TestReloadThatIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := new(reloadStore)
		w := newWorld(t, func(w *world) { w.gateway.ReloadStore = kept })
		w.Inject(sim.When(sim.Request("DELETE", "/environment"), own(403, `{"detail":"no"}`)))
		if a := w.caller.ask(t.Context(), "DELETE", "/environment", ""); a.status != 403 {
			t.Fatal(a)
		}
		w.next(func(g *gateway.Gateway) { g.ReloadStore = kept })
		if a := w.caller.get("/worker/state"); a.status != 200 || a.took > time.Second {
			t.Errorf("%v after %v", a, a.took)
		}
		kept.last.At = time.Now().Add(24 * time.Hour)
		w.next(func(g *gateway.Gateway) { g.ReloadStore = kept })
		if a := w.caller.get("/worker/state"); a.status != 200 || a.took > 2*time.Minute {
			t.Errorf("%v after %v", a, a.took)
		}
	})
}

// TestReloadThatTakesItsTime: callers of the next gateway wait for an environment that is
// slow to load, too.
func TestReloadThatTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := new(reloadStore)
		w := newWorld(t, func(w *world) {
			w.ReloadTime = 150 * time.Second
			w.gateway.ReloadStore = kept
		})
		w.caller.environment()
		if a := w.caller.ask(t.Context(), "DELETE", "/environment", ""); a.status != 200 {
			t.Fatal(a)
		}
		w.next(func(g *gateway.Gateway) { g.ReloadStore = kept })
		if a := w.caller.get("/worker/state"); a.body != `"IDLE"` {
			t.Errorf("%v after %v", a, a.took)
		}
	})
}

// TestReloadOutlivesTheGateway: the gateway that comes after one that was killed in a reload
// holds its callers back too. Asked for anything but its environment the server would hang.
func TestReloadOutlivesTheGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := new(reloadStore)
		w := newWorld(t, func(w *world) {
			w.TeardownTime, w.ReloadTime = 4*time.Second, 15*time.Second
			w.gateway.ReloadStore = kept
		})
		before := w.caller.environment()
		if a := w.caller.ask(t.Context(), "DELETE", "/environment", ""); a.status != 200 {
			t.Fatal(a)
		}
		w.next(func(g *gateway.Gateway) { g.ReloadStore = kept })
		begin := time.Now()
		if a := w.caller.get("/worker/state"); a.status != 200 || a.body != `"IDLE"` {
			t.Errorf("%v", a)
		}
		if took := time.Since(begin); took < 5*time.Second || took > 20*time.Second {
			t.Errorf("answered after %v", took)
		}
		if now := w.caller.environment(); now.ID == before.ID || !now.Initialized {
			t.Errorf("%+v", now)
		}

		w.next(func(g *gateway.Gateway) { g.ReloadStore = kept }) // it is over
		if a := w.caller.get("/worker/state"); a.status != 200 || a.took > time.Second {
			t.Errorf("%v", a)
		}
	})
}
