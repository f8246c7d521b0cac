package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/retry"
)

// What a record tells of that is no request: the beginning and the end of an outage.
const (
	outageBegan = "outage began"
	outageEnded = "outage ended"
)

// outageWatch tells when the server of a gateway ceases to answer, and when it answers
// again, as far as callers have asked.
type outageWatch struct {
	gateway *gateway.Gateway
	tell    func(recordLine)

	down  atomic.Bool // since is not zero
	mu    sync.Mutex
	since time.Time
}

// trace observes the attempts. Only those that fail, and those during an outage, cost
// anything.
func (w *outageWatch) trace() *retry.Trace {
	return &retry.Trace{Attempted: func(_ context.Context, _ retry.AttemptInfo, r retry.Record) {
		if r.Verdict != retry.Succeeded || w.down.Load() {
			w.look(time.Now())
		}
	}}
}

func (w *outageWatch) look(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s := w.gateway.Status(); {
	case !s.Down.IsZero() && w.since.IsZero():
		w.since = s.Down
		w.tell(recordLine{At: s.Down, Event: outageBegan})
	case s.Down.IsZero() && !w.since.IsZero():
		w.tell(recordLine{At: w.since, Took: now.Sub(w.since).Seconds(), Event: outageEnded})
		w.since = time.Time{}
	}
	w.down.Store(!w.since.IsZero())
}
