package gateway

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/stomp"
)

const (
	// keepFor and keepBytes bound what is kept of what was told, for callers who come
	// late or again; ends are kept for keepFor, however much was told since.
	keepFor   = time.Minute
	keepBytes = 64 << 20
	// maxOver is how many tasks are remembered that have ended, so that their end is not
	// told again.
	maxOver = 1000
	// refusedPause is how long a broker is left alone that wants none of us.
	refusedPause = 10 * time.Second
)

// hub tells callers what the server publishes: one subscription upstream, many here. It
// follows the tasks that run, so that the end of each is told, whatever becomes of the
// server's own word.
type hub struct {
	gateway     *Gateway
	destination string
	opening     sync.Once
	server      stomp.Server
	wake        chan struct{} // the scout has a reason to look

	mu        sync.Mutex // held for moments only, and before those of stomp's peers
	serving   bool
	number    int64 // of what was told last
	history   []told
	ends      []told // of history, for which there was no room
	bytes     int
	forgotten int64 // the last number that history does not have any more
	last      []byte
	subs      map[*stomp.Subscriber]place
	peers     map[*stomp.Peer]*place // since they have connected
	lost      []absent
	idle      time.Time // since when there is no peer
	tasks     map[string]*followed
	over      []string // of tasks, those that have ended, in that order
	counts    StompCounts

	attending context.Context //nolint:containedctx // lasts while somebody is connected; nil otherwise
	leave     context.CancelFunc
	look      bool
	scouted   bool
	lastTask  string    // that the scout has seen
	asked     time.Time // when a caller last asked for a task to be started
	latest    *caller

	broker string
	since  time.Time
	cause  error
	mute   time.Time // when it did not answer a session
}

// told is a message that is kept.
type told struct {
	message *stomp.Message
	at      time.Time
	ends    *followed // the task of which it is the last word; nil if it is none
}

// followed is a task that was seen to run.
type followed struct {
	id     string
	env    string             // the environment that it is in; "" if that was not read
	as     *caller            // with whose credentials it is read; nil: anybody's
	last   time.Time          // when it was heard of
	told   bool               // that it runs
	before bool               // an earlier gateway has started it
	paused bool               // it was, after which nobody records how it ends
	over   bool               // its end was told
	seen   *blueapi.Task      // its record; nil if it was not read
	stop   context.CancelFunc // ends the watching; nil if nobody watches
}

// The states of the broker, as StompStatus has them.
const (
	brokerNone       = "none"
	brokerConnecting = "connecting"
	brokerConnected  = "connected"
	brokerAway       = "away"
	brokerRefused    = "refused"
)

// open subscribes, if that was not done before.
func (h *hub) open(g *Gateway) {
	h.opening.Do(func() {
		h.gateway, h.destination, h.wake = g, destinationOf(g.Broker), make(chan struct{}, 1)
		h.serve(&h.server)
		h.mu.Lock()
		h.subs, h.peers, h.tasks = make(map[*stomp.Subscriber]place), make(map[*stomp.Peer]*place), make(map[string]*followed)
		h.leave = func() {}
		h.idle, h.serving = time.Now(), true
		h.mu.Unlock()
		if g.Broker == nil {
			h.brokerIs(brokerNone, nil)
			return
		}
		h.brokerIs(brokerConnecting, nil)
		g.goOn(func() { h.listen(g.life) })
	})
}

// close ends the connections of callers.
func (h *hub) close() { _ = h.server.Close() } // it has no error

// listen keeps the subscription for as long as the gateway lives: a broker that refuses
// it today may be given other users tomorrow.
func (h *hub) listen(ctx context.Context) {
	for ctx.Err() == nil {
		l := h.gateway.Broker.Listen(ctx)
		err := h.hear(ctx, l)
		l.Close()
		if ctx.Err() != nil {
			return
		}
		h.brokerIs(brokerRefused, err)
		sleep(ctx, refusedPause)
	}
}

// hear deals with what a subscription brings, and returns why it ended.
func (h *hub) hear(ctx context.Context, l *blueapi.Listener) error {
	for {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		err := l.Subscribed(limited)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
		h.brokerIs(brokerAway, err)
	}
	h.brokerIs(brokerConnected, nil)
	for {
		e, err := l.Next(ctx)
		if err != nil {
			return err
		}
		if e.Gap == nil {
			h.event(e)
			continue
		}
		if e.Gap.Until.IsZero() {
			h.brokerIs(brokerAway, e.Gap.Err)
			continue
		}
		h.mu.Lock()
		if !errors.Is(e.Gap.Err, blueapi.ErrReplayed) {
			h.counts.Gaps++
		}
		h.mu.Unlock()
		h.brokerIs(brokerConnected, nil)
		h.scoutNow()
	}
}

// brokerIs notes how the gateway stands with the broker.
func (h *hub) brokerIs(state string, cause error) {
	h.mu.Lock()
	changed := h.broker != state
	if h.cause = cause; changed {
		h.broker, h.since = state, time.Now()
	}
	h.mu.Unlock()
	if changed {
		h.scoutNow()
	}
}

// event passes on what the server published, and learns from it.
func (h *hub) event(e blueapi.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if (e.TaskID != "" || e.Data != nil) && bytes.Equal(e.Raw, h.last) {
		// A server that was started without its broker publishes each event several
		// times once that is there (1.21.1).
		h.counts.Repeated++
		return
	}
	h.last = e.Raw
	t := h.tasks[e.TaskID]
	ends := false
	if w := e.Worker; w != nil && w.Task != nil {
		if t != nil && t.over {
			h.counts.Late++
			return
		}
		// From a pause on every event says complete.
		ends = e.TaskID != "" && w.Task.Complete && (w.State == blueapi.StateIdle || w.State == blueapi.StatePanicked)
	}
	switch {
	case e.TaskID == "":
	case t == nil && ends:
		t = h.know(e.TaskID)
	case t == nil:
		t = h.follow(e.TaskID, nil)
	}
	if t != nil {
		t.last, t.told = e.At, true
		t.paused = t.paused || e.Worker != nil && e.Worker.State == blueapi.StatePaused
	}
	if !ends {
		h.tell(h.message(e), nil)
		return
	}
	h.tell(h.message(e), t)
	seen := blueapi.Task{ID: t.id, Outcome: e.Worker.Task.Outcome}
	result := seen.End()
	if t.paused && result.Reason == blueapi.Ended {
		result.Reason, result.Outcome = blueapi.NotRecorded, nil
	}
	h.end(t, result)
}

// tell tells everybody, with the lock held. ends is the task of which it is the last word;
// nil if it is none.
func (h *hub) tell(m *stomp.Message, ends *followed) {
	h.number++
	m.Number = h.number
	h.counts.Events++
	for s := range h.subs {
		s.Send(m)
	}
	h.keep(told{m, time.Now(), ends})
}

// keep keeps a message for a while, with the lock held.
func (h *hub) keep(t told) {
	if h.deserted() { // nobody can come late, or again
		h.history, h.ends, h.bytes, h.forgotten = nil, nil, 0, t.message.Number
		return
	}
	old := func(kept told) bool { return t.at.Sub(kept.at) > keepFor }
	h.history = append(h.history, t)
	h.bytes += t.message.Size()
	n := 0
	for ; n < len(h.history) && (h.bytes > keepBytes || old(h.history[n])); n++ {
		if h.history[n].ends != nil {
			h.ends = append(h.ends, h.history[n])
		}
		h.bytes -= h.history[n].message.Size()
		h.forgotten = h.history[n].message.Number
		h.history[n] = told{}
	}
	h.history = h.history[n:]
	h.ends = slices.DeleteFunc(h.ends, old)
}

// follow has a task followed to its end, with the lock held.
func (h *hub) follow(id string, as *caller) *followed {
	t := h.tasks[id]
	if t == nil {
		t = h.know(id)
		t.last = time.Now()
	}
	if as != nil {
		t.as = as
	}
	h.watchOver(t)
	return t
}

// know makes a task known, with the lock held.
func (h *hub) know(id string) *followed {
	if h.deserted() {
		h.forget()
	}
	t := &followed{id: id, before: h.gateway.unended.isBefore(id)}
	h.tasks[id] = t
	return t
}

// deserted reports whether nobody listens, or may come back to, with the lock held.
func (h *hub) deserted() bool { return len(h.peers) == 0 && time.Since(h.idle) > returnLimit }

// forget drops the tasks whose end is not told, with the lock held.
func (h *hub) forget() {
	maps.DeleteFunc(h.tasks, func(_ string, t *followed) bool { return !t.over })
}

// end notes that the end of a task was told, and what it was, with the lock held.
func (h *hub) end(t *followed, result blueapi.Result) {
	h.gateway.unended.over(t.id, result)
	t.over, t.seen = true, nil
	if t.stop != nil {
		t.stop()
	}
	if h.over = append(h.over, t.id); len(h.over) > maxOver {
		delete(h.tasks, h.over[0])
		h.over = h.over[1:]
	}
}

// started tells that a task was started for the caller of ctx.
func (h *hub) started(ctx context.Context, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.serving {
		return
	}
	as := callerOf(ctx).credentialsOnly()
	h.latest = as
	if t := h.tasks[id]; t == nil || !t.over {
		h.follow(id, as)
	}
}

// unheard reports whether nobody listens, or may come back to listen.
func (h *hub) unheard() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.serving || h.deserted()
}

// starting tells that a caller has asked for a task to be started.
func (h *hub) starting() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = time.Now()
}

// answered keeps the credentials of a caller that the server has answered: not all of
// what it answers tells whether they are good, but that is found out when they are used.
func (h *hub) answered(c *caller) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.serving && c.credentials() != "\n" {
		h.latest = c.credentialsOnly()
	}
}

// silent notes that the broker did not answer a session.
func (h *hub) silent() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mute = time.Now()
}

// deaf reports whether the broker is known to be away, by a session or, if there are any
// who listen, by their subscription.
func (h *hub) deaf() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.broker == brokerAway || h.broker == brokerRefused:
		return true
	case h.broker == brokerConnected && h.since.After(h.mute):
		return false
	}
	return !h.mute.IsZero() && time.Since(h.mute) < deafFor
}
