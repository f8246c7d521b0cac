package gateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

// outage is one way for the server to be unavailable.
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

// wants checks one answer.
func wants(a answer, status int) error {
	if a.err != nil || a.status != status {
		return fmt.Errorf("%v, want %d", a, status)
	}
	return nil
}

func reads(path string) func(w *world, id string) error {
	return func(w *world, _ string) error { return wants(w.caller.get(path), http.StatusOK) }
}

// callKinds are what callers ask for; id is a task that is pending, and ready what is to
// be done before.
func callKinds() map[string]struct {
	ready func(w *world, id string)
	call  func(w *world, id string) error
} {
	type kind = struct {
		ready func(w *world, id string)
		call  func(w *world, id string) error
	}
	running := func(w *world, id string) {
		if err := wants(w.caller.start(id), http.StatusOK); err != nil {
			w.Error(err)
		}
	}
	return map[string]kind{
		"environment": {nil, reads("/environment")},
		"plans":       {nil, reads("/plans")},
		"plan":        {nil, reads("/api/v1/plans/nap")},
		"devices":     {nil, reads("/devices")},
		"device":      {nil, reads("/devices/stage")},
		"tasks":       {nil, reads("/tasks")},
		"task":        {nil, func(w *world, id string) error { return wants(w.caller.get("/tasks/"+id), http.StatusOK) }},
		"worker task": {nil, reads("/worker/task")},
		"state":       {nil, reads("/worker/state")},
		"python":      {nil, reads("/python_environment")},
		"oidc":        {nil, func(w *world, _ string) error { return wants(w.caller.get("/config/oidc"), http.StatusNoContent) }},
		"healthz":     {nil, reads("/healthz")},
		"unknown":     {nil, func(w *world, _ string) error { return wants(w.caller.get("/nonesuch"), http.StatusNotFound) }},
		"submit": {nil, func(w *world, _ string) error {
			return wants(w.caller.ask(context.Background(), "POST", "/tasks", nap), http.StatusCreated)
		}},
		"delete": {nil, func(w *world, id string) error {
			return wants(w.caller.ask(context.Background(), "DELETE", "/tasks/"+id, ""), http.StatusOK)
		}},
		"start": {nil, func(w *world, id string) error {
			if err := wants(w.caller.start(id), http.StatusOK); err != nil {
				return err
			}
			if _, status := w.caller.read(id); status != http.StatusOK {
				return fmt.Errorf("afterwards the task is %d", status)
			}
			return nil
		}},
		"abort": {running, func(w *world, _ string) error { return wants(w.caller.state("ABORTING"), http.StatusAccepted) }},
		"pause": {running, func(w *world, _ string) error { return wants(w.caller.state("PAUSED"), http.StatusAccepted) }},
	}
}

// TestPromise1 sweeps an outage of one second, in steps of five milliseconds, from one
// second before a call to its end: no call of any kind fails in any kind of outage, and a
// plan runs once.
func TestPromise1(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, o := range outages() {
		for name, kind := range callKinds() {
			t.Run(o.name+"/"+name, func(t *testing.T) {
				var cases int
				var slowest time.Duration
				for at := -time.Second - 5*time.Millisecond; at <= 40*time.Millisecond; at += 5 * time.Millisecond {
					if !everything() && rng.IntN(30) != 0 {
						continue
					}
					cases++
					lead := 2 * time.Second
					if cases%2 == 0 {
						lead = 10 * time.Second // idle connections to the server are gone
					}
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, func(w *world) { w.gateway.Aliases = true })
						body := nap
						if kind.ready != nil {
							body = longNap
						}
						id := w.caller.submit(body) // and a connection is there
						if kind.ready != nil {
							kind.ready(w, id)
						}
						took := outlast(t, w, o, lead, at, func() error { return kind.call(w, id) })
						slowest = max(slowest, took)
						time.Sleep(2 * time.Minute)
						if n := len(w.Runs()); n > 1 || n == 0 && name == "start" {
							t.Errorf("from %v: the plan ran %d times", at, n)
						}
					})
				}
				t.Logf("%d cases, slowest %v", cases, slowest)
			})
		}
	}
}

// outlast makes one call across an outage of one second that begins at the given time
// after the call, and returns how long the call took.
func outlast(t *testing.T, w *world, o outage, lead, at time.Duration, call func() error) time.Duration {
	t.Helper()
	var over sync.WaitGroup
	over.Go(func() {
		time.Sleep(lead + at)
		o.begin(w)
		time.Sleep(time.Second)
		o.end(w)
	})
	time.Sleep(lead)
	begin := time.Now()
	if err := call(); err != nil {
		t.Errorf("from %v: %v", at, err)
	}
	took := time.Since(begin)
	over.Wait()
	return took
}
