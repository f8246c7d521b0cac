package retry

import (
	"context"
	"errors"
	"sync"
)

// errSilent ends an attempt that has not given a sign of life for too long.
var errSilent = errors.New("retry: no sign of life")

// errBeaten ends an attempt because another one of its call was answered first.
var errBeaten = errors.New("retry: another attempt was answered first")

// Attempt is one try of a call, as its operation sees it. It is passed by value.
type Attempt struct {
	// Number counts from 1 in the order in which the attempts of a call, its
	// copies included, were begun.
	Number int
	// Copy tells that this attempt runs beside a silent one. A call's
	// operation may therefore run twice at the same time.
	Copy bool
	// Fresh asks for a new connection: after a failure the pooled ones may all
	// be dead.
	Fresh bool

	call   *Call
	ticket *Ticket
	ctx    *attemptContext
}

// CallID identifies the call in logs, traces and headers.
func (a Attempt) CallID() string {
	if a.call == nil {
		return ""
	}
	return a.call.callID()
}

// Nested tells that a caller of this call retries too.
func (a Attempt) Nested() bool { return a.call != nil && a.call.nested }

// Heard tells that the attempt showed a sign of life: part of an answer arrived.
// It starts the policy's Silence anew, and holds off copies.
func (a Attempt) Heard() {
	if a.call != nil && !a.call.inside {
		a.call.gate.heard(a.ticket)
	}
}

// Release ends the context of the attempt. Whoever uses Call.Run calls it once
// the result of the winning attempt is no longer in use.
func (a Attempt) Release() {
	if a.ctx != nil {
		a.ctx.cancel(context.Canceled)
	}
}

// attemptContext is the context of one attempt. It ends with the call's context,
// when the attempt has been silent for too long, or when another attempt won.
// It is a type of its own, not context.WithCancel, so that an attempt that
// succeeds costs no allocation for it.
type attemptContext struct {
	context.Context // the call's
	mark            mark

	mu    sync.Mutex
	done  chan struct{} // made when first asked for
	cause error
	stop  func() bool // ends the watch over the call's context
}

func (c *attemptContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.cause != nil {
			close(c.done)
		} else if c.Context.Done() != nil {
			c.stop = context.AfterFunc(c.Context, func() { c.cancel(context.Cause(c.Context)) })
		}
	}
	return c.done
}

func (c *attemptContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		if errors.Is(c.cause, context.DeadlineExceeded) {
			return context.DeadlineExceeded
		}
		return context.Canceled
	}
	return c.Context.Err()
}

// contextKey finds the context of an attempt.
type contextKey struct{}

// ContextOf returns the context of the attempt that ctx was made for, or nil. It
// finds it from a context that was detached from the attempt's end too, such as
// the one that net/http dials with.
func ContextOf(ctx context.Context) context.Context {
	c, _ := ctx.Value(contextKey{}).(context.Context)
	return c
}

func (c *attemptContext) Value(key any) any {
	switch key {
	case markKey{}:
		return &c.mark
	case contextKey{}:
		return c
	}
	return c.Context.Value(key)
}

// cancel ends the attempt. The first cause counts.
func (c *attemptContext) cancel(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = cause
	if c.done != nil {
		close(c.done)
	}
	if c.stop != nil {
		c.stop()
	}
}

func (c *attemptContext) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}
