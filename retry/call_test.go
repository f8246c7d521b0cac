package retry_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/retry"
)

func noJitter() float64 { return 0 }

// hang makes a call whose attempts last until their contexts end.
func hang(ctx context.Context, p retry.Policy) error {
	_, err := retry.Do(ctx, p, func(ctx context.Context, _ retry.Attempt) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	return err
}

// hangers fill a gate, and return what lets go of them.
func hangers(t *testing.T, p retry.Policy) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range retry.DefaultUnproven {
		wg.Go(func() { _ = hang(ctx, p) })
	}
	synctest.Wait()
	return func() { cancel(); wg.Wait() }
}

func good(context.Context, retry.Attempt) (int, error) { return 1, nil }

// TestNoWaitAtTheGatePastTheDeadline: in an outage, a wait that cannot end before
// the deadline is not begun, and the error says what others met.
func TestNoWaitAtTheGatePastTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := new(retry.Gate)
		for range retry.DefaultUnproven {
			_, _ = retry.Do(t.Context(), retry.Policy{Gate: gate, Safety: retry.Once},
				func(context.Context, retry.Attempt) (int, error) { return 0, errDown })
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := retry.Do(ctx, retry.Policy{Gate: gate}, good)
		e, _ := errors.AsType[*retry.Error](err)
		if e == nil || e.Reason != retry.Deadline || !errors.Is(err, errDown) || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestCancelledCallLeavesItsPlace in the queue to the one behind it.
func TestCancelledCallLeavesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: &retry.Gate{Rand: noJitter}}
		defer hangers(t, p)()
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = hang(ctx, p) })
		synctest.Wait()
		wg.Go(func() {
			if _, err := retry.Do(t.Context(), p, good); err != nil || time.Since(start) != 250*time.Millisecond {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

// TestTimerIsSetForTheSoonest: a wait at the gate ends on time though the gate was
// to be looked at later for another reason.
func TestTimerIsSetForTheSoonest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: &retry.Gate{Rand: noJitter}, Silence: 10 * time.Second}
		defer hangers(t, p)()
		start := time.Now()
		if _, err := retry.Do(t.Context(), p, good); err != nil || time.Since(start) != 250*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestCopyOfACancelledCall makes room for another one's at once.
func TestCopyOfACancelledCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: &retry.Gate{Unproven: 10}, Copies: true, Silence: 10 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
		defer cancel()
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { _ = hang(ctx, p) })
		synctest.Wait()
		_, err := retry.Do(t.Context(), p, func(ctx context.Context, a retry.Attempt) (int, error) {
			if a.Copy {
				return 1, nil
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if took := time.Since(start); err != nil || took != 1200*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
		wg.Wait()
	})
}

// TestHintIsSharedIfItConcernsEveryone.
func TestHintIsSharedIfItConcernsEveryone(t *testing.T) {
	for _, shared := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			gate := &retry.Gate{Rand: noJitter}
			p := retry.Policy{Gate: gate, Safety: retry.Once}
			_, err := retry.Do(t.Context(), p, func(context.Context, retry.Attempt) (int, error) {
				return 0, &retry.Failure{Verdict: retry.Ambiguous, Err: errDown, RetryAfter: 3 * time.Second, Shared: shared}
			})
			if err == nil {
				t.Error("no error")
			}
			start := time.Now()
			want := time.Duration(0)
			if shared {
				want = 3 * time.Second
			}
			if _, err := retry.Do(t.Context(), p, good); err != nil || time.Since(start) != want {
				t.Errorf("shared %v: %v after %v", shared, err, time.Since(start))
			}
		})
	}
}

// TestHintRaisesTheCallsOwnDelay: with jitter on top.
func TestHintRaisesTheCallsOwnDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &retry.Gate{Rand: func() float64 { return 0.5 }}
		start, n := time.Now(), 0
		_, err := retry.Do(t.Context(), retry.Policy{Gate: gate}, func(context.Context, retry.Attempt) (int, error) {
			if n++; n == 1 {
				return 0, &retry.Failure{Verdict: retry.Rejected, Err: errDown, RetryAfter: 2 * time.Second}
			}
			return 0, nil
		})
		if took := time.Since(start); err != nil || took != 2500*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestToldToStop: x-should-retry: false ends the call.
func TestToldToStop(t *testing.T) {
	n := 0
	_, err := retry.Do(t.Context(), retry.Policy{}, func(context.Context, retry.Attempt) (int, error) {
		n++
		return 0, &retry.Failure{Verdict: retry.Rejected, Err: errDown, Stop: true}
	})
	if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Reason != retry.Told || n != 1 {
		t.Errorf("%v after %d attempts", err, n)
	}
}

// TestReopened is called by the answer that ends an outage, and by no other; a
// caller's own cancellation is no outage.
func TestReopened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reopened := 0
		p := retry.Policy{Gate: new(retry.Gate), Reopened: func() { reopened++ }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = hang(ctx, p)
		for range 2 {
			_, _ = retry.Do(t.Context(), p, good)
		}
		if reopened != 0 {
			t.Errorf("called %d times without an outage", reopened)
		}
		n := 0
		_, _ = retry.Do(t.Context(), p, func(context.Context, retry.Attempt) (int, error) {
			if n++; n < 3 {
				return 0, errDown
			}
			return 0, nil
		})
		_, _ = retry.Do(t.Context(), p, good)
		if reopened != 1 {
			t.Errorf("called %d times after an outage", reopened)
		}
	})
}

// TestFresh: resends, copies and paced sends ask for a connection of their own.
func TestFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := new(retry.Gate)
		var fresh []bool
		op := func(_ context.Context, a retry.Attempt) (int, error) {
			if fresh = append(fresh, a.Fresh); len(fresh) == 1 {
				return 0, errDown
			}
			return 0, nil
		}
		_, _ = retry.Do(t.Context(), retry.Policy{Gate: gate}, op)
		defer hangers(t, retry.Policy{Gate: gate})()
		_, _ = retry.Do(t.Context(), retry.Policy{Gate: gate}, op)
		if len(fresh) != 3 || fresh[0] || !fresh[1] || !fresh[2] {
			t.Errorf("first, resend, paced: %v", fresh)
		}
	})
}

// TestContextOfAnAttemptEndsWithIt.
func TestContextOfAnAttemptEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var before context.Context
		_, err := retry.Do(t.Context(), retry.Policy{}, func(ctx context.Context, a retry.Attempt) (int, error) {
			if a.Number == 1 {
				before = ctx
				return 0, errDown
			}
			if before.Err() == nil {
				t.Error("the attempt before lives on")
			}
			return 0, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestAnswerOfACopyEndsABackoff of its call.
func TestAnswerOfACopyEndsABackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: new(retry.Gate), Copies: true, Backoff: retry.Backoff{First: time.Minute, Max: time.Minute}}
		start := time.Now()
		v, err := retry.Do(t.Context(), p, func(_ context.Context, a retry.Attempt) (int, error) {
			if a.Copy {
				time.Sleep(300 * time.Millisecond)
				return 2, nil
			}
			time.Sleep(1100 * time.Millisecond)
			return 0, errDown
		})
		if took := time.Since(start); v != 2 || err != nil || took != 1300*time.Millisecond {
			t.Errorf("%d, %v after %v", v, err, took)
		}
	})
}

// TestCopiesAreAttempts: a call never sends more often than it may, and none of
// its attempts outlives it.
func TestCopiesAreAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: new(retry.Gate), Copies: true, Silence: 30 * time.Second}
		var mu sync.Mutex
		n, most, open := 0, 0, 0
		_, err := retry.Do(t.Context(), p, func(ctx context.Context, a retry.Attempt) (int, error) {
			mu.Lock()
			n++
			open++
			most = max(most, a.Number)
			mu.Unlock()
			defer func() { mu.Lock(); open--; mu.Unlock() }()
			if a.Copy {
				select {
				case <-time.After(1500 * time.Millisecond):
				case <-ctx.Done():
				}
				return 0, notSent(errDown)
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if err == nil || n != 5 || most != 5 || open != 0 {
			t.Errorf("%d attempts up to number %d, %d under way: %v", n, most, open, err)
		}
	})
}

// TestSilenceDatesTheOutage: what ended in silence tells that the destination was
// away when it was sent.
func TestSilenceDatesTheOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := hang(t.Context(), retry.Policy{Gate: &retry.Gate{Unproven: 1}, Silence: 3 * time.Second})
		if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Reason != retry.Outlasted || e.Attempts != 2 {
			t.Error(err)
		}
	})
}

// TestSentIsTrue only if a byte may have been written.
func TestSentIsTrue(t *testing.T) {
	for _, unsent := range []bool{true, false} {
		_, err := retry.Do(t.Context(), retry.Policy{}, func(context.Context, retry.Attempt) (int, error) {
			return 0, &retry.Failure{Verdict: retry.Fatal, Err: errDown, Unsent: unsent}
		})
		if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Sent == unsent || e.Reason != retry.Hopeless {
			t.Errorf("unsent %v: %+v", unsent, e)
		}
	}
}

// TestOneAttemptWaitsLikeFive.
func TestOneAttemptWaitsLikeFive(t *testing.T) {
	one, five := retry.Policy{Attempts: 1}, retry.Policy{}
	if one.Window() != five.Window() {
		t.Errorf("%v and %v", one.Window(), five.Window())
	}
}

// TestAnswerEndsTheCopies: an answered call does not wait for the silence of its
// copies.
func TestAnswerEndsTheCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: new(retry.Gate), Copies: true, Silence: 10 * time.Second}
		start := time.Now()
		v, err := retry.Do(t.Context(), p, func(ctx context.Context, a retry.Attempt) (int, error) {
			if a.Copy {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			time.Sleep(1500 * time.Millisecond)
			return 1, nil
		})
		if took := time.Since(start); v != 1 || err != nil || took != 1500*time.Millisecond {
			t.Errorf("%d, %v after %v", v, err, took)
		}
	})
}
