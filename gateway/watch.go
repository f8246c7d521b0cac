package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

const (
	// silence is how long an end event is waited for, from the event before it, when
	// the task is over by its record; as for runs of blueapi's client.
	silence = 500 * time.Millisecond
	// scoutPause is the time between two looks at the worker, doubled up to
	// maxScoutPause when they fail.
	scoutPause    = time.Second
	maxScoutPause = 10 * time.Second
	// watchPause is the time until a task is watched again that could not be.
	watchPause = 2 * time.Second
)

// attend looks after those who have begun to listen, with the lock held: nothing is
// asked of the server for nobody.
func (h *hub) attend() {
	ctx, cancel := context.WithCancel(h.gateway.life)
	h.attending = ctx
	h.leave = func() {
		cancel()
		h.attending = nil
		for _, t := range h.tasks {
			t.stop = nil
		}
	}
	if h.deserted() { // whoever waited for these is gone
		h.forget()
	}
	for _, t := range h.tasks {
		h.watchOver(t)
	}
	h.look = true
	h.gateway.goOn(func() { h.scout(ctx) })
}

// scoutNow has the worker looked at.
func (h *hub) scoutNow() {
	h.mu.Lock()
	h.look = true
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// scout finds tasks that run and were not heard of: it looks once when somebody comes,
// once after events may have been missed, and every second while there is no broker.
func (h *hub) scout(ctx context.Context) {
	for pause := scoutPause; ctx.Err() == nil; {
		h.mu.Lock()
		look := h.look || h.broker != brokerConnected
		h.look = false
		h.mu.Unlock()
		if !look {
			select {
			case <-h.wake:
			case <-ctx.Done():
			}
			continue
		}
		if err := h.lookAround(ctx); err != nil {
			h.mu.Lock()
			h.look = true
			h.mu.Unlock()
			pause = min(2*pause, maxScoutPause)
		} else {
			pause = scoutPause
		}
		sleep(ctx, pause)
	}
}

// lookAround reads what the worker does.
func (h *hub) lookAround(ctx context.Context) error {
	ctx = h.onBehalf(ctx, nil)
	id, err := h.gateway.client.WorkerTask(ctx)
	if err != nil {
		return err
	}
	state, err := h.gateway.client.WorkerState(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before, first := h.lastTask, !h.scouted
	h.lastTask, h.scouted = id, true
	if id == "" || h.tasks[id] != nil {
		return nil
	}
	if idle := state == blueapi.StateIdle || state == blueapi.StatePanicked; idle {
		// It ended before anybody who is here could wait for it; unless those did who
		// have lost the gateway that was here before this one, and has started it.
		waited := time.Since(h.gateway.since) < returnLimit && h.gateway.unended.isBefore(id)
		if id == before || first && !waited {
			return nil
		}
	}
	h.follow(id, nil)
	return nil
}

// onBehalf is a context for what is read with the credentials of whoever had a task
// started, or with the latest; nil for those.
func (h *hub) onBehalf(ctx context.Context, as *caller) context.Context {
	if as == nil {
		h.mu.Lock()
		as = h.latest
		h.mu.Unlock()
	}
	if as == nil {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, as)
}

// credentialsOnly is what remains of a caller when it has been answered.
func (c *caller) credentialsOnly() *caller {
	h := make(http.Header)
	for _, key := range []string{"Authorization", "Cookie"} {
		if values := c.header[key]; values != nil {
			h[key] = values
		}
	}
	return &caller{header: h}
}

// watchOver has a task's record watched, with the lock held, while somebody is there.
func (h *hub) watchOver(t *followed) {
	if t.over || t.stop != nil || h.attending == nil {
		return
	}
	ctx, cancel := context.WithCancel(h.attending)
	if !h.gateway.goOn(func() {
		defer cancel()
		h.watch(ctx, t)
	}) {
		cancel()
		return
	}
	t.stop = cancel
}

// watch waits for the end of a task by its record, and sees to it that it is told.
func (h *hub) watch(ctx context.Context, t *followed) {
	for n := 0; ctx.Err() == nil; n++ {
		h.mu.Lock()
		as, env := t.as, t.env
		h.mu.Unlock()
		if n%2 == 1 { // a token may have run out
			as = nil
		}
		asking := h.onBehalf(ctx, as)
		if env == "" {
			if now, err := h.gateway.client.Environment(asking); err == nil {
				env = now.ID
				h.mu.Lock()
				t.env = env
				h.mu.Unlock()
			}
		}
		if env != "" {
			if result, unknown, over := h.outcome(asking, t, env); over {
				h.heal(ctx, t, result, unknown)
				return
			}
		}
		sleep(ctx, watchPause)
	}
}

// outcome waits for the end of a task by the rules of blueapi's client, and reports
// whether it is over. If its record does not say how it ended, unknown says why.
func (h *hub) outcome(ctx context.Context, t *followed, env string) (result blueapi.Result, unknown string, over bool) {
	run, err := h.gateway.client.Attach(ctx, blueapi.Attachment{TaskID: t.id, EnvironmentID: env, Step: blueapi.StepStarted})
	if err != nil {
		return result, "", false
	}
	defer run.Close()
	result, err = run.Wait(ctx)
	if err == nil {
		h.mu.Lock()
		t.seen = result.Task
		h.mu.Unlock()
		return result, "", result.Task != nil
	}
	e, ok := errors.AsType[*blueapi.RunError](err)
	if !ok {
		return result, "", false
	}
	switch e.Reason {
	case blueapi.EnvironmentChanged:
	case blueapi.RecordLost, blueapi.Removed: // or it must not be seen by the one who asks
		if !h.left(ctx, t.id) {
			return result, "", false
		}
	default:
		return result, "", false
	}
	return result, h.gateway.aliases.text(e.Error()), true
}

// left waits until the worker is done with a task that has no record.
func (h *hub) left(ctx context.Context, id string) bool {
	for {
		current, err := h.gateway.client.WorkerTask(ctx)
		if err != nil {
			return false
		}
		state, err := h.gateway.client.WorkerState(ctx)
		if err != nil {
			return false
		}
		if current != id || state == blueapi.StateIdle || state == blueapi.StatePanicked {
			return true
		}
		if sleep(ctx, watchPause); ctx.Err() != nil {
			return false
		}
	}
}

// heal tells the end of a task that is over, unless the server does. Its words are
// waited for until there have been none of that task for a moment.
func (h *hub) heal(ctx context.Context, t *followed, result blueapi.Result, unknown string) {
	over := time.Now()
	for {
		h.mu.Lock()
		if t.over || ctx.Err() != nil {
			h.mu.Unlock()
			return
		}
		since := over
		if t.last.After(since) {
			since = t.last
		}
		rest := silence - time.Since(since)
		if h.broker != brokerConnected || rest <= 0 {
			break
		}
		h.mu.Unlock()
		sleep(ctx, rest)
	}
	h.tell(h.ending(t, unknown), t)
	h.end(t, result)
	h.counts.Healed++
	h.mu.Unlock()
	if log := h.gateway.Log; log != nil {
		log(Record{
			At: over, Took: time.Since(over), Op: "STOMP", Method: "STOMP", Path: h.destination,
			Task: h.gateway.aliases.shown(t.id), Deed: Healed,
		})
	}
}

// watched tells what is read of a task while no events come.
func (h *hub) watched(task blueapi.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tasks[task.ID]
	if t == nil || t.over {
		return
	}
	t.seen = &task
	if h.broker == brokerConnected || t.told || task.IsPending {
		return
	}
	t.told = true
	h.tell(h.state(t.id, blueapi.StateRunning, nil), nil)
}

// changed tells a state of the worker that was read while no events come.
func (h *hub) changed(id string, state blueapi.WorkerState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tasks[id]
	if t == nil || t.over || t.seen == nil || h.broker == brokerConnected {
		return
	}
	h.tell(h.state(id, state, t.seen), nil)
}

// trace has the hub see what is read of the tasks that are watched.
func (h *hub) trace(t *blueapi.RunTrace) *blueapi.RunTrace {
	t.Watched = h.watched
	t.Paused = func(id string) { h.changed(id, blueapi.StatePaused) }
	t.Resumed = func(id string) { h.changed(id, blueapi.StateRunning) }
	return t
}

// sleep returns early if ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
