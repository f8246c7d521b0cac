package retry

import (
	"context"
	"errors"
	"time"
)

// errNoTime tells that a wait could not end before the caller's deadline.
var errNoTime = errors.New("retry: the wait would end after the deadline")

// errGaveUp tells that the outage outlasted the call's window.
var errGaveUp = errors.New("retry: the outage lasted too long")

// errWoken tells that a wait was ended from outside.
var errWoken = errors.New("retry: woken")

// actions are what a gate's decisions require once it is unlocked.
type actions struct {
	copies  []*Ticket
	overdue []*attemptContext
}

func (a actions) do() {
	for _, attempt := range a.overdue {
		attempt.cancel(errSilent)
	}
	for _, t := range a.copies {
		t.call.startCopy(t)
	}
}

// settle carries out what the state machine decided, as far as that can be done
// under the lock; the caller does the rest after unlocking.
func (g *Gate) settle(now time.Time) (a actions) {
	d := g.PumpAt(now)
	for _, t := range d.Go {
		if t.Of != nil {
			a.copies = append(a.copies, t)
		} else {
			t.signal()
		}
	}
	for _, t := range d.GiveUp {
		t.signal()
	}
	for _, t := range d.Overdue {
		if t.attempt != nil {
			a.overdue = append(a.overdue, t.attempt)
		}
	}
	g.arm(now, d.Next)
	return a
}

func (t *Ticket) signal() {
	if t.slow != nil && t.slow.ready != nil {
		t.slow.ready <- struct{}{}
	}
}

// arm makes sure that the gate is looked at by at. A timer that was set for
// earlier is left alone: on the fast path that saves setting one for each call.
func (g *Gate) arm(now, at time.Time) {
	if at.IsZero() || (!g.timerAt.IsZero() && !at.Before(g.timerAt)) {
		return
	}
	g.timerAt = at
	if g.timer == nil {
		g.timer = time.AfterFunc(at.Sub(now), g.tick)
		return
	}
	g.timer.Reset(at.Sub(now))
}

func (g *Gate) tick() {
	g.mu.Lock()
	g.timerAt = time.Time{}
	a := g.settle(time.Now())
	g.mu.Unlock()
	a.do()
}

// stop ends the timer of a gate that nobody will use again.
func (g *Gate) stop() {
	g.mu.Lock()
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mu.Unlock()
}

// ask returns nil when t may send. onWait is called if it has to wait.
func (g *Gate) ask(ctx context.Context, t *Ticket, woken <-chan struct{}, onWait func()) error {
	if err := ctx.Err(); err != nil {
		t.joined = time.Now()
		return err
	}
	g.mu.Lock()
	now := time.Now()
	if g.AskAt(now, t) {
		g.arm(now, sooner(t.copyAt(), t.overdueAt()))
		g.mu.Unlock()
		return nil
	}
	slow := t.more()
	slow.ready = nil // decisions of this pump are read from the state
	a := g.settle(now)
	if t.state == queued {
		if end, ok := ctx.Deadline(); ok && !g.down.IsZero() && g.nextPaced().After(end) {
			g.LeaveAt(t)
			g.mu.Unlock()
			a.do()
			return errNoTime
		}
		slow.ready = make(chan struct{}, 1)
	}
	state := t.state
	g.mu.Unlock()
	a.do()
	switch state {
	case sending:
		return nil
	case gaveUp:
		return errGaveUp
	case queued, idle:
	}

	onWait()
	var err error
	select {
	case <-slow.ready:
	case <-ctx.Done():
		err = ctx.Err()
	case <-woken:
		err = errWoken
	}
	if err != nil {
		g.leave(t)
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.state == gaveUp {
		return errGaveUp
	}
	return nil
}

func (g *Gate) heard(t *Ticket) {
	g.mu.Lock()
	g.HeardAt(time.Now(), t)
	g.mu.Unlock()
}

func (g *Gate) answered(t *Ticket) (now time.Time, reopened bool) {
	g.mu.Lock()
	now = time.Now()
	reopened = g.AnsweredAt(now, t)
	g.report(now, t)
	return now, reopened
}

func (g *Gate) failed(t *Ticket, f *Failure) (now time.Time, giveUp bool) {
	g.mu.Lock()
	now = time.Now()
	if f.Shared && f.RetryAfter > 0 {
		g.HintAt(now, f.RetryAfter)
	}
	giveUp = g.FailedAt(now, t, f.Err, f.Verdict == NotSent, f.Timeout)
	g.report(now, t)
	return now, giveUp
}

func (g *Gate) leave(t *Ticket) time.Time {
	g.mu.Lock()
	now := time.Now()
	g.LeaveAt(t)
	g.report(now, t)
	return now
}

// report settles what the end of a send has changed, and unlocks.
func (g *Gate) report(now time.Time, t *Ticket) {
	var a actions
	if g.waiting.head != nil || len(g.gave) > 0 || t.Of != nil {
		a = g.settle(now)
	}
	g.mu.Unlock()
	a.do()
}

func (g *Gate) randomUnlocked() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.random()
}

func (g *Gate) lastCause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cause
}
