package blueapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/adamant-go/adamant/retry"
)

// hold keeps calls back while the environment is reloaded: a request that arrives
// while the old worker is being stopped can make the server hang for good (measured
// on 1.21.1). The zero hold holds nobody.
type hold struct {
	mu       sync.Mutex
	calls    int           // under way
	drained  chan struct{} // not nil while a reload waits for calls to end
	changed  chan struct{} // closed when who waits should look again
	active   bool
	attended bool        // somebody asks for the environment
	old      Environment // before the reload
	since    time.Time   // when the request to reload was sent, or the reload was seen to go on
}

// reloadLimit is how long a server may show its old environment after it was asked
// to reload: it gives a running plan 30 s to end (1.21.1), and took a minute for that
// on a busy machine. After that the reload hangs, or was never begun.
const reloadLimit = 75 * time.Second

// enter counts a call in, or returns what to do first: wait for changed, or attend
// to the reload oneself.
func (h *hold) enter() (changed <-chan struct{}, attend bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.active:
		h.calls++
		return nil, false
	case !h.attended:
		h.attended = true
		return nil, true
	}
	return h.changed, false
}

func (h *hold) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls--; h.calls == 0 && h.drained != nil {
		close(h.drained)
		h.drained = nil
	}
}

// begin holds new calls back and waits for those under way. It returns false if
// another reload was there first.
func (h *hold) begin(ctx context.Context) (bool, error) {
	h.mu.Lock()
	if h.active {
		h.mu.Unlock()
		return false, nil
	}
	h.active, h.attended, h.since = true, true, time.Time{}
	h.changed = make(chan struct{})
	var drained chan struct{}
	if h.calls > 0 {
		drained = make(chan struct{})
		h.drained = drained
	}
	h.mu.Unlock()
	if drained == nil {
		return true, nil
	}
	select {
	case <-drained:
		return true, nil
	case <-ctx.Done():
		h.end(true)
		return true, ctx.Err()
	}
}

// sent notes that the request to reload the environment old is about to be sent, or that
// the reload is going on.
func (h *hold) sent(old Environment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.old, h.since = old, time.Now()
}

// reloading returns what is being waited for.
func (h *hold) reloading() (old Environment, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.old, h.since
}

// end stops attending. If the reload is over, calls may go; otherwise the next one
// attends to it.
func (h *hold) end(over bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attended, h.drained = false, nil
	h.active = !over
	close(h.changed)
	h.changed = make(chan struct{})
}

// resume holds calls back for a reload that somebody else has asked for.
func (h *hold) resume(old Environment, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.active {
		return
	}
	h.active, h.attended, h.old, h.since = true, false, old, since
	h.changed = make(chan struct{})
}

// ResumeReload has all calls wait for a reload that was asked for before this client was
// made, by a process that may have died since: at is when, and id the environment that the
// server had then. It returns at once; await waits too, until another environment shows,
// or none will. Its error is a [*retry.Error], after which the reload may still go on.
func (c *Client) ResumeReload(id string, at time.Time) (await func(context.Context) error) {
	c.once.Do(c.setUp)
	if now := time.Now(); at.After(now) {
		at = now
	}
	c.hold.resume(Environment{ID: id, Initialized: true}, at)
	return func(ctx context.Context) error {
		err := c.pass(ctx, "GET /environment")
		if err == nil {
			c.hold.leave()
		}
		return err
	}
}

// pass waits until no reload is under way, and counts a call in.
func (c *Client) pass(ctx context.Context, name string) error {
	for begin := time.Now(); ; {
		changed, attend := c.hold.enter()
		switch {
		case attend:
			over, err := c.attend(ctx)
			c.hold.end(over)
			if err != nil {
				return held(ctx, name, begin, err)
			}
		case changed == nil:
			return nil
		default:
			select {
			case <-changed:
			case <-ctx.Done():
				return held(ctx, name, begin, ctx.Err())
			}
		}
	}
}

// held is the error of a call that was held back to its end: nothing of it was sent,
// whatever was sent to attend to the reload.
func held(ctx context.Context, name string, begin time.Time, err error) error {
	e := &retry.Error{
		Op: name, Reason: retry.Outlasted, Took: time.Since(begin),
		Err: fmt.Errorf("waiting for the environment to be reloaded: %w", err),
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Reason = retry.Deadline
	case ctx.Err() != nil:
		e.Reason = retry.Cancelled
	}
	return e
}

// attend waits, in place of a caller of Reload that has given up, until a new
// environment shows or none will.
func (c *Client) attend(ctx context.Context) (over bool, err error) {
	for {
		env, err := c.environment(ctx, how{})
		old, since := c.hold.reloading()
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err == nil && env.ID == old.ID && old.Initialized && !env.Initialized && env.ErrorMessage == nil:
			c.hold.sent(old) // loading may take any time
		case err == nil && env.ID != old.ID, time.Since(since) > reloadLimit:
			return true, nil
		case err != nil:
			return false, err
		}
		if err := sleep(ctx, reloadPoll); err != nil {
			return false, err
		}
	}
}
