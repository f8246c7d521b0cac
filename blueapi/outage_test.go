package blueapi_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

// everything tells whether the sweeps are to be made in full, which takes
// minutes; otherwise a seeded sample of them is.
func everything() bool { return os.Getenv("ADAMANT_SWEEP") == "all" }

// outage is one way for a service to be unavailable.
type outage struct {
	name       string
	begin, end func(w *world)
}

func network(f memnet.Fault) outage {
	return outage{
		f.String(),
		func(w *world) { w.Network().Set(f) },
		func(w *world) { w.Network().Set(memnet.Healthy) },
	}
}

func before(name string, f sim.Fault) outage {
	return outage{name, func(w *world) { w.Inject(f) }, func(w *world) { w.Heal() }}
}

func outages() []outage {
	return []outage{
		network(memnet.Refuse), network(memnet.Kill), network(memnet.Reset), network(memnet.BlackHole),
		network(memnet.Forget), network(memnet.Stall),
		{"frozen", func(w *world) { w.Freeze() }, func(w *world) { w.Unfreeze() }},
		before("502", sim.Status(502)), before("503", sim.Status(503)), before("504", sim.Status(504)),
		before("502 after it was done", sim.Instead(sim.Status(502))),
		before("answers lost", sim.LoseAnswer(sim.Reset)),
		before("answers cut off", sim.CutAnswer(-3, sim.Close)),
	}
}

// callKinds are the calls that a user can make.
func callKinds() map[string]func(context.Context, *blueapi.Client, string) error {
	type client = *blueapi.Client
	return map[string]func(context.Context, client, string) error{
		"environment": func(ctx context.Context, c client, _ string) error { _, err := c.Environment(ctx); return err },
		"plans":       func(ctx context.Context, c client, _ string) error { _, err := c.Plans(ctx); return err },
		"plan":        func(ctx context.Context, c client, _ string) error { _, err := c.Plan(ctx, "nap"); return err },
		"devices":     func(ctx context.Context, c client, _ string) error { _, err := c.Devices(ctx); return err },
		"device":      func(ctx context.Context, c client, _ string) error { _, err := c.Device(ctx, "stage"); return err },
		"tasks":       func(ctx context.Context, c client, _ string) error { _, err := c.Tasks(ctx, ""); return err },
		"task":        func(ctx context.Context, c client, id string) error { _, err := c.Task(ctx, id); return err },
		"worker task": func(ctx context.Context, c client, _ string) error { _, err := c.WorkerTask(ctx); return err },
		"state":       func(ctx context.Context, c client, _ string) error { _, err := c.WorkerState(ctx); return err },
		"submit":      func(ctx context.Context, c client, _ string) error { _, err := c.SubmitTask(ctx, nap); return err },
		"delete":      func(ctx context.Context, c client, id string) error { return c.DeleteTask(ctx, id) },
		"run":         func(ctx context.Context, c client, _ string) error { _, err := c.Run(ctx, nap); return err },
	}
}

// TestPromise1 sweeps an outage of one second, in steps of a millisecond, from
// one second before a call to its end: no call of any kind fails in any kind of
// outage, and a plan runs once.
func TestPromise1(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, o := range outages() {
		for kind, call := range callKinds() {
			life := 20 * time.Millisecond
			if kind == "run" {
				life = 900 * time.Millisecond
			}
			t.Run(o.name+"/"+kind, func(t *testing.T) {
				var cases int
				var slowest time.Duration
				for at := -time.Second - 5*time.Millisecond; at <= life; at += time.Millisecond {
					if !everything() && rng.IntN(60) != 0 {
						continue
					}
					cases++
					synctest.Test(t, func(t *testing.T) {
						slowest = max(slowest, outlast(t, o, call, at))
					})
				}
				t.Logf("%d cases, slowest %v", cases, slowest)
			})
		}
	}
}

// outlast makes one call across an outage of one second that begins at the given
// time after the call, and returns how long the call took.
func outlast(t *testing.T, o outage, call func(context.Context, *blueapi.Client, string) error, at time.Duration) time.Duration {
	t.Helper()
	w := newWorld(t)
	w.Network().Latency = time.Millisecond
	id, err := w.client.SubmitTask(t.Context(), nap) // and a connection is there
	if err != nil {
		t.Fatal(err)
	}
	const lead = 2 * time.Second
	over := make(chan struct{})
	go func() {
		defer close(over)
		time.Sleep(lead + at)
		o.begin(w)
		time.Sleep(time.Second)
		o.end(w)
	}()
	time.Sleep(lead)
	start := time.Now()
	err = call(t.Context(), w.client, id)
	took := time.Since(start)
	if err != nil {
		t.Errorf("%s from %v: %v", o.name, at, err)
	}
	<-over
	time.Sleep(time.Minute)
	if n := len(w.Runs()); n > 1 {
		t.Errorf("%s from %v: the plan ran %d times", o.name, at, n)
	}
	return took
}

// TestPromise2 counts what arrives at a server that answers nothing, from one
// client whose callers ask for everything at once, in each kind of outage.
func TestPromise2(t *testing.T) {
	for _, o := range outages()[:7] {
		for _, callers := range []int{1, 20, 200} {
			t.Run(fmt.Sprintf("%s/%d", o.name, callers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					if _, err := w.client.Environment(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Second) // idle connections are gone
					o.begin(w)
					begun := time.Now()
					done := make(chan struct{})
					for i := range callers {
						go func() {
							defer func() { done <- struct{}{} }()
							time.Sleep(time.Duration(i) * 7 * time.Millisecond)
							if i%2 == 0 {
								_, _ = w.client.Run(t.Context(), nap)
							} else {
								_, _ = w.client.Plans(t.Context())
							}
						}()
					}
					for range callers {
						<-done
					}
					var sends []time.Time
					for _, d := range w.Network().Dials() {
						if !d.At.Before(begun) {
							sends = append(sends, d.At)
						}
					}
					if most := memnet.Busiest(sends, time.Second); most > 5 {
						t.Errorf("%d in a second, %d in all", most, len(sends))
					}
					o.end(w)
				})
			})
		}
	}
}

// TestPartialFailure: while answers come, some of them bad, calls go on.
func TestPartialFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		rng := rand.New(rand.NewPCG(1, 1))
		w.Inject(func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			if rng.Float64() < 0.2 {
				return sim.Answer{Status: 502, Header: http.Header{"Content-Type": {"text/html"}}, Body: []byte("bad")}
			}
			return next()
		})
		failed := 0
		for range 300 {
			if _, err := w.client.WorkerState(t.Context()); err != nil {
				failed++
			}
		}
		if failed > 3 { // of five attempts: 0.03 % expected
			t.Errorf("%d of 300 calls failed", failed)
		}
	})
}
