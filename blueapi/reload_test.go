package blueapi_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/retry"
)

// requests returns what arrived, as "GET /environment", from the first request that
// is what on.
func (w *world) requests(from string) []string {
	var all []string
	for _, x := range w.Exchanges() {
		s := x.Method + " " + strings.TrimPrefix(x.URL.Path, "/api/v1")
		if len(all) > 0 || s == from {
			all = append(all, s)
		}
	}
	return all
}

// TestReloadHoldsOtherCalls has three callers poll while the environment is reloaded
// through the same client, whatever becomes of the request: from that on nothing but the
// environment is asked for until the new one shows, and nobody gets an error.
func TestReloadHoldsOtherCalls(t *testing.T) {
	request := sim.Request("DELETE", "/environment")
	for name, fault := range map[string]func() sim.Fault{
		"healthy":                func() sim.Fault { return sim.Delay(0) },
		"answer lost":            func() sim.Fault { return sim.First(1, sim.LoseAnswer(sim.Reset)) },
		"answer lost in silence": func() sim.Fault { return sim.First(1, sim.LoseAnswer(sim.Silence)) },
		"request lost":           func() sim.Fault { return sim.First(1, sim.LoseRequest(sim.Reset)) },
		"502 after it was done":  func() sim.Fault { return sim.First(1, sim.Instead(sim.Status(502))) },
		"503 before it was done": func() sim.Fault { return sim.First(1, sim.Status(503)) },
		"delayed":                func() sim.Fault { return sim.First(1, sim.Delay(3*time.Second)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				before, err := w.client.Environment(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				w.Inject(sim.When(request, fault()))
				ctx, cancel := context.WithCancel(t.Context())
				var pollers sync.WaitGroup
				for range 3 {
					pollers.Go(func() {
						for ctx.Err() == nil {
							if _, err := w.client.WorkerState(ctx); err != nil && ctx.Err() == nil {
								t.Errorf("polling: %v", err)
							}
							if _, err := w.client.Tasks(ctx, ""); err != nil && ctx.Err() == nil {
								t.Errorf("polling: %v", err)
							}
						}
					})
				}
				time.Sleep(100 * time.Millisecond)
				env, err := w.client.Reload(t.Context(), false)
				if err != nil || env.ID == before.ID || !env.Initialized {
					t.Errorf("reload: %+v, %v", env, err)
				}
				time.Sleep(100 * time.Millisecond)
				cancel()
				pollers.Wait()
				// The reload is over at the first request of a poller; it must not have
				// been made before the new environment was there. The check before a second
				// request to reload is three reads at most.
				others := 0
				for _, r := range w.requests("DELETE /environment") {
					switch {
					case r == "DELETE /environment" && others <= 3:
						others = 0
					case r == "DELETE /environment", r == "GET /environment" && others > 0:
						t.Errorf("%s after %d other requests", r, others)
					case r != "GET /environment":
						others++
					}
				}
				if others == 0 {
					t.Error("the pollers never went on")
				}
				if wedged, err := w.client.Wedged(t.Context()); wedged || err != nil {
					t.Errorf("wedged: %v, %v", wedged, err)
				}
			})
		})
	}
}

// TestReloadLeavesAPlanAlone: it would go on unseen.
func TestReloadLeavesAPlanAlone(t *testing.T) {
	for name, plan := range map[string]blueapi.TaskRequest{
		"running":  request("nap", `{"seconds":9}`),
		"starting": request("slow_start", `{"seconds":9}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				run, err := w.client.Start(t.Context(), plan)
				if err != nil {
					t.Fatal(err)
				}
				_, err = w.client.Reload(t.Context(), false)
				e, ok := errors.AsType[*blueapi.ReloadError](err)
				if !ok || e.Reason != blueapi.PlanActive || e.TaskID != run.TaskID() || e.Sent {
					t.Errorf("reload: %v", err)
				}
				if n := len(w.requests("DELETE /environment")); n != 0 {
					t.Error("the server was asked to reload")
				}
				if _, err := run.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestReloadGivenUp: when the caller has given up, the other calls wait on until the
// new environment shows, and then go.
func TestReloadGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.client.Reload(ctx, false)
		e, ok := errors.AsType[*blueapi.ReloadError](err)
		if !ok || e.Reason != blueapi.ReloadOverdue || !e.Sent {
			t.Fatalf("reload: %v", err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.client.WorkerState(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call with a deadline in the reload: %v", err)
		}
		if _, err := w.client.WorkerState(t.Context()); err != nil {
			t.Errorf("a call in the reload: %v", err)
		}
		for i, r := range w.requests("DELETE /environment")[1:] {
			if r == "GET /worker/state" {
				break
			}
			if r != "GET /environment" {
				t.Errorf("request %d in the reload: %s", i, r)
			}
		}
		if wedged, err := w.client.Wedged(t.Context()); wedged || err != nil {
			t.Errorf("wedged: %v, %v", wedged, err)
		}
	})
}

// TestWedge: a server that hangs in a reload, because somebody else asked it
// something, is recognised, and healed by another reload.
func TestWedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		old, err := w.client.Environment(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.Reload()
		other := w.newClient(t)
		for range 200 {
			_, _ = other.WorkerState(t.Context())
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if wedged, err := w.client.Wedged(t.Context()); !wedged || err != nil {
			t.Fatalf("wedged: %v, %v", wedged, err)
		}
		env, err := w.client.Reload(t.Context(), false)
		if err != nil || env.ID == old.ID {
			t.Errorf("reload: %+v, %v", env, err)
		}
		if wedged, err := w.client.Wedged(t.Context()); wedged || err != nil {
			t.Errorf("wedged after the reload: %v, %v", wedged, err)
		}
	})
}

// TestReloadUnreachable: nothing was sent, and the error says so.
func TestReloadUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Network().Set(memnet.Refuse)
		_, err := w.client.Reload(t.Context(), true)
		e, ok := errors.AsType[*blueapi.ReloadError](err)
		if !ok || e.Reason != blueapi.ReloadUnreachable || e.Sent {
			t.Errorf("reload: %v", err)
		}
		if _, ok := errors.AsType[*retry.Error](err); !ok {
			t.Errorf("no attempts in %v", err)
		}
		w.Network().Set(memnet.Healthy)
		if _, err := w.client.WorkerState(t.Context()); err != nil {
			t.Errorf("the next call: %v", err)
		}
	})
}

// TestReloadsOneAfterTheOther: two callers reload at the same time.
func TestReloadsOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var callers sync.WaitGroup
		for range 2 {
			callers.Go(func() {
				if _, err := w.client.Reload(t.Context(), false); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if wedged, err := w.client.Wedged(t.Context()); wedged || err != nil {
			t.Errorf("wedged: %v, %v", wedged, err)
		}
	})
}
