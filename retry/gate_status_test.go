package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func (r *rules) status(at float64, down float64, waiting, unproven int) {
	r.Helper()
	want := GateStatus{Waiting: waiting, Unproven: unproven}
	if down > 0 {
		want.Down = ms(down)
	}
	got := r.StatusAt(ms(at))
	got.Cause = nil
	if got != want {
		r.Errorf("at %v ms: %+v, not %+v", at, got, want)
	}
}

func TestStatusTellsOfAnOutage(t *testing.T) {
	r := newRules(t, 0)
	a, b, c, d := plain(), plain(), plain(), plain()
	r.status(0, 0, 0, 0)
	r.goes(1, a, b, c)
	r.status(2, 0, 0, 3)
	r.waits(3, d)
	r.status(3, 0, 1, 3)
	r.fails(4, a)
	r.status(5, 4, 1, 3)
	r.fails(6, b)
	r.status(7, 4, 1, 3)
	r.waits(8, a)
	r.status(8, 4, 2, 3)
	r.LeaveAt(d)
	r.status(9, 4, 1, 3)
	r.pumped(251, 0, a)
	r.status(252, 4, 0, 4)
	r.AnsweredAt(ms(253), a)
	r.status(254, 0, 0, 0)
}

func TestStatusWithATimeOutBeganAtTheSend(t *testing.T) {
	r := newRules(t, 0)
	a := plain()
	r.goes(1, a)
	r.FailedAt(ms(5000), a, errors.New("silent"), false, true)
	r.status(5001, 1, 0, 1)
}

// TestStatusKnowsNoFuture: a destination that asks for time is away now.
func TestStatusKnowsNoFuture(t *testing.T) {
	r := newRules(t, 0)
	r.HintAt(ms(10), time.Second)
	r.status(20, 20, 0, 3)
	r.status(1500, 1010, 0, 3)
}

// TestStatusCountsThoseWhoGaveUpAndCopies: whoever has left the queue, in
// whatever way, does not wait.
func TestStatusCountsThoseWhoGaveUpAndCopies(t *testing.T) {
	r := newRules(t, 1)
	silent, urgent, other := read("a"), plain(), plain()
	urgent.Policy.Urgent = true
	r.goes(1, silent)
	r.waits(2, other)
	r.waits(3, urgent)
	r.status(4, 0, 2, 1)
	for at := 300.; r.StatusAt(ms(at)).Waiting > 0; at += 300 {
		r.PumpAt(ms(at))
		if at > 3000 {
			t.Fatal("still waiting")
		}
	}
	r.PumpAt(ms(3001)) // the copy of the silent one
	if s := r.StatusAt(ms(3001)); s.Waiting != 0 || s.Unproven < 4 {
		t.Errorf("%+v", s)
	}
	late := plain()
	r.waits(3002, late)
	r.fails(6000, urgent)
	r.status(6001, 6000, 1, r.StatusAt(ms(6001)).Unproven)
}

func TestStatusBesideCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := new(Gate)
		down := errors.New("down")
		begin := time.Now()
		done := make(chan struct{})
		for range 10 {
			go func() {
				_, _ = Do(t.Context(), Policy{Gate: gate}, func(context.Context, Attempt) (int, error) { return 0, down })
				done <- struct{}{}
			}()
		}
		time.Sleep(100 * time.Millisecond)
		if s := gate.Status(); !s.Down.Equal(begin) || s.Waiting != 7 || s.Unproven != 3 || s.Cause != down {
			t.Errorf("%+v", s)
		}
		for range 10 {
			<-done
		}
		if s := gate.Status(); s.Waiting != 0 || s.Down.IsZero() {
			t.Errorf("%+v when all have given up", s)
		}
	})
}
