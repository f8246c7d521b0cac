package retry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
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
	policy  *Policy
	gate    *Gate
	tryer   Tryer
	ctx     context.Context //nolint:containedctx // the call is the scope of the context
	outer   *mark
	nested  bool // a caller retries too
	inside  bool // and has passed this very gate
	ticket  Ticket
	first   attemptContext
	begun   time.Time
	resumed time.Time // the end of the attempt before

	mu       sync.Mutex
	id       string
	numbers  int // attempts begun, copies included
	current  *attemptContext
	sent     bool
	records  []Record
	last     error
	finished bool

	copies  []*attemptContext // under way
	ended   chan struct{}     // closed when the last copy has ended after finished
	woken   chan struct{}     // closed when a copy was answered
	winner  Attempt
	won     bool
	wonWith error
}

// Run makes attempts until one counts, and returns it. On failure it returns an
// [*Error]. When it returns, no attempt is under way; the context of the one
// that counts lives until it is released.
func (c *Call) Run(ctx context.Context, p *Policy, t Tryer) (Attempt, error) {
	c.policy, c.tryer, c.ctx, c.gate = p, t, ctx, p.Gate
	if err := p.Validate(); err != nil {
		return Attempt{}, &Error{Op: p.Op, Reason: Misfit, Err: err}
	}
	if c.gate == nil {
		c.gate = new(Gate)
		defer c.gate.stop()
	}
	c.outer = markOf(ctx)
	c.nested = c.outer != nil
	c.inside = c.outer.through(c.gate)
	c.ticket = Ticket{
		Op: p.Op, Window: p.Window(), Patient: p.Wait > 0, Once: p.Safety == Once,
		Urgent: p.Urgent, Copies: p.Copies && p.Safety == Safe, Silence: p.Silence, call: c,
	}
	a, err := c.loop()
	if err == nil && a.Number == 1 && c.records == nil {
		c.finish()
		return a, nil
	}
	c.finish()
	if p.Trace != nil && p.Trace.Ended != nil {
		p.Trace.Ended(ctx, EndInfo{Op: p.Op, CallID: c.callID(), Attempts: c.numbers, Took: time.Since(c.begun), Err: err})
	}
	return a, err
}

func (c *Call) loop() (Attempt, error) {
	for failures := 0; ; failures++ {
		a := c.next()
		if err := c.pass(); err != nil {
			if errors.Is(err, errWoken) {
				return c.winnersResult()
			}
			return a, c.gaveUp(err)
		}
		a = c.begin(a)
		err := c.tryer.Try(a.ctx, a)
		f, now, giveUp := c.judge(a, err)
		c.resumed = now
		if c.answeredByCopy() {
			a.Release()
			return c.winnersResult()
		}
		if f == nil {
			return a, nil
		}
		a.Release()
		if r := c.verdict(f, now, giveUp); r != 0 {
			return a, c.fail(r, f)
		}
		d := c.delay(failures, f)
		if end, ok := c.ctx.Deadline(); ok && now.Add(d).After(end) {
			return a, c.fail(Deadline, f)
		}
		if err := c.sleep(d, f); err != nil {
			if errors.Is(err, errWoken) {
				return c.winnersResult()
			}
			return a, c.gaveUp(err)
		}
	}
}

// next prepares the attempt that is to be made.
func (c *Call) next() Attempt {
	actx := &c.first
	if c.numbers > 0 {
		actx = new(attemptContext)
	}
	actx.Context, actx.mark = c.ctx, mark{c.gate, c.outer}
	c.ticket.attempt = actx
	return Attempt{call: c, ticket: &c.ticket, ctx: actx}
}

// pass waits at the gate.
func (c *Call) pass() error {
	if c.inside {
		now := time.Now()
		c.ticket.sentAt = now
		if c.begun.IsZero() {
			c.begun, c.resumed = now, now
		}
		return c.ctx.Err()
	}
	err := c.gate.ask(c.ctx, &c.ticket, c.wokenChan(), func() {
		if c.begun.IsZero() {
			c.begun, c.resumed = c.ticket.joined, c.ticket.joined
		}
		c.traceWait(0)
	})
	if c.begun.IsZero() {
		c.begun, c.resumed = c.ticket.joined, c.ticket.joined
	}
	return err
}

// wokenChan is read before the first copy can have been made, or under the lock.
func (c *Call) wokenChan() <-chan struct{} {
	if c.begun.IsZero() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.woken
}

func (c *Call) begin(a Attempt) Attempt {
	c.mu.Lock()
	c.numbers++
	a.Number = c.numbers
	c.current = a.ctx
	if c.won {
		a.ctx.cancel(errBeaten)
	}
	c.mu.Unlock()
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
	f, ok := errors.AsType[*Failure](err)
	if !ok {
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
		return &Failure{Verdict: verdict, Evidence: Outage, Err: f.Err, Timeout: true}
	case errors.Is(cause, errBeaten), c.ctx.Err() != nil:
		return &Failure{Verdict: verdict, Evidence: NoEvidence, Err: f.Err}
	}
	return f
}

func (c *Call) record(a Attempt, f *Failure, now time.Time) {
	r := Record{
		Number: a.Number, Copy: a.Copy, Start: a.ticket.sentAt, Took: now.Sub(a.ticket.sentAt),
		Waited: a.ticket.sentAt.Sub(c.resumed), Verdict: Succeeded,
	}
	if a.Copy {
		r.Waited = 0
	}
	if f != nil {
		r.Verdict, r.Err = f.Verdict, f.Err
		c.mu.Lock()
		c.sent = c.sent || f.Verdict != NotSent
		c.last = f.Err
		if len(c.records) == maxRecords {
			c.records = slices.Delete(c.records, maxRecords/4, maxRecords/4+1)
		}
		c.records = append(c.records, r)
		c.mu.Unlock()
	}
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
	case f.Verdict == Ambiguous && c.nested:
		return Layered
	case f.Stop, p.MaxRetryAfter > 0 && f.RetryAfter > p.MaxRetryAfter:
		return Told
	case giveUp:
		return Outlasted
	case p.Wait > 0 && now.Sub(c.begun) >= p.Wait:
		return Outlasted
	case p.Wait == 0 && c.attempts() >= p.attempts():
		return Exhausted
	}
	return 0
}

func (c *Call) attempts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.numbers
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

func (c *Call) sleep(d time.Duration, f *Failure) error {
	c.traceWait(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-c.wokenChan():
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
	last := c.last
	c.mu.Unlock()
	if last != nil {
		return last
	}
	return c.gate.lastCause()
}

func (c *Call) fail(r Reason, f *Failure) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &Error{
		Op: c.policy.Op, CallID: c.callIDLocked(), Reason: r, Attempts: c.numbers, Sent: c.sent,
		Took: time.Since(c.begun), Records: slices.Clone(c.records), Err: f.Err,
	}
	if r == Cancelled || r == Deadline {
		e.ended = c.ctx.Err()
		if e.ended == nil {
			e.ended = context.DeadlineExceeded
		}
	}
	return e
}

// finish ends the copies and waits for them.
func (c *Call) finish() {
	c.mu.Lock()
	c.finished = true
	if len(c.copies) == 0 {
		c.mu.Unlock()
		return
	}
	c.ended = make(chan struct{})
	copies := slices.Clone(c.copies)
	c.mu.Unlock()
	for _, ctx := range copies {
		ctx.cancel(errBeaten)
	}
	<-c.ended
}

// startCopy makes a second attempt beside the silent one. The gate calls it.
func (c *Call) startCopy(t *Ticket) {
	c.mu.Lock()
	enough := c.policy.Wait == 0 && c.numbers >= c.policy.attempts()
	if c.finished || c.won || enough {
		c.mu.Unlock()
		c.gate.leave(t)
		return
	}
	actx := &attemptContext{Context: c.ctx, mark: mark{c.gate, c.outer}}
	c.numbers++
	a := Attempt{Number: c.numbers, Copy: true, Fresh: true, call: c, ticket: t, ctx: actx}
	c.copies = append(c.copies, actx)
	if c.woken == nil {
		c.woken = make(chan struct{})
	}
	c.mu.Unlock()

	c.gate.mu.Lock()
	t.attempt = actx
	c.gate.mu.Unlock()
	go c.runCopy(a)
}

func (c *Call) runCopy(a Attempt) {
	c.traceAttempting(a)
	err := c.tryer.Try(a.ctx, a)
	f, _, _ := c.judge(a, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	// An answer of the application counts even if it is a refusal.
	if counts := f == nil || f.Verdict == Fatal && f.evidence() == Proof; counts && !c.won && !c.finished {
		c.won, c.winner = true, a
		if f != nil {
			c.wonWith = f
		}
		close(c.woken)
		c.current.cancel(errBeaten)
	}
	if !c.won || c.winner.Number != a.Number {
		a.Release()
	}
	c.copies = slices.DeleteFunc(c.copies, func(ctx *attemptContext) bool { return ctx == a.ctx })
	if c.ended != nil && len(c.copies) == 0 {
		close(c.ended)
	}
}

func (c *Call) answeredByCopy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.won
}

func (c *Call) winnersResult() (Attempt, error) {
	if f, ok := errors.AsType[*Failure](c.wonWith); ok {
		return c.winner, c.fail(Hopeless, f)
	}
	return c.winner, nil
}

// callID makes the id when it is first asked for: most calls need none.
func (c *Call) callID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.callIDLocked()
}

func (c *Call) callIDLocked() string {
	if c.id == "" {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		c.id = hex.EncodeToString(b[:])
	}
	return c.id
}

func (c *Call) info(number int, isCopy bool) AttemptInfo {
	i := AttemptInfo{Op: c.policy.Op, CallID: c.callID(), Number: number, Copy: isCopy}
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
		AttemptInfo: c.info(c.attempts()+1, false), Since: c.begun, Delay: d, Err: c.lastCause(),
	})
}
