package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// answers has a server answer requests with a status and a body. It tells when.
func answers(method, path string, status int, body string, tell func()) sim.Fault {
	return sim.When(sim.Request(method, path), func(*sim.Exchange, func() sim.Answer) sim.Answer {
		tell()
		return sim.Answer{
			Status: status, Body: []byte(body),
			Header: http.Header{"Content-Type": {"application/json"}, "X-Blueapi-Version": {"1.21.1"}},
		}
	})
}

// TestWaitIdleEnds: a worker that has panicked is not waited for, and one that says IDLE
// and refuses is not asked again at once.
func TestWaitIdleEnds(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, state string, starting func(n int32, interrupt func())) (stderr string, got status) {
		t.Helper()
		s, url, _ := simulated(t)
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		var n atomic.Int32
		s.Inject(
			answers(http.MethodGet, "/worker/state", http.StatusOK, `"`+state+`"`, func() {}),
			answers(http.MethodPut, "/worker/task", http.StatusConflict, `{"detail":"Worker already active"}`, func() { starting(n.Add(1), interrupt) }),
		)
		_, stderr, got = runHere(ctx, url, "run", "nap", "seconds=0", "-i", "cm1-1", "--wait-idle")
		return stderr, got
	}
	t.Run("panicked", func(t *testing.T) {
		t.Parallel()
		stderr, got := run(t, "PANICKED", func(n int32, interrupt func()) {
			if n > 1 {
				t.Error("it is asked again")
				interrupt()
			}
		})
		if got != statusBusy || !strings.Contains(stderr, "busy") {
			t.Errorf("exit status %d, stderr %q", got, stderr)
		}
	})
	t.Run("refuses", func(t *testing.T) {
		t.Parallel()
		var mu sync.Mutex
		var last time.Time
		run(t, "IDLE", func(n int32, interrupt func()) {
			mu.Lock()
			defer mu.Unlock()
			if since := time.Since(last); since < idlePoll {
				t.Errorf("asked again after %v", since)
			}
			if last = time.Now(); n == 3 {
				interrupt()
			}
		})
		mu.Lock()
		defer mu.Unlock()
		if last.IsZero() {
			t.Error("it was not asked")
		}
	})
}
