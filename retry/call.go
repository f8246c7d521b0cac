package retry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Tryer makes the attempts of a [Call]. Try may be called again while an earlier
// call of it is under way, if the policy allows copies. It keeps what an attempt
// brought by Attempt.Number until Run says which attempt counts.
type Tryer interface {
	// Try makes attempt a and returns nil, a [*Failure], or another error that
	// counts as an ambiguous one. ctx ends when the attempt is to end.
	Try(ctx context.Context, a Attempt) error
}

// Call is one call of Do without its generics and closures, for transports that
// count allocations. Most programs want [Do]. The zero value is ready; a Call is
// used once and not copied. It must not be used concurrently.
type Call struct {
	// Op names the operation in place of Policy.Op.
	Op string

	policy *Policy
	gate   *Gate
	tryer  Tryer
	ctx    context.Context //nolint:containedctx // the call is the scope of the context
	ticket Ticket
	first  attemptContext

	nested bool
	inside bool // a caller has passed this very gate
	begun  bool // an attempt was
	// shared becomes withCopies when the first copy is made, or over when the
	// call ends before that, so that a call that ends soon takes no lock.
	shared atomic.Int32

	mu       sync.Mutex
	numbers  int // attempts begun, copies included
	finished bool
	slow     *slowCall
}

// The values of Call.shared after zero.
const (
	withCopies = iota + 1
	over
)

// slowCall is the part of a call that one that succeeds at once never needs. It
// is guarded by the call's mutex.
type slowCall struct {
	id      string
	sent    bool
	records []Record
	last    error
	resumed time.Time       // the end of the attempt before
	current *attemptContext // of the attempt under way, if it is not the first

	copies  []*attemptContext // under way
	ended   chan struct{}     // closed when the last copy has ended after finished
	woken   chan struct{}     // closed when a copy was answered
	changed chan struct{}     // closed when a copy has ended
	winner  Attempt
	won     bool
	wonWith error
}

// more is to be called with the call locked.
func (c *Call) more() *slowCall {
	if c.slow == nil {
		c.slow = new(slowCall)
	}
	return c.slow
}

// Run makes attempts until one counts, and returns it. On failure it returns an
// [*Error]. When it returns, no attempt is under way; the context of the one
// that counts lives until it is released.
func (c *Call) Run(ctx context.Context, p *Policy, t Tryer) (Attempt, error) {
	c.policy, c.tryer, c.ctx, c.gate = p, t, ctx, p.Gate
	if c.Op == "" {
		c.Op = p.Op
	}
	if err := p.Validate(); err != nil {
		return Attempt{}, &Error{Op: c.Op, Reason: Misfit, Err: err}
	}
	if c.gate == nil {
		c.gate = new(Gate)
		defer c.gate.stop()
	}
	c.traceCall()
	outer := markOf(ctx)
	c.nested, c.inside = outer != nil, outer.through(c.gate)
	c.first.Context, c.first.mark = c.ctx, mark{c.gate, outer} //nolint:fatcontext // once per call
	c.ticket.Op, c.ticket.Policy, c.ticket.call, c.ticket.joined = c.Op, p, c, p.Since
	a, err := c.loop()
	c.finish()
	if p.Trace != nil && p.Trace.Ended != nil {
		i := c.info(c.numbers, false)
		p.Trace.Ended(c.ctx, EndInfo{Op: i.Op, CallID: i.CallID, Attempts: c.numbers, Of: i.Of, Took: time.Since(c.ticket.joined), Err: err})
	}
	return a, err
}

func (c *Call) loop() (Attempt, error) {
	for failures := 0; ; failures++ {
		a := c.next(failures == 0)
		if err := c.pass(); err != nil {
			if errors.Is(err, errWoken) {
				return c.winnersResult()
			}
			if failures == 0 {
				c.numbers = 0
			}
			return a, c.gaveUp(err)
		}
		a = c.begin(a)
		unwatch := c.watchInside(a)
		err := c.tryer.Try(a.ctx, a)
		unwatch()
		f, now, giveUp := c.judge(a, err)
		if c.answeredByCopy() {
			a.Release()
			return c.winnersResult()
		}
		if f == nil {
			return a, nil
		}
		a.Release()
		if r := c.verdict(f, now, giveUp); r != 0 {
			if (r == Exhausted || r == Outlasted) && c.copyWins() {
				return c.winnersResult()
			}
			return a, c.fail(r, f)
		}
		d := c.delay(failures, f)
		if end, ok := c.ctx.Deadline(); ok && now.Add(d).After(end) {
			return a, c.fail(Deadline, f)
		}
		if err := c.sleep(d); err != nil {
			if errors.Is(err, errWoken) {
				return c.winnersResult()
			}
			return a, c.gaveUp(err)
		}
	}
}

// next prepares the attempt that is to be made. Nobody else knows the call before
// the first.
func (c *Call) next(first bool) Attempt {
	a := Attempt{call: c, ticket: &c.ticket, ctx: &c.first}
	if first {
		c.numbers, a.Number = 1, 1
	} else {
		a.ctx = &attemptContext{Context: c.ctx, mark: c.first.mark}
	}
	c.ticket.attempt = a.ctx
	return a
}

// pass waits at the gate.
func (c *Call) pass() error {
	if c.inside {
		c.ticket.sentAt = time.Now()
		if c.ticket.joined.IsZero() {
			c.ticket.joined = c.ticket.sentAt
		}
		return c.ctx.Err()
	}
	return c.gate.ask(c.ctx, &c.ticket, c.woken(), func() { c.traceWait(0) })
}

// woken is closed when a copy was answered; nil if there is none.
func (c *Call) woken() <-chan struct{} {
	if c.ticket.joined.IsZero() {
		return nil // nobody else knows the call yet
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slow == nil {
		return nil
	}
	return c.slow.woken
}

// watchInside ends an attempt that is silent for too long where the gate does not
// know of it: an outer call has passed for it.
func (c *Call) watchInside(a Attempt) (stop func() bool) {
	if !c.inside || c.policy.Silence == 0 {
		return func() bool { return true }
	}
	return time.AfterFunc(c.policy.Silence, func() { a.ctx.cancel(errSilent) }).Stop
}

func (c *Call) begin(a Attempt) Attempt {
	if a.Number != 1 {
		c.mu.Lock()
		c.numbers++
		a.Number = c.numbers
		s := c.more()
		s.current = a.ctx
		if s.won {
			a.ctx.cancel(errBeaten)
		}
		c.mu.Unlock()
	}
	c.begun = true
	a.Fresh = a.Number > 1 || c.ticket.isPaced
	c.traceAttempting(a)
	return a
}

// judge reports an attempt to the gate and records it. It returns nil for
// success.
func (c *Call) judge(a Attempt, err error) (f *Failure, now time.Time, giveUp bool) {
	f = c.failureOf(a, err)
	evidence := Proof
	if f != nil {
		evidence = f.evidence()
	}
	var reopened bool
	switch {
	case c.inside:
		now = time.Now()
	case evidence == Proof:
		now, reopened = c.gate.answered(a.ticket)
	case evidence == Outage:
		now, giveUp = c.gate.failed(a.ticket, f)
	default:
		now = c.gate.leave(a.ticket)
	}
	if f != nil || c.policy.Trace != nil {
		c.record(a, f, now)
	}
	if reopened && c.policy.Reopened != nil {
		c.policy.Reopened()
	}
	return f, now, giveUp
}

// failureOf turns the error of an attempt into a Failure, taking into account
// why its context ended.
func (c *Call) failureOf(a Attempt, err error) *Failure {
	if err == nil {
		return nil
	}
	if j, ok := judgedOf(err); ok {
		return &Failure{Verdict: j.Verdict(), Evidence: NoEvidence, Err: err}
	}
	f, ok := errors.AsType[*Failure](err)
	if inner, nested := errors.AsType[*Error](err); nested {
		f = inner.failure(err)
	} else if !ok {
		f = &Failure{Verdict: Ambiguous, Err: err}
	}
	if f.evidence() == Proof {
		return f
	}
	verdict := Ambiguous
	if f.Verdict == NotSent {
		verdict = NotSent
	}
	switch cause := a.ctx.why(); {
	case errors.Is(cause, errSilent):
		return &Failure{Verdict: verdict, Evidence: Outage, Err: &SilenceError{c.policy.Silence}, Timeout: true}
	case errors.Is(cause, errBeaten), c.ctx.Err() != nil:
		return &Failure{Verdict: verdict, Evidence: NoEvidence, Err: f.Err, Unsent: f.Unsent}
	}
	return f
}

func (c *Call) record(a Attempt, f *Failure, now time.Time) {
	c.mu.Lock()
	s := c.more()
	r := Record{
		Number: a.Number, Copy: a.Copy, Start: a.ticket.sentAt, Took: now.Sub(a.ticket.sentAt), Verdict: Succeeded,
	}
	if !a.Copy {
		from := s.resumed
		if from.IsZero() {
			from = c.ticket.joined
		}
		r.Waited = r.Start.Sub(from)
		s.resumed = now
	}
	if f != nil {
		r.Verdict, r.Err = f.Verdict, f.Err
		s.sent = s.sent || f.Verdict != NotSent && !f.Unsent
		s.last = f.Err
		if len(s.records) == maxRecords {
			s.records = slices.Delete(s.records, maxRecords/4, maxRecords/4+1)
		}
		s.records = append(s.records, r)
	}
	c.mu.Unlock()
	if t := c.policy.Trace; t != nil && t.Attempted != nil {
		t.Attempted(c.ctx, c.info(a.Number, a.Copy), r)
	}
}

// verdict decides whether the call stops after a failure; zero means that it
// goes on.
func (c *Call) verdict(f *Failure, now time.Time, giveUp bool) Reason {
	p := c.policy
	switch {
	case c.ctx.Err() != nil:
		return c.contextReason()
	case f.Verdict == Fatal:
		return Hopeless
	case f.Verdict == Ambiguous && p.Safety == Once:
		return Unclear
	case c.inside, f.Verdict == Ambiguous && c.nested:
		return Layered
	case f.Stop, p.MaxRetryAfter > 0 && f.RetryAfter > p.MaxRetryAfter:
		return Told
	case p.Wait == 0 && c.attempts() >= p.attempts():
		return Exhausted
	case giveUp:
		return Outlasted
	case p.Wait > 0 && now.Sub(c.ticket.joined) >= p.Wait:
		return Outlasted
	}
	return 0
}

func (c *Call) attempts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.numbers
}

// upcoming is the number of the attempt that a waiting call is going to make.
func (c *Call) upcoming() int {
	if !c.begun { // the ticket knows too, and may be let go meanwhile
		return 1
	}
	return c.attempts() + 1
}

func (c *Call) contextReason() Reason {
	if errors.Is(c.ctx.Err(), context.DeadlineExceeded) {
		return Deadline
	}
	return Cancelled
}

// delay is the time from a failure to the next ask.
func (c *Call) delay(failures int, f *Failure) time.Duration {
	d := c.policy.Backoff.Delay(failures, c.gate.randomUnlocked())
	if f.RetryAfter == 0 {
		return d
	}
	hint := f.RetryAfter
	if c.policy.MaxRetryAfter == 0 {
		hint = min(hint, maxHint)
	}
	jitter := c.policy.Backoff.withDefaults().Jitter * c.gate.randomUnlocked()
	return max(d, hint+time.Duration(float64(hint)*jitter))
}

func (c *Call) sleep(d time.Duration) error {
	c.traceWait(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-c.woken():
		return errWoken
	}
}

// gaveUp makes the error of a call that ended while it waited.
func (c *Call) gaveUp(why error) error {
	r := c.contextReason()
	switch {
	case errors.Is(why, errNoTime):
		r = Deadline
	case errors.Is(why, errGaveUp):
		r = Outlasted
	}
	f := &Failure{Err: c.lastCause()}
	if f.Err == nil {
		f.Err = why
		if cause := context.Cause(c.ctx); cause != nil {
			f.Err = cause
		}
	}
	return c.fail(r, f)
}

// lastCause is why the latest attempt failed, or what other callers met.
func (c *Call) lastCause() error {
	c.mu.Lock()
	last := c.more().last
	c.mu.Unlock()
	if last != nil {
		return last
	}
	return c.gate.lastCause()
}

func (c *Call) fail(r Reason, f *Failure) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.more()
	e := &Error{
		Op: c.Op, CallID: c.callIDLocked(), Reason: r, Attempts: c.numbers, Sent: s.sent,
		Took: time.Since(c.ticket.joined), Records: slices.Clone(s.records), Err: f.Err,
	}
	if r == Cancelled || r == Deadline {
		e.ended = c.ctx.Err()
		if e.ended == nil {
			e.ended = context.DeadlineExceeded
		}
	}
	return e
}

// callID makes the id when it is first asked for: most calls need none.
func (c *Call) callID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.callIDLocked()
}

func (c *Call) callIDLocked() string {
	s := c.more()
	if s.id == "" {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		s.id = hex.EncodeToString(b[:])
	}
	return s.id
}
