package blueapi_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/retry"
)

// TestPromise7 counts what a client sends whose caller retries too, in an outage that
// does not end. What was sent is repeated by one layer only, so that five attempts stay
// five requests; what was not sent may be tried by both.
func TestPromise7(t *testing.T) {
	read := func(ctx context.Context, c *blueapi.Client) error { _, err := c.Plans(ctx); return err }
	submit := func(ctx context.Context, c *blueapi.Client) error {
		_, err := c.SubmitTask(ctx, nap)
		return err
	}
	run := func(ctx context.Context, c *blueapi.Client) error { _, err := c.Run(ctx, nap); return err }
	for _, c := range []struct {
		name  string
		same  bool // caller and client share a gate
		call  func(context.Context, *blueapi.Client) error
		fault sim.Fault
		match sim.Match
		most  int
	}{
		{"read, answers lost", false, read, sim.LoseAnswer(sim.Reset), sim.Request("*", "/*"), 5},
		{"read, 502", false, read, sim.Status(502), sim.Request("*", "/*"), 5},
		{"read, same gate", true, read, sim.Status(502), sim.Request("*", "/*"), 5},
		{"submit, answers lost", false, submit, sim.LoseAnswer(sim.Close), sim.Request("*", "/*"), 5},
		{"submit, same gate", true, submit, sim.LoseAnswer(sim.Close), sim.Request("*", "/*"), 5},
		// The request to start the plan is lost each time, and the task withdrawn.
		{"run, start lost", false, run, sim.LoseRequest(sim.Reset), sim.Request("PUT", "/worker/task"), 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				outerGate := new(retry.Gate)
				if c.same {
					w.client.Gate = outerGate
				}
				w.Inject(sim.When(c.match, c.fault))
				outer := 0
				_, err := retry.Do(t.Context(), retry.Policy{Gate: outerGate}, func(ctx context.Context, _ retry.Attempt) (int, error) {
					outer++
					return 0, c.call(ctx, w.client)
				})
				if err == nil {
					t.Fatal("no error in an endless outage")
				}
				n := w.count(c.match)
				if n > c.most || n == 0 {
					t.Errorf("%d requests of %d attempts of the caller: at most %d expected", n, outer, c.most)
				}
				t.Logf("%d requests, %d attempts of the caller", n, outer)
				if len(w.Runs()) > 1 {
					t.Errorf("the plan ran %d times", len(w.Runs()))
				}
			})
		})
	}
}

// TestUnknownIsNotRunAgain: a caller that retries runs a plan again that was not started,
// and never one that may have been.
func TestUnknownIsNotRunAgain(t *testing.T) {
	put := sim.Request("PUT", "/worker/task")
	for name, c := range map[string]struct {
		befall func(t *testing.T, w *world)
		word   blueapi.Word
		outer  int
	}{
		"restarted after the start": {func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				next()
				w.Restart(time.Second)
				return sim.Answer{End: sim.Reset}
			})))
		}, blueapi.Unknown, 1},
		"start lost twice": {func(_ *testing.T, w *world) { w.Inject(sim.When(put, sim.First(2, sim.LoseRequest(sim.Reset)))) }, blueapi.Done, 3},
		"busy": {func(t *testing.T, w *world) {
			t.Helper()
			if _, err := w.newClient(t).Start(t.Context(), request("nap", `{"seconds":1}`)); err != nil {
				t.Error(err)
			}
		}, blueapi.Done, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c.befall(t, w)
				outer := 0
				_, err := retry.Do(t.Context(), retry.Policy{}, func(ctx context.Context, _ retry.Attempt) (blueapi.Result, error) {
					outer++
					return w.client.Run(ctx, nap)
				})
				if blueapi.WordOf(err) != c.word || outer > c.outer || c.word == blueapi.Unknown && outer != 1 {
					t.Errorf("%d attempts: %v", outer, err)
				}
			})
		})
	}
}

// TestPromise7Refused: what is refused was not sent, so that both layers try, and the
// gate keeps both to its pace.
func TestPromise7Refused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Network().Set(memnet.Refuse)
		begin := time.Now()
		_, err := retry.Do(t.Context(), retry.Policy{}, func(ctx context.Context, _ retry.Attempt) (int, error) {
			_, err := w.client.Plans(ctx)
			return 0, err
		})
		e, ok := errors.AsType[*retry.Error](err)
		if !ok || e.Attempts > retry.DefaultAttempts {
			t.Fatalf("%v", err)
		}
		dials := w.Network().Dials()
		for i := range dials {
			inOneSecond := 0
			for _, d := range dials[i:] {
				if d.At.Sub(dials[i].At) < time.Second {
					inOneSecond++
				}
			}
			if inOneSecond > 5 {
				t.Errorf("%d connections in a second", inOneSecond)
			}
		}
		t.Logf("%d connections in %v", len(dials), time.Since(begin))
	})
}

// TestRetryLayerAnnounced: what stands behind the client can tell that it retries.
func TestRetryLayerAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.First(2, sim.Status(503)))
		if _, err := w.client.Plans(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{"", "2", "3"}
		for i, x := range w.Exchanges() {
			if x.Header.Get("Retry-Layer") == "" || x.Header.Get("Retry-Attempt") != want[i] {
				t.Errorf("attempt %d: %v", i+1, x.Header)
			}
		}
	})
}
