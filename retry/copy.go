package retry

import (
	"errors"
	"slices"
	"time"
)

// finish ends the copies and waits for them.
func (c *Call) finish() {
	if c.shared.CompareAndSwap(0, over) {
		return
	}
	c.mu.Lock()
	c.finished = true
	if len(c.slow.copies) == 0 {
		c.mu.Unlock()
		return
	}
	ended := make(chan struct{})
	c.slow.ended = ended
	copies := slices.Clone(c.slow.copies)
	c.mu.Unlock()
	for _, ctx := range copies {
		ctx.cancel(errBeaten)
	}
	<-ended
}

// startCopy makes a second attempt beside the silent one. The gate calls it.
func (c *Call) startCopy(t *Ticket) {
	c.mu.Lock()
	s := c.more()
	enough := c.policy.Wait == 0 && c.numbers >= c.policy.attempts()
	if c.finished || s.won || enough || !c.shared.CompareAndSwap(0, withCopies) && c.shared.Load() == over {
		c.mu.Unlock()
		c.gate.leave(t)
		return
	}
	actx := &attemptContext{Context: c.ctx, mark: c.first.mark}
	c.numbers++
	a := Attempt{Number: c.numbers, Copy: true, Fresh: true, call: c, ticket: t, ctx: actx}
	s.copies = append(s.copies, actx)
	if s.woken == nil {
		s.woken = make(chan struct{})
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
	s := c.slow
	// An answer of the application counts even if it is a refusal.
	counts := f == nil || f.Verdict == Fatal && f.evidence() == Proof
	if counts && !s.won && !c.finished {
		s.won, s.winner = true, a
		if f != nil {
			s.wonWith = f
		}
		close(s.woken)
		if s.current != nil {
			s.current.cancel(errBeaten)
		} else {
			c.first.cancel(errBeaten)
		}
	}
	if !s.won || s.winner.Number != a.Number {
		a.Release()
	}
	s.copies = slices.DeleteFunc(s.copies, func(ctx *attemptContext) bool { return ctx == a.ctx })
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	if s.ended != nil && len(s.copies) == 0 {
		close(s.ended)
	}
}

// copyWins waits a little for the copies that are under way when the attempts are
// used up, and reports whether one of them was answered.
func (c *Call) copyWins() bool {
	limit := time.NewTimer(copySilence)
	defer limit.Stop()
	for c.shared.Load() == withCopies {
		c.mu.Lock()
		won, left := c.slow.won, len(c.slow.copies)
		if won || left == 0 {
			c.mu.Unlock()
			return won
		}
		changed := make(chan struct{})
		c.slow.changed = changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-limit.C:
			return false
		case <-c.ctx.Done():
			return false
		}
	}
	return false
}

func (c *Call) answeredByCopy() bool {
	if c.shared.Load() != withCopies {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slow != nil && c.slow.won
}

func (c *Call) winnersResult() (Attempt, error) {
	if f, ok := errors.AsType[*Failure](c.slow.wonWith); ok {
		return c.slow.winner, c.fail(Hopeless, f)
	}
	return c.slow.winner, nil
}
