package main

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// answers has a server answer requests with a status and a body, if it has them.
func answers(method, path string, status int, body string, n *atomic.Int32) sim.Fault {
	return sim.When(sim.Request(method, path), func(*sim.Exchange, func() sim.Answer) sim.Answer {
		n.Add(1)
		return sim.Answer{
			Status: status, Body: []byte(body),
			Header: http.Header{"Content-Type": {"application/json"}, "X-Blueapi-Version": {"1.21.1"}},
		}
	})
}

// TestWaitIdleEnds: a worker that has panicked is not waited for, and one that says IDLE and
// refuses is asked no more than once a second.
func TestWaitIdleEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		state string
		most  int32 // requests to start it, in two seconds
	}{{"PANICKED", 1}, {"IDLE", 3}} {
		t.Run(tt.state, func(t *testing.T) {
			t.Parallel()
			s, url, _ := simulated(t)
			var looks, starts atomic.Int32
			s.Inject(
				answers(http.MethodGet, "/worker/state", http.StatusOK, `"`+tt.state+`"`, &looks),
				answers(http.MethodPut, "/worker/task", http.StatusConflict, `{"detail":"Worker already active"}`, &starts),
			)
			_, stderr, got := runHere(t.Context(), url, "run", "nap", "seconds=0", "-i", "cm1-1", "--wait-idle", "--timeout", "2s")
			if n := starts.Load(); n < 1 || n > tt.most {
				t.Errorf("asked %d times to start it", n)
			}
			busy := got == statusBusy && strings.Contains(stderr, "busy")
			if tt.most == 1 && !busy {
				t.Errorf("exit status %d, stderr %q", got, stderr)
			}
		})
	}
}
