package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/memnet"
)

// book is a journal that several gateways write to, each of which lives.
type book struct {
	mu      sync.Mutex
	runs    map[string][]blueapi.Entry // by their ids
	claimed map[string]bool            // by one that settles them
	aliases []gateway.Alias
	// blind books refuse nothing, and let all settle what is not.
	blind bool
}

func (b *book) Record(_ context.Context, e blueapi.Entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Step == blueapi.StepStarting && !b.blind {
		for id, entries := range b.runs {
			if last := entries[len(entries)-1]; id != e.RunID && last.TaskID == e.TaskID && mayHaveStarted(last) {
				return blueapi.ErrOtherStart
			}
		}
	}
	b.runs[e.RunID] = append(b.runs[e.RunID], e)
	return nil
}

func mayHaveStarted(e blueapi.Entry) bool {
	return e.Step == blueapi.StepStarting || e.Step == blueapi.StepStarted || e.Step == blueapi.StepEnded && e.Result.Word != blueapi.NotStarted
}

func (b *book) startOf(_ context.Context, task string) (*gateway.EarlierStart, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, entries := range b.runs {
		last := entries[len(entries)-1]
		unknown := last.Step == blueapi.StepEnded && last.Result.Word == blueapi.Unknown
		if last.TaskID != task || last.Step != blueapi.StepStarting && !unknown {
			continue
		}
		free := id == deadRun || unknown
		s := &gateway.EarlierStart{Attachment: blueapi.Attachment{
			RunID: id, TaskID: task, EnvironmentID: last.EnvironmentID, Step: blueapi.StepStarting, At: last.At,
			Owned: free && (b.blind || !b.claimed[id]),
		}}
		if s.Owned {
			b.claimed[id] = true
			s.Release = func() {
				b.mu.Lock()
				defer b.mu.Unlock()
				delete(b.claimed, id)
			}
		}
		return s, nil
	}
	return nil, nil
}

// deadRun is the run of a gateway that has died.
const deadRun = "dead"

func (b *book) KeepAlias(_ context.Context, a gateway.Alias) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.aliases = append(slices.DeleteFunc(b.aliases, func(old gateway.Alias) bool { return old.Shown == a.Shown }), a)
	return nil
}

func (b *book) Aliases(context.Context) ([]gateway.Alias, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.aliases), nil
}

// twins puts two gateways before one server, which share a journal, and returns a caller
// of each.
func twins(t *testing.T, b *book, aliases bool) (*world, [2]*caller) {
	b.runs, b.claimed = make(map[string][]blueapi.Entry), make(map[string]bool)
	share := func(g *gateway.Gateway) {
		g.Journal, g.AliasStore, g.StartOf, g.Aliases = b, b, b.startOf, aliases
	}
	w := newWorld(t, func(w *world) { share(w.gateway) })
	second := &gateway.Gateway{Upstream: w.gateway.Upstream, Transport: &http.Transport{DialContext: w.DialContext}}
	share(second)
	front := &memnet.Network{Latency: latency}
	c := newCaller(t, front, serve(t, front, second))
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		second.Close()
	})
	return w, [2]*caller{w.caller, c}
}

func twinSeeds() uint64 {
	if everything() {
		return 10000
	}
	return 250
}

// askTwins asks both for a task, and returns how often it ran. Prepare has it befallen by
// something, and says by what. Of a blind book only that is asked.
func askTwins(t *testing.T, seed uint64, rng *rand.Rand, b *book, words map[string]int, prepare func(w *world, id string) string) (runs int) {
	synctest.Test(t, func(t *testing.T) {
		w, callers := twins(t, b, seed%2 == 0)
		id := w.caller.submit([]string{nap, slowStart, task("returns", `{"value":1}`)}[rng.IntN(3)])
		befell := prepare(w, id)
		if rng.IntN(2) == 0 {
			name, f := startFaults(rng)
			befell += ", " + name
			w.Inject(sim.Nth(1+rng.IntN(20), f))
		}
		pause := time.Duration(rng.IntN(3)*rng.IntN(1500)) * time.Millisecond
		var answers [2]answer
		var all sync.WaitGroup
		for i, c := range callers {
			all.Go(func() {
				time.Sleep(time.Duration(i) * pause)
				answers[i] = c.start(id)
			})
		}
		all.Wait()
		time.Sleep(10 * time.Minute)
		if runs = len(w.Runs()); b.blind {
			return
		}
		told := fmt.Sprintf("seed %d: %s, %v apart: %v (%s) and %v (%s): %d runs", seed, befell, pause,
			answers[0], verdict(answers[0]), answers[1], verdict(answers[1]), runs)
		first, one := callers[0].read(id)
		second, two := callers[1].read(id)
		if one != two || first.ID != second.ID || one == http.StatusOK && first.ID != id {
			t.Errorf("%s: and then %d %+v, and %d %+v", told, one, first, two, second)
		}
		for _, a := range answers {
			words[fmt.Sprint(a.status, " ", verdict(a))]++
			if a.err != nil || a.status == http.StatusOK && runs != 1 || verdict(a) == "withdrawn" && runs != 0 {
				t.Error(told)
			}
		}
	})
	return runs
}

// TestTwins asks two gateways that share a journal for one task, at the same moment or at
// any other, whatever befalls their requests: it runs at most once, and what the callers
// are told is true.
func TestTwins(t *testing.T) {
	words := map[string]int{}
	for seed := range twinSeeds() {
		rng := rand.New(rand.NewPCG(seed, 6))
		b := &book{}
		runs := askTwins(t, seed, rng, b, words, func(w *world, id string) string {
			name, f := startFaults(rng)
			w.Inject(sim.When(put(), sim.Nth(1+rng.IntN(2), f)))
			return name
		})
		if runs > 1 {
			t.Errorf("seed %d: %d runs", seed, runs)
		}
		if t.Failed() {
			return
		}
	}
	t.Log(words)
}

// TestTwinsSettle: a third gateway has died after it had begun to start the task. One of
// the two settles that, and the other goes by what comes of it.
func TestTwinsSettle(t *testing.T) {
	words := map[string]int{}
	settle := func(seed uint64, b *book) (runs int) {
		rng := rand.New(rand.NewPCG(seed, 7))
		return askTwins(t, seed, rng, b, words, func(w *world, id string) string {
			var env blueapi.Environment
			if a := w.caller.get("/environment"); json.Unmarshal([]byte(a.body), &env) != nil {
				t.Error(a)
			}
			b.runs[deadRun] = []blueapi.Entry{{RunID: deadRun, Step: blueapi.StepStarting, At: time.Now(), TaskID: id, EnvironmentID: env.ID}}
			name, f := startFaults(rng)
			w.Inject(sim.When(sim.Request("DELETE", "/tasks/*"), sim.Nth(1+rng.IntN(2), f)))
			if rng.IntN(3) == 0 { // its request is under way
				late := time.Duration(rng.IntN(8000)) * time.Millisecond
				name += ", started after " + late.String()
				time.AfterFunc(late, func() {
					direct := newCaller(t, w.Network(), "blueapi.sim:8000")
					defer direct.http.CloseIdleConnections()
					direct.http.Timeout = time.Minute // it may be befallen by something too
					direct.start(id)
				})
			}
			return name
		})
	}
	for seed := range twinSeeds() {
		if runs := settle(seed, &book{}); runs > 1 {
			t.Errorf("seed %d: %d runs", seed, runs)
		}
		if t.Failed() {
			return
		}
	}
	t.Log(words)
	// If both may settle it, and one's request to delete the task gets lost, both put
	// another in its place.
	for _, seed := range []uint64{4630, 7362} {
		if one, two := settle(seed, &book{}), settle(seed, &book{blind: true}); one != 1 || two != 2 {
			t.Errorf("seed %d: %d runs, and %d if both settle it", seed, one, two)
		}
	}
}

// TestTwinsAtOnce: of two gateways that are asked for a task at the same moment one
// sends a request, and both say that it was started.
func TestTwinsAtOnce(t *testing.T) {
	for _, blind := range []bool{false, true} { // with a journal that refuses nothing, two are sent
		synctest.Test(t, func(t *testing.T) {
			w, callers := twins(t, &book{blind: blind}, false)
			id := w.caller.submit(longNap)
			w.Inject(sim.When(put(), sim.First(1, sim.Stall(2500*time.Millisecond))))
			var all sync.WaitGroup
			for _, c := range callers {
				all.Go(func() {
					if a := c.start(id); a.status != http.StatusOK && !blind {
						t.Errorf("%v (%s)", a, verdict(a))
					}
				})
			}
			all.Wait()
			if n := w.asked("PUT", "/worker/task"); n != 1 && !blind || n != 2 && blind {
				t.Errorf("blind %v: %d requests", blind, n)
			}
		})
	}
}
