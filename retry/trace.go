package retry

import (
	"context"
	"slices"
	"time"
)

// Trace observes calls, as net/http/httptrace observes requests. Any function
// may be nil. They are called from the goroutine of the attempt, never under a
// lock, and may be called concurrently; ctx is the call's.
type Trace struct {
	// CallContext returns the context of a call as it begins: ctx, or one made
	// of it that bears what the other functions, and the attempts, want to
	// know of the call, such as a span.
	CallContext func(ctx context.Context, c CallInfo) context.Context
	// AttemptContext returns the context of an attempt as it begins, made of
	// ctx likewise. It is called before Attempting.
	AttemptContext func(ctx context.Context, a AttemptInfo) context.Context
	// Attempting is called as an attempt begins.
	Attempting func(ctx context.Context, a AttemptInfo)
	// Attempted is called as an attempt has ended.
	Attempted func(ctx context.Context, a AttemptInfo, r Record)
	// Waiting is called when a call begins to wait.
	Waiting func(ctx context.Context, w WaitInfo)
	// Ended is called once as a call ends. Its Err is nil or an [*Error].
	Ended func(ctx context.Context, e EndInfo)
}

// JoinTraces returns a trace that calls all of traces, one after the other; each
// makes its contexts of what the one before has made. Those that are nil are left
// out, and the trace of nobody is nil.
func JoinTraces(traces ...*Trace) *Trace {
	traces = slices.DeleteFunc(slices.Clone(traces), func(t *Trace) bool { return t == nil })
	switch len(traces) {
	case 0:
		return nil
	case 1:
		return traces[0]
	}
	return &Trace{
		CallContext: func(ctx context.Context, c CallInfo) context.Context {
			for _, t := range traces {
				ctx = t.callContext(ctx, c) //nolint:fatcontext // once per trace
			}
			return ctx
		},
		AttemptContext: func(ctx context.Context, a AttemptInfo) context.Context {
			for _, t := range traces {
				ctx = t.attemptContext(ctx, a) //nolint:fatcontext // the same
			}
			return ctx
		},
		Attempting: func(ctx context.Context, a AttemptInfo) {
			for _, t := range traces {
				t.attempting(ctx, a)
			}
		},
		Attempted: func(ctx context.Context, a AttemptInfo, r Record) {
			for _, t := range traces {
				t.attempted(ctx, a, r)
			}
		},
		Waiting: func(ctx context.Context, w WaitInfo) {
			for _, t := range traces {
				t.waiting(ctx, w)
			}
		},
		Ended: func(ctx context.Context, e EndInfo) {
			for _, t := range traces {
				t.ended(ctx, e)
			}
		},
	}
}

// CallInfo says which call.
type CallInfo struct {
	Op     string
	CallID string
	// Of is how many attempts the policy allows; 0 if they are not counted.
	Of int
}

// AttemptInfo says which attempt of which call.
type AttemptInfo struct {
	Op     string
	CallID string
	// Number of Of attempts; Of is 0 if they are not counted.
	Number, Of int
	Copy       bool
}

// WaitInfo says why a call waits.
type WaitInfo struct {
	AttemptInfo // the attempt that it waits to make
	// Since is when the call began.
	Since time.Time
	// Delay is how long it will wait if it is a backoff; zero means that it
	// waits at the gate until the destination answers.
	Delay time.Duration
	// Err is why the attempt before failed; nil before the first.
	Err error
}

// EndInfo says how a call ended.
type EndInfo struct {
	Op     string
	CallID string
	// Attempts were made of the Of that the policy allows; Of is 0 if they are
	// not counted.
	Attempts, Of int
	Took         time.Duration
	Err          error
}

func (c *Call) info(number int, isCopy bool) AttemptInfo {
	i := AttemptInfo{Op: c.Op, CallID: c.callID(), Number: number, Copy: isCopy}
	if c.policy.Wait == 0 {
		i.Of = c.policy.attempts()
	}
	return i
}

// traceCall tells that a call begins. Its context may become another.
func (c *Call) traceCall() {
	if t := c.policy.Trace; t != nil && t.CallContext != nil {
		i := c.info(0, false)
		c.ctx = t.CallContext(c.ctx, CallInfo{Op: i.Op, CallID: i.CallID, Of: i.Of})
	}
}

// traceAttempting tells that an attempt begins, of whose context nobody else has
// made use yet.
func (c *Call) traceAttempting(a Attempt) {
	t := c.policy.Trace
	if t == nil {
		return
	}
	i := c.info(a.Number, a.Copy)
	if t.AttemptContext != nil {
		a.ctx.Context = t.AttemptContext(c.ctx, i)
	}
	t.attempting(c.ctx, i)
}

func (c *Call) traceWait(d time.Duration) {
	t := c.policy.Trace
	if t == nil || t.Waiting == nil {
		return
	}
	t.Waiting(c.ctx, WaitInfo{
		AttemptInfo: c.info(c.upcoming(), false), Since: c.ticket.joined, Delay: d, Err: c.lastCause(),
	})
}

func (t *Trace) callContext(ctx context.Context, c CallInfo) context.Context {
	if t.CallContext == nil {
		return ctx
	}
	return t.CallContext(ctx, c)
}

func (t *Trace) attemptContext(ctx context.Context, a AttemptInfo) context.Context {
	if t.AttemptContext == nil {
		return ctx
	}
	return t.AttemptContext(ctx, a)
}

func (t *Trace) attempting(ctx context.Context, a AttemptInfo) {
	if t.Attempting != nil {
		t.Attempting(ctx, a)
	}
}

func (t *Trace) attempted(ctx context.Context, a AttemptInfo, r Record) {
	if t.Attempted != nil {
		t.Attempted(ctx, a, r)
	}
}

func (t *Trace) waiting(ctx context.Context, w WaitInfo) {
	if t.Waiting != nil {
		t.Waiting(ctx, w)
	}
}

func (t *Trace) ended(ctx context.Context, e EndInfo) {
	if t.Ended != nil {
		t.Ended(ctx, e)
	}
}
