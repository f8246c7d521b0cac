package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
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

// store keeps aliases, or fails.
type store struct {
	mu      sync.Mutex
	aliases map[string]gateway.Alias
	err     error
}

func (s *store) KeepAlias(_ context.Context, a gateway.Alias) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.aliases[a.Shown] = a
	}
	return s.err
}

func (s *store) Aliases(context.Context) ([]gateway.Alias, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.aliases)), s.err
}

// next ends the gateway and puts another in its place.
func (w *world) next(set func(*gateway.Gateway)) {
	w.gateway.Close()
	g := &gateway.Gateway{Upstream: "http://blueapi.example", Transport: &http.Transport{DialContext: w.DialContext}, Aliases: true}
	if set != nil {
		set(g)
	}
	w.gateway = g
	var front memnet.Network
	w.addr = serve(w.T, &front, g)
	w.caller.http.CloseIdleConnections()
	w.caller = newCaller(w.T, &front, w.addr)
}

// TestNextGateway: a gateway that comes after another knows the aliases of that, and
// sends no request to start a task that the other may have sent.
func TestNextGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &store{aliases: map[string]gateway.Alias{}}
		w := newWorld(t, func(w *world) { w.gateway.Aliases, w.gateway.AliasStore = true, kept })
		id := w.caller.submit(longNap)
		lost := w.caller.submit(nap)
		w.Inject(sim.When(put(), sim.First(1, sim.LoseRequest(sim.Reset))))
		if a := w.caller.start(id); a.status != 200 {
			t.Fatal(a)
		}
		w.next(func(g *gateway.Gateway) { g.AliasStore = kept })
		if task, status := w.caller.read(id); status != 200 || task.ID != id || task.IsPending {
			t.Errorf("%d %+v", status, task)
		}
		if a := w.caller.state("ABORTING"); a.status != 202 {
			t.Error(a)
		}
		time.Sleep(time.Second)
		sent := w.asked("PUT", "/worker/task")
		w.next(func(g *gateway.Gateway) {
			g.Aliases = false
			g.Unsettled = []blueapi.Attachment{{TaskID: lost, At: time.Now()}}
		})
		if s := w.gateway.Status(); len(s.Unsettled) != 1 {
			t.Errorf("%+v", s)
		}
		if a := w.caller.start(lost); a.status != 503 || verdict(a) != "withdrawn" {
			t.Errorf("%v (%s)", a, verdict(a))
		}
		if n := w.asked("PUT", "/worker/task"); n != sent {
			t.Errorf("%d requests more", n-sent)
		}
		kept.err = errors.New("the disk is full")
		w.next(func(g *gateway.Gateway) { g.AliasStore = kept })
		if a := w.caller.get("/plans"); a.status != 503 || !strings.Contains(detailOf(t, a), "the disk is full") {
			t.Error(a)
		}
	})
}

// TestAliasThatCannotBeKept: without it a task that was withdrawn is not replaced.
func TestAliasThatCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &store{aliases: map[string]gateway.Alias{}}
		w := newWorld(t, func(w *world) { w.gateway.Aliases, w.gateway.AliasStore = true, kept })
		id := w.caller.submit(nap)
		kept.err = errors.New("the disk is full")
		w.Inject(sim.When(put(), sim.First(1, sim.LoseRequest(sim.Reset))))
		if a := w.caller.start(id); a.status != 503 || verdict(a) != "withdrawn" {
			t.Errorf("%v (%s)", a, verdict(a))
		}
	})
}

// diary is a journal that remembers steps, or fails at one.
type diary struct {
	mu     sync.Mutex
	steps  []string
	failAt blueapi.Step
}

func (d *diary) Record(_ context.Context, e blueapi.Entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Step == d.failAt {
		return errors.New("the disk is full")
	}
	d.steps = append(d.steps, fmt.Sprint(e.Step, len(e.TaskID) > 0))
	return nil
}

// TestJournal: what a start may have done is written before it is; if that cannot be,
// nothing is started, and it is said whether the task is still there.
func TestJournal(t *testing.T) {
	for at, want := range map[blueapi.Step]struct {
		status  int
		verdict string
		left    int // what reading the task says
	}{
		0:                    {200, "", 200},
		blueapi.StepIntent:   {503, "not-sent", 200},
		blueapi.StepStarting: {503, "withdrawn", 404},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &diary{failAt: at}
			w := newWorld(t, func(w *world) { w.gateway.Journal = d })
			id := w.caller.submit(nap)
			if a := w.caller.start(id); a.status != want.status || verdict(a) != want.verdict {
				t.Errorf("failing at %d: %v (%s)", at, a, verdict(a))
			}
			if _, status := w.caller.read(id); status != want.left {
				t.Errorf("failing at %d: the task is %d", at, status)
			}
			if at == 0 && !slices.Equal(d.steps, []string{"1 false", "2 true", "4 true"}) {
				t.Errorf("%v", d.steps)
			}
		})
	}
}

// TestClosed: a gateway that is closed while callers wait tells them what is known, and
// lets nobody in.
func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.caller.submit(nap)
		w.Inject(sim.When(put(), sim.LoseAnswer(sim.Silence)), sim.When(sim.Request("GET", "/*"), sim.LoseAnswer(sim.Silence)))
		var all sync.WaitGroup
		for path, want := range map[string]int{"/plans": 503, "/docs": 503, "": 503} {
			all.Go(func() {
				a := w.caller.get(path)
				if path == "" {
					a = w.caller.start(id)
				}
				if a.err != nil || a.status != want {
					t.Errorf("%s: %v", path, a)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		w.gateway.Close()
		if a := w.caller.get("/plans"); a.status != 503 {
			t.Error(a)
		}
		w.gateway.Close()
		w.Network().Set(memnet.Kill)
		all.Wait()
	})
}

// TestMisconfigured: a URL that is none is told to every caller, and shows no password.
func TestMisconfigured(t *testing.T) {
	for _, upstream := range []string{"http://u:secret@host:port", "ftp://x", "blueapi", "http://"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(w *world) { w.gateway.Upstream = upstream })
			a := w.caller.get("/healthz")
			if a.status != 503 || strings.Contains(detailOf(t, a), "secret") {
				t.Errorf("%s: %v", upstream, a)
			}
			if s := w.gateway.Status(); s.Cause == "" {
				t.Errorf("%+v", s)
			}
		})
	}
}
