package retry

import (
	"context"
	"time"
)

// Trace observes calls, as net/http/httptrace observes requests. Any function
// may be nil. They are called from the goroutine of the attempt, never under a
// lock, and may be called concurrently; ctx is the call's.
type Trace struct {
	// Attempting is called as an attempt begins.
	Attempting func(ctx context.Context, a AttemptInfo)
	// Attempted is called as an attempt has ended.
	Attempted func(ctx context.Context, a AttemptInfo, r Record)
	// Waiting is called when a call begins to wait.
	Waiting func(ctx context.Context, w WaitInfo)
	// Ended is called once as a call ends. Its Err is nil or an [*Error].
	Ended func(ctx context.Context, e EndInfo)
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

func (c *Call) traceAttempting(a Attempt) {
	if t := c.policy.Trace; t != nil && t.Attempting != nil {
		t.Attempting(c.ctx, c.info(a.Number, a.Copy))
	}
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
