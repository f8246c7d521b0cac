package retry_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/retry"
)

var errDown = errors.New("down")

func notSent(err error) error { return &retry.Failure{Verdict: retry.NotSent, Err: err} }

// failing returns an operation that fails until an outage is over, and counts.
func failing(until time.Time, with error, n *atomic.Int32) func(context.Context, retry.Attempt) (int, error) {
	return func(context.Context, retry.Attempt) (int, error) {
		n.Add(1)
		if time.Now().Before(until) {
			return 0, with
		}
		return 42, nil
	}
}

func TestZeroPolicyOutlastsTwoSeconds(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			v, err := retry.Do(t.Context(), retry.Policy{}, failing(time.Now().Add(2*time.Second), errDown, &n))
			if v != 42 || err != nil || n.Load() != 5 {
				t.Fatalf("got %d, %v after %d attempts", v, err, n.Load())
			}
		})
	}
}

// TestPromise3 bounds attempts and time of a lone call, and asks for an error
// that says what was tried.
func TestPromise3(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			start := time.Now()
			_, err := retry.Do(t.Context(), retry.Policy{Op: "GET /plans"}, failing(start.Add(time.Hour), errDown, &n))
			e, ok := errors.AsType[*retry.Error](err)
			took := time.Since(start)
			if !ok || n.Load() != 5 || took < 2*time.Second || took > 3100*time.Millisecond {
				t.Fatalf("%v after %d attempts in %v", err, n.Load(), took)
			}
			if e.Reason != retry.Exhausted && e.Reason != retry.Outlasted {
				t.Errorf("reason %v", e.Reason)
			}
			if len(e.Records) != 5 || !errors.Is(err, errDown) || !e.Sent || e.CallID == "" {
				t.Errorf("incomplete record: %+v", e)
			}
		})
	}
}

// TestCrowdGivesUpTogether: calls that waited for others give up with them.
func TestCrowdGivesUpTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := new(retry.Gate)
		var n atomic.Int32
		var wg sync.WaitGroup
		start := time.Now()
		for range 100 {
			wg.Go(func() {
				_, err := retry.Do(t.Context(), retry.Policy{Gate: gate}, failing(start.Add(time.Hour), notSent(errDown), &n))
				e, _ := errors.AsType[*retry.Error](err)
				if e == nil || !errors.Is(err, errDown) || e.Sent {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took > 4*time.Second || n.Load() > 3+8 {
			t.Errorf("%d sends in %v", n.Load(), took)
		}
	})
}

func TestOnceIsRepeatedOnlyIfNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		p := retry.Policy{Safety: retry.Once}
		if _, err := retry.Do(t.Context(), p, failing(time.Now().Add(time.Second), notSent(errDown), &n)); err != nil {
			t.Errorf("not sent: %v", err)
		}
		n.Store(0)
		_, err := retry.Do(t.Context(), p, failing(time.Now().Add(time.Second), errDown, &n))
		e, _ := errors.AsType[*retry.Error](err)
		if e == nil || e.Reason != retry.Unclear || n.Load() != 1 {
			t.Errorf("sent: %v after %d attempts", err, n.Load())
		}
	})
}

func TestNoWaitPastTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		var n atomic.Int32
		start := time.Now()
		_, err := retry.Do(ctx, retry.Policy{Backoff: retry.Backoff{First: 200 * time.Millisecond, Jitter: -1}},
			failing(start.Add(time.Hour), errDown, &n))
		if !errors.Is(err, errDown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); n.Load() != 2 || took != 200*time.Millisecond {
			t.Errorf("%d attempts in %v", n.Load(), took)
		}
	})
}

// TestSince: a call whose caller has waited before gives up that much earlier.
func TestSince(t *testing.T) {
	for waited, most := range map[time.Duration]time.Duration{0: 13 * time.Second, 8 * time.Second: 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Hour)
			var n atomic.Int32
			start := time.Now()
			_, err := retry.Do(t.Context(), retry.Policy{Wait: 10 * time.Second, Since: start.Add(-waited)}, failing(start.Add(time.Hour), errDown, &n))
			e, ok := errors.AsType[*retry.Error](err)
			if took := time.Since(start); !ok || e.Reason != retry.Outlasted || took < 10*time.Second-waited || took > most {
				t.Errorf("after %v: %v in %v", waited, err, took)
			}
		})
	}
}

func TestCancelEndsAWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := new(retry.Gate)
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int32
		var wg sync.WaitGroup
		for range 50 { // some in backoff, some at the gate
			wg.Go(func() {
				_, err := retry.Do(ctx, retry.Policy{Gate: gate}, failing(time.Now().Add(time.Hour), errDown, &n))
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		cancel()
		wg.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

// TestSilentReadIsCopied: a read that is silent on a dead connection is made
// again beside it, and the first answer wins.
func TestSilentReadIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: new(retry.Gate), Copies: true, Silence: 10 * time.Second}
		start := time.Now()
		var fresh bool
		v, err := retry.Do(t.Context(), p, func(ctx context.Context, a retry.Attempt) (int, error) {
			if a.Number == 1 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			fresh = a.Fresh && a.Copy
			return a.Number, nil
		})
		if v != 2 || err != nil || !fresh || time.Since(start) != time.Second {
			t.Errorf("got %d, %v after %v (fresh %v)", v, err, time.Since(start), fresh)
		}
	})
}

// TestSilentCopyIsMadeAgain: the first copy may have been sent into the same dead
// path. There is no third.
func TestSilentCopyIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: new(retry.Gate), Copies: true, Silence: 10 * time.Second}
		start := time.Now()
		v, err := retry.Do(t.Context(), p, func(ctx context.Context, a retry.Attempt) (int, error) {
			if a.Number < 3 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return a.Number, nil
		})
		if v != 3 || err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("got %d, %v after %v", v, err, time.Since(start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: new(retry.Gate), Copies: true, Silence: 9 * time.Second, Attempts: 4}
		var sends []time.Duration
		var mu sync.Mutex
		start := time.Now()
		_, err := retry.Do(t.Context(), p, func(ctx context.Context, _ retry.Attempt) (int, error) {
			mu.Lock()
			sends = append(sends, time.Since(start))
			mu.Unlock()
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if err == nil || len(sends) != 4 || sends[2] != 3*time.Second || sends[3] < 9*time.Second {
			t.Errorf("%v, sends at %v", err, sends)
		}
	})
}

func TestCopyThatIsRefusedByTheApplicationCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: new(retry.Gate), Copies: true, Silence: 10 * time.Second}
		gone := &retry.Failure{Verdict: retry.Fatal, Evidence: retry.Proof, Err: errors.New("no such thing")}
		_, err := retry.Do(t.Context(), p, func(ctx context.Context, a retry.Attempt) (int, error) {
			if !a.Copy {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return 0, gone
		})
		e, _ := errors.AsType[*retry.Error](err)
		if e == nil || e.Reason != retry.Hopeless || !errors.Is(err, gone.Err) {
			t.Errorf("got %v", err)
		}
	})
}

// TestOneCopyPerGate: of a hundred silent reads one is copied; its answer lets
// the others go again, for their connections are dead too.
func TestOneCopyPerGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := new(retry.Gate)
		var wg sync.WaitGroup
		var copies atomic.Int32
		start := time.Now()
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				_, err := retry.Do(t.Context(), retry.Policy{Op: "read", Gate: gate, Copies: true, Silence: 10 * time.Second},
					func(ctx context.Context, a retry.Attempt) (int, error) {
						if time.Since(start) < 500*time.Millisecond {
							<-ctx.Done()
							return 0, ctx.Err()
						}
						if a.Copy {
							copies.Add(1)
						}
						time.Sleep(5 * time.Millisecond)
						return 0, nil
					})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %v with %d copies", took, copies.Load())
		}
	})
}

func TestNestedCallLeavesWhatWasSentToTheOuter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inner atomic.Int32
		gate, innerGate := new(retry.Gate), new(retry.Gate)
		_, err := retry.Do(t.Context(), retry.Policy{Gate: gate}, func(ctx context.Context, _ retry.Attempt) (int, error) {
			return retry.Do(ctx, retry.Policy{Gate: innerGate}, failing(time.Now().Add(time.Hour), errDown, &inner))
		})
		if err == nil || inner.Load() != 5 {
			t.Errorf("two layers sent %d times: %v", inner.Load(), err)
		}

		inner.Store(0)
		gate = new(retry.Gate)
		_, err = retry.Do(t.Context(), retry.Policy{Gate: gate}, func(ctx context.Context, _ retry.Attempt) (int, error) {
			return retry.Do(ctx, retry.Policy{Gate: gate}, failing(time.Now().Add(time.Hour), errDown, &inner))
		})
		if err == nil || inner.Load() != 5 {
			t.Errorf("two layers over one gate sent %d times: %v", inner.Load(), err)
		}

		inner.Store(0)
		v, err := retry.Do(t.Context(), retry.Policy{}, func(ctx context.Context, _ retry.Attempt) (int, error) {
			return retry.Do(retry.Detach(ctx), retry.Policy{}, failing(time.Now().Add(time.Second), errDown, &inner))
		})
		if v != 42 || err != nil {
			t.Errorf("a detached call did not retry: %v", err)
		}
	})
}

func TestImpossiblePolicyIsReported(t *testing.T) {
	p := retry.Policy{Attempts: 3, Outlast: time.Second}
	called := false
	_, err := retry.Do(t.Context(), p, func(context.Context, retry.Attempt) (int, error) { called = true; return 0, nil })
	if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Reason != retry.Misfit || called {
		t.Errorf("got %v", err)
	}
}

func TestHintIsHeededAndCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, hint := range []time.Duration{3 * time.Second, time.Hour} {
			start := time.Now()
			n := 0
			_, err := retry.Do(t.Context(), retry.Policy{}, func(context.Context, retry.Attempt) (int, error) {
				if n++; n == 1 {
					return 0, &retry.Failure{Verdict: retry.Ambiguous, Err: errDown, RetryAfter: hint, Shared: true}
				}
				return 0, nil
			})
			floor := min(hint, 5*time.Second)
			if took := time.Since(start); err != nil || took < floor || took > 2*floor {
				t.Errorf("hint of %v: %v after %v", hint, err, took)
			}
		}
		_, err := retry.Do(t.Context(), retry.Policy{MaxRetryAfter: time.Minute}, func(context.Context, retry.Attempt) (int, error) {
			return 0, &retry.Failure{Verdict: retry.Rejected, Err: errDown, RetryAfter: time.Hour}
		})
		if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Reason != retry.Told {
			t.Errorf("got %v", err)
		}
	})
}

// TestPatientCallsKeepTheirPace: a long wait is at most one send in two seconds,
// but for the first.
func TestPatientCallsKeepTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sends []time.Duration
		start := time.Now()
		_, err := retry.Do(t.Context(), retry.Policy{Wait: 10 * time.Minute}, func(context.Context, retry.Attempt) (int, error) {
			sends = append(sends, time.Since(start))
			return 0, errDown
		})
		if took := time.Since(start); err == nil || took < 10*time.Minute || took > 10*time.Minute+3*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		for i := retry.DefaultUnproven; i < len(sends); i++ {
			if gap := sends[i] - sends[i-1]; gap < 2*time.Second {
				t.Fatalf("%v between sends %d and %d", gap, i, i+1)
			}
		}
		if e, _ := errors.AsType[*retry.Error](err); e == nil || len(e.Records) > 40 || e.Attempts != len(sends) {
			t.Errorf("record of %d attempts: %v", len(sends), err)
		}
	})
}

func TestUrgentGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &retry.Gate{}
		up := make(chan struct{})
		var order []string
		var mu sync.Mutex
		var wg sync.WaitGroup
		call := func(name string, p retry.Policy) {
			p.Gate = gate
			wg.Go(func() {
				_, _ = retry.Do(t.Context(), p, func(context.Context, retry.Attempt) (int, error) {
					mu.Lock()
					order = append(order, name)
					mu.Unlock()
					<-up
					return 0, nil
				})
			})
			synctest.Wait()
		}
		for range retry.DefaultUnproven {
			call("first", retry.Policy{})
		}
		call("read", retry.Policy{})
		call("abort", retry.Policy{Urgent: true, Safety: retry.Once})
		time.Sleep(400 * time.Millisecond) // one paced send
		close(up)
		wg.Wait()
		if i, j := slices.Index(order, "abort"), slices.Index(order, "read"); i > j {
			t.Errorf("order %v", order)
		}
	})
}

// TestNothingIsLeftBehind is promise 9 for the engine.
func TestNothingIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fails itself if a goroutine is left in the bubble
		p := retry.Policy{Gate: new(retry.Gate), Copies: true, Silence: 3 * time.Second}
		_, err := retry.Do(t.Context(), p, func(ctx context.Context, _ retry.Attempt) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if _, ok := errors.AsType[*retry.SilenceError](err); !ok {
			t.Errorf("got %v", err)
		}
	})
}

func TestTraceSeesEveryAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began, ended, waits int
		var end retry.EndInfo
		p := retry.Policy{Op: "op", Trace: &retry.Trace{
			Attempting: func(_ context.Context, a retry.AttemptInfo) { began = a.Number },
			Attempted:  func(_ context.Context, _ retry.AttemptInfo, r retry.Record) { ended = r.Number },
			Waiting:    func(context.Context, retry.WaitInfo) { waits++ },
			Ended:      func(_ context.Context, e retry.EndInfo) { end = e },
		}}
		var n atomic.Int32
		if _, err := retry.Do(t.Context(), p, failing(time.Now().Add(time.Second), errDown, &n)); err != nil {
			t.Fatal(err)
		}
		if began != ended || began != int(n.Load()) || waits < began-1 || end.Attempts != began || end.CallID == "" || end.Err != nil {
			t.Errorf("%d begun, %d ended, %d waits, end %+v", began, ended, waits, end)
		}
	})
}
