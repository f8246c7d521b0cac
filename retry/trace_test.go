package retry_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/retry"
)

type traceKey string

// scribe notes what a trace is told, and marks the contexts that it makes.
type scribe struct {
	name  traceKey
	lines *[]string
	mu    *sync.Mutex
}

func (s scribe) note(ctx context.Context, event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mark, _ := ctx.Value(s.name).(string)
	*s.lines = append(*s.lines, string(s.name)+" "+event+" "+mark)
}

func (s scribe) trace() *retry.Trace {
	return &retry.Trace{
		CallContext: func(ctx context.Context, c retry.CallInfo) context.Context {
			s.note(ctx, "begin "+c.Op)
			return context.WithValue(ctx, s.name, "in call")
		},
		AttemptContext: func(ctx context.Context, _ retry.AttemptInfo) context.Context {
			s.note(ctx, "attempt")
			return context.WithValue(ctx, s.name, "in attempt")
		},
		Attempting: func(ctx context.Context, _ retry.AttemptInfo) { s.note(ctx, "attempting") },
		Attempted:  func(ctx context.Context, _ retry.AttemptInfo, _ retry.Record) { s.note(ctx, "attempted") },
		Waiting:    func(ctx context.Context, _ retry.WaitInfo) { s.note(ctx, "waiting") },
		Ended:      func(ctx context.Context, _ retry.EndInfo) { s.note(ctx, "ended") },
	}
}

// TestTraceMakesContexts: what a trace puts into a call's context is there in all
// that it is told of the call, and what it puts into an attempt's is there in the
// operation and nowhere else.
func TestTraceMakesContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		s := scribe{"a", &lines, new(sync.Mutex)}
		var n atomic.Int32
		_, err := retry.Do(t.Context(), retry.Policy{Op: "op", Trace: s.trace()}, func(ctx context.Context, a retry.Attempt) (int, error) {
			s.note(ctx, "operation")
			if retry.ContextOf(ctx).Value(s.name) != "in attempt" {
				t.Error("a context that net/http detaches does not know it")
			}
			return failing(time.Now().Add(time.Hour), errDown, &n)(ctx, a)
		})
		if err == nil || n.Load() != 5 {
			t.Fatalf("%v after %d attempts", err, n.Load())
		}
		want := []string{"a begin op ", "a attempt in call", "a attempting in call", "a operation in attempt", "a attempted in call", "a waiting in call"}
		if !slices.Equal(lines[:6], want) || lines[len(lines)-1] != "a ended in call" {
			t.Errorf("%q", lines)
		}
	})
}

// TestTraceOfACopy: the context of a copy is its own.
func TestTraceOfACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		numbers := &retry.Trace{AttemptContext: func(ctx context.Context, a retry.AttemptInfo) context.Context {
			return context.WithValue(ctx, traceKey("number"), a.Number)
		}}
		p := retry.Policy{Copies: true, Silence: 10 * time.Second, Trace: numbers}
		v, err := retry.Do(t.Context(), p, func(ctx context.Context, a retry.Attempt) (int, error) {
			if ctx.Value(traceKey("number")) != a.Number {
				t.Errorf("attempt %d has the context of %v", a.Number, ctx.Value(traceKey("number")))
			}
			if !a.Copy {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return a.Number, nil
		})
		if v != 2 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}

// TestTraceOfThoseWhoWait: whoever waits at the gate before its first attempt is told
// so, once, while others are let go.
func TestTraceOfThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first atomic.Int32
		p := retry.Policy{Gate: new(retry.Gate), Trace: &retry.Trace{Waiting: func(_ context.Context, w retry.WaitInfo) {
			if w.Delay == 0 && w.Number == 1 {
				first.Add(1)
			}
		}}}
		up := time.Now().Add(time.Second)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				var n atomic.Int32
				if _, err := retry.Do(t.Context(), p, failing(up, errDown, &n)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if first.Load() != 7 {
			t.Errorf("%d waited before their first attempt", first.Load())
		}
	})
}

func TestJoinTraces(t *testing.T) {
	if retry.JoinTraces() != nil || retry.JoinTraces(nil, nil) != nil {
		t.Error("the trace of nobody is not nil")
	}
	alone := new(retry.Trace)
	if retry.JoinTraces(nil, alone) != alone {
		t.Error("one trace was not left alone")
	}
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		var mu sync.Mutex
		a, b := scribe{"a", &lines, &mu}, scribe{"b", &lines, &mu}
		p := retry.Policy{Op: "op", Trace: retry.JoinTraces(a.trace(), nil, new(retry.Trace), b.trace())}
		var n atomic.Int32
		_, err := retry.Do(t.Context(), p, func(ctx context.Context, at retry.Attempt) (int, error) {
			a.note(ctx, "operation")
			b.note(ctx, "operation")
			return failing(time.Now(), errDown, &n)(ctx, at)
		})
		want := []string{
			"a begin op ", "b begin op ", "a attempt in call", "b attempt in call", "a attempting in call", "b attempting in call",
			"a operation in attempt", "b operation in attempt", "a attempted in call", "b attempted in call", "a ended in call", "b ended in call",
		}
		if err != nil || !slices.Equal(lines, want) {
			t.Errorf("%v: %q", err, lines)
		}
	})
}
