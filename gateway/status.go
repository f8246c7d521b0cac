package gateway

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// Status is what a gateway does at one moment, and has done.
type Status struct {
	// Upstream is the server's URL, without user and password.
	Upstream string `json:"upstream"`
	// Version is what the server says it is; empty before it has answered.
	Version string `json:"version"`
	// Since is when the gateway was first used.
	Since time.Time `json:"since"`
	// Draining tells that new callers are turned away.
	Draining bool `json:"draining"`
	// Reloading tells that callers wait for the environment to be reloaded.
	Reloading bool `json:"reloading"`
	// Down is when the outage that is going on began; zero if none is known. While
	// nobody asks anything, it stays as it is.
	Down time.Time `json:"down,omitzero"`
	// Cause is the latest failure since the server last answered; "" if none was.
	Cause string `json:"cause,omitempty"`
	// Callers is how many requests of callers are under way; of what they ask of the
	// server, Waiting wait until they may.
	Callers int `json:"callers"`
	Waiting int `json:"waiting"`
	// Sessions is how many WebSockets are open by which callers have plans run.
	Sessions int `json:"sessions"`
	// Unproven is how many requests were sent since the server last answered.
	Unproven int `json:"unproven"`
	// Requests, Attempts and Resends count since Since: callers' requests, requests
	// to the server, and those of them that repeated another.
	Requests int64 `json:"requests"`
	Attempts int64 `json:"attempts"`
	Resends  int64 `json:"resends"`
	// Starting are the tasks that are being started, and Unsettled those of which it
	// is not known whether they were; under the ids that callers know.
	Starting  []string `json:"starting"`
	Unsettled []string `json:"unsettled"`
	// Running are the plans that go on, for all that callers' requests have shown: one
	// whose end nobody has asked for is among them until another is started.
	Running []Running `json:"running"`
	// Aliases is how many tasks were replaced under the id of another.
	Aliases int `json:"aliases"`
	// Stomp is what is done for those who listen to events.
	Stomp StompStatus `json:"stomp"`
}

// counts count since the gateway was made.
type counts struct{ requests, attempts, resends atomic.Int64 }

// Status returns what the gateway does now.
func (g *Gateway) Status() Status {
	g.once.Do(g.setUp)
	s := Status{
		Since: g.since, Draining: g.draining.Load(), Reloading: g.hold.active(), Callers: int(g.callers.Load()),
		Sessions: int(g.sessions.Load()),
		Requests: g.counts.requests.Load(), Attempts: g.counts.attempts.Load(), Resends: g.counts.resends.Load(),
	}
	if g.setUpErr != nil {
		s.Cause = g.setUpErr.Error()
		return s
	}
	u := *g.upstream
	u.User = nil
	gate := g.gate.Status()
	s.Upstream, s.Version = u.String(), g.client.Version().Server
	s.Down, s.Waiting, s.Unproven = gate.Down, gate.Waiting, gate.Unproven
	if gate.Cause != nil {
		s.Cause = gate.Cause.Error()
	}
	s.Starting, s.Unsettled = g.starts.list(&g.aliases)
	s.Running = g.running.list(&g.aliases)
	s.Aliases = g.aliases.count()
	s.Stomp = g.hub.status()
	return s
}

// ownTrace counts, and hears what the server has answered to a request to reload.
func (g *Gateway) ownTrace() *retry.Trace {
	return &retry.Trace{
		Attempting: func(ctx context.Context, a retry.AttemptInfo) {
			g.counts.attempts.Add(1)
			if a.Number > 1 {
				g.counts.resends.Add(1)
			}
			if c := callerOf(ctx); c != nil {
				c.attempts.Add(1)
				if a.Number > 1 {
					c.resends.Add(1)
				}
			}
		},
		Attempted: func(ctx context.Context, a retry.AttemptInfo, r retry.Record) {
			c := callerOf(ctx)
			if c == nil || c.route.kind != reload || a.Op != opReload || r.Verdict != retry.Succeeded {
				return
			}
			select {
			case c.reloading <- struct{}{}:
			default:
			}
		},
	}
}

// log tells what became of a caller's request.
func (g *Gateway) log(c *caller, r *http.Request, out *answerWriter) {
	deed, _ := c.deed.Load().(Deed)
	verdict := out.Header().Get(retryhttp.HeaderVerdict)
	if word, ok := c.verdict.Load().(string); ok {
		verdict = word
	}
	g.Log(Record{
		At: c.at, Took: time.Since(c.at), Op: c.route.operation(), Method: r.Method, Path: c.path, Task: c.task, Status: out.status,
		Verdict: verdict, Attempts: int(c.attempts.Load()), Resends: int(c.resends.Load()),
		Deed: deed, Gone: r.Context().Err() != nil || c.gone.Load(),
	})
}

// answerWriter remembers the status of an answer.
type answerWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status; 101 is one, other 1xx are not.
func (w *answerWriter) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets net/http find what else the writer can do.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
