package blueapi_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/retry"
)

// TestReloadRunningAndBroken: a worker that says that it runs is not broken, whatever else it
// cannot say.
func TestReloadRunningAndBroken(t *testing.T) {
	for _, path := range []string{"/worker/task", "/tasks/*"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":9}`)); err != nil {
				t.Fatal(err)
			}
			w.Inject(sim.When(sim.Request("GET", path), fails))
			_, err := w.client.Reload(t.Context(), false)
			if n := w.count(sim.Request("DELETE", "/environment")); n != 0 {
				t.Errorf("%s: the server with a running plan was asked to reload: %v", path, err)
			}
		})
	}
}

// TestReloadCheckGrowsOld: the request waits for a server that is away, and meanwhile a plan is started.
func TestReloadCheckGrowsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var refuse atomic.Bool
		c := &blueapi.Client{Wait: 10 * time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, n, a string) (net.Conn, error) {
			if refuse.Load() {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}
			}
			return w.DialContext(ctx, n, a)
		}}}
		defer c.Close()
		w.Inject(func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			a := next()
			if x.Method == http.MethodGet && strings.HasSuffix(x.URL.Path, "/worker/task") {
				refuse.Store(true)
			}
			return a
		})
		done := make(chan error)
		go func() { _, err := c.Reload(t.Context(), false); done <- err }()
		time.Sleep(20 * time.Second)
		w.Heal()
		other := w.newClient(t)
		if _, err := other.Start(t.Context(), request("nap", `{"seconds":100}`)); err != nil {
			t.Fatal(err)
		}
		refuse.Store(false)
		err := <-done
		if n := w.count(sim.Request("DELETE", "/environment")); n != 0 {
			t.Errorf("the server with a running plan was asked to reload: %v", err)
		}
	})
}

// TestSecondReloadRequestNotSent: that nothing was sent is not said of the first.
func TestSecondReloadRequestNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var refuse atomic.Bool
		c := &blueapi.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, n, a string) (net.Conn, error) {
			if refuse.Load() {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}
			}
			return w.DialContext(ctx, n, a)
		}}}
		defer c.Close()
		w.Inject(sim.When(sim.Request("DELETE", "/environment"), sim.First(1, func(x *sim.Exchange, _ func() sim.Answer) sim.Answer {
			time.AfterFunc(5*time.Second, func() { refuse.Store(true) })
			return sim.Answer{End: sim.Reset}
		})))
		_, err := c.Reload(t.Context(), false)
		e, ok := errors.AsType[*blueapi.ReloadError](err)
		if !ok || e.Reason == blueapi.ReloadUnreachable && e.Sent {
			t.Errorf("%v (sent %v)", err, e != nil && e.Sent)
		}
	})
}

// TestNestedReload asks once, and does not say that it was twice.
func TestNestedReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(sim.Request("DELETE", "/environment"), sim.First(1, sim.LoseRequest(sim.Reset))))
		_, err := w.client.Reload(retry.Within(t.Context()), false)
		n := w.count(sim.Request("DELETE", "/environment"))
		if e, ok := errors.AsType[*blueapi.ReloadError](err); !ok || e.Reason != blueapi.ReloadOverdue || !e.Sent || n != 1 {
			t.Errorf("%d requests, %v", n, err)
		}
	})
}

// TestReloadInsideARetryingCaller is not repeated once it was sent.
func TestReloadInsideARetryingCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(sim.Request("DELETE", "/environment"), sim.LoseRequest(sim.Reset)))
		outer := 0
		_, err := retry.Do(t.Context(), retry.Policy{}, func(ctx context.Context, _ retry.Attempt) (int, error) {
			outer++
			_, err := w.client.Reload(ctx, false)
			return 0, err
		})
		if n := w.count(sim.Request("DELETE", "/environment")); n != 1 || outer != 1 {
			t.Errorf("%d requests of %d attempts: %v", n, outer, err)
		}
	})
}

// TestReloadDenied: a user who may not even ask is told so.
func TestReloadDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Token = "s3cret"
		_, err := w.client.Reload(t.Context(), false)
		if e, ok := errors.AsType[*blueapi.ReloadError](err); !ok || e.Reason != blueapi.ReloadDenied {
			t.Errorf("%v", err)
		}
	})
}

// TestHoldOfASlowReload: loading takes longer than a reload that hangs is waited for, and the caller gives up.
func TestHoldOfASlowReload(t *testing.T) {
	for _, patience := range []time.Duration{time.Second, 38 * time.Second, 99 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.ReloadTime = 110 * time.Second
			ctx, stop := context.WithTimeout(t.Context(), patience)
			defer stop()
			_, err := w.client.Reload(ctx, false)
			if e, ok := errors.AsType[*blueapi.ReloadError](err); !ok || e.Reason != blueapi.ReloadOverdue {
				t.Errorf("after %v: %v", patience, err)
			}
			if _, err := w.client.WorkerState(t.Context()); err != nil {
				t.Error(err)
			}
			var asked time.Time
			for _, x := range w.Exchanges() {
				switch {
				case x.Method == http.MethodDelete:
					asked = x.Time
				case !asked.IsZero() && !strings.HasSuffix(x.URL.Path, "/environment") && x.Time.Sub(asked) < w.ReloadTime:
					t.Errorf("after %v: %s %v after the reload began", patience, x.URL.Path, x.Time.Sub(asked))
				}
			}
			if env, err := w.client.Environment(t.Context()); err != nil || !env.Initialized {
				t.Errorf("after %v: %+v, %v", patience, env, err)
			}
		})
	}
}

// TestReloadLeavesAPausedPlanAlone, whose record says that it is complete.
func TestReloadLeavesAPausedPlanAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":9}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		_, err := w.client.Reload(t.Context(), false)
		if e, ok := errors.AsType[*blueapi.ReloadError](err); !ok || e.Reason != blueapi.PlanActive || e.Sent || e.State != blueapi.StatePaused {
			t.Errorf("%v", err)
		}
	})
}

// TestReloadLost is asked for again after ten seconds.
func TestReloadLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(sim.Request("DELETE", "/environment"), sim.First(1, sim.LoseRequest(sim.Reset))))
		begin := time.Now()
		if _, err := w.client.Reload(t.Context(), false); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took < 10*time.Second || took > 20*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestHoldEnds when no reload ever comes: the request was lost, and its caller gave up.
func TestHoldEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(sim.Request("DELETE", "/environment"), sim.LoseRequest(sim.Reset)))
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err := w.client.Reload(ctx, false); err == nil {
			t.Error("no error")
		}
		begin := time.Now()
		ctx, stop = context.WithTimeout(t.Context(), 2*time.Minute)
		defer stop()
		if _, err := w.client.WorkerState(ctx); err != nil || time.Since(begin) < time.Minute {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// TestSecondReloadRequestLeavesAPlanAlone that began after the first was lost.
func TestSecondReloadRequestLeavesAPlanAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(sim.Request("DELETE", "/environment"), sim.First(1, sim.LoseRequest(sim.Reset))))
		done := make(chan error)
		go func() { _, err := w.client.Reload(t.Context(), false); done <- err }()
		time.Sleep(5 * time.Second)
		if _, err := w.newClient(t).Start(t.Context(), request("nap", `{"seconds":100}`)); err != nil {
			t.Fatal(err)
		}
		err := <-done
		if n := w.count(sim.Request("DELETE", "/environment")); n != 1 {
			t.Errorf("%d DELETEs; with a running plan: %v", n, err)
		}
	})
}
