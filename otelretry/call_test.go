package otelretry_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/adamant-go/adamant/otelretry"
	"github.com/adamant-go/adamant/retry"
)

// TestOutcomes makes calls that end in each of the four ways, and by the caller's
// will.
func TestOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		p := retry.Policy{Trace: l.trace(), Attempts: 2, Backoff: retry.Backoff{Jitter: -1}}
		call := func(ctx context.Context, op string, failures int, with error) {
			p.Op = op
			_, _ = retry.Do(ctx, p, func(_ context.Context, a retry.Attempt) (int, error) {
				if a.Number <= failures {
					return 0, with
				}
				return 0, nil
			})
		}
		call(t.Context(), "one", 0, nil)
		call(t.Context(), "two", 1, errDown)
		call(t.Context(), "three", 2, errDown)
		call(t.Context(), "four", 1, &retry.Failure{Verdict: retry.Fatal, Err: errDown})
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		call(ended, "five", 0, nil)

		same(t, "spans", l.tree(), `
			internal one call.attempts=1 call.outcome=ok
			  client one attempt.verdict=done attempt=1
			internal two call.attempts=2 call.outcome=ok_after_resend call.wait=0.25
			  : wait attempt=2 error.type=_OTHER wait.delay=0.25 wait.gate=false
			  client two attempt.verdict=ambiguous attempt=1 error.type=_OTHER (Error )
			  client two attempt.verdict=done attempt=2
			internal three call.attempts=2 call.outcome=failed_after_resend call.reason=all attempts failed call.wait=0.25 error.type=_OTHER (Error all attempts failed)
			  : wait attempt=2 error.type=_OTHER wait.delay=0.25 wait.gate=false
			  client three attempt.verdict=ambiguous attempt=1 error.type=_OTHER (Error )
			  client three attempt.verdict=ambiguous attempt=2 error.type=_OTHER (Error )
			internal four call.attempts=1 call.outcome=failed_at_once call.reason=another attempt cannot help error.type=_OTHER (Error another attempt cannot help)
			  client four attempt.verdict=fatal attempt=1 error.type=_OTHER (Error )
			internal five call.attempts=0 call.outcome=failed_at_once call.reason=cancelled error.type=cancelled
			`)
		same(t, "metrics", l.metrics(), `
			attempts attempt.verdict=ambiguous error.type=_OTHER op=three: 2
			attempts attempt.verdict=ambiguous error.type=_OTHER op=two: 1
			attempts attempt.verdict=done op=one: 1
			attempts attempt.verdict=done op=two: 1
			attempts attempt.verdict=fatal error.type=_OTHER op=four: 1
			call.attempts op=five: 0 in 1
			call.attempts op=four: 1 in 1
			call.attempts op=one: 1 in 1
			call.attempts op=three: 2 in 1
			call.attempts op=two: 2 in 1
			call.duration call.outcome=failed_after_resend error.type=_OTHER op=three: 0.2 in 1
			call.duration call.outcome=failed_at_once error.type=_OTHER op=four: 0.0 in 1
			call.duration call.outcome=failed_at_once error.type=cancelled op=five: 0.0 in 1
			call.duration call.outcome=ok op=one: 0.0 in 1
			call.duration call.outcome=ok_after_resend op=two: 0.2 in 1
			call.wait op=three: 0.2 in 1
			call.wait op=two: 0.2 in 1
			calls call.outcome=failed_after_resend error.type=_OTHER op=three: 1
			calls call.outcome=failed_at_once error.type=_OTHER op=four: 1
			calls call.outcome=failed_at_once error.type=cancelled op=five: 1
			calls call.outcome=ok op=one: 1
			calls call.outcome=ok_after_resend op=two: 1
			gate.state gate.state=outage: 0
			gate.state gate.state=up: 1
			gate.waiters: 0
			`)
		same(t, "records", l.log.String(), `
			level=INFO msg="resend scheduled" op=two attempt=2 of=2 wait=0.25 error.type=_OTHER cause=down
			level=INFO msg="answered after resend" op=two attempts=2 of=2 took=0.2 waited=0.2
			level=INFO msg="resend scheduled" op=three attempt=2 of=2 wait=0.25 error.type=_OTHER cause=down
			level=WARN msg="call failed" op=three attempts=2 of=2 took=0.2 waited=0.2 error.type=_OTHER cause="three: down (all 2 attempts failed, in 0.2 s)"
			`)
	})
}

// TestCopyThatWins: the spans of a silent attempt and of the copy made beside it
// overlap, and the one that lost is no error.
func TestCopyThatWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		p := retry.Policy{Op: "GET /plans", Trace: l.trace(), Copies: true, Silence: 10 * time.Second}
		got, err := retry.Do(t.Context(), p, func(ctx context.Context, a retry.Attempt) (int, error) {
			if a.Copy {
				time.Sleep(100 * time.Millisecond)
				return a.Number, nil
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if got != 2 || err != nil {
			t.Fatal(got, err)
		}
		same(t, "spans", l.tree(), `
			internal GET /plans call.attempts=2 call.outcome=ok_after_resend
			  client GET /plans attempt.verdict=ambiguous attempt=1 error.type=cancelled http.request.method=GET url.template=/plans
			  client GET /plans attempt.copy=true attempt.verdict=done attempt=2 http.request.method=GET http.request.resend_count=1 url.template=/plans
			`)
		first, second := l.spans.Started()[1], l.spans.Started()[2]
		if second.StartTime().Sub(first.StartTime()) != time.Second || first.EndTime().Before(second.StartTime()) {
			t.Errorf("%v to %v, and %v to %v", first.StartTime(), first.EndTime(), second.StartTime(), second.EndTime())
		}
	})
}

// TestCancelledWhileUnderWay: a call that its caller gives up leaves no span open,
// neither in an attempt nor in a wait.
func TestCancelledWhileUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		p := retry.Policy{Op: "op", Gate: l.Gate, Trace: l.trace(), Copies: true, Silence: 10 * time.Second, Backoff: retry.Backoff{Jitter: -1}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1500*time.Millisecond, cancel) // both attempts are under way
		_, _ = retry.Do(ctx, p, func(ctx context.Context, _ retry.Attempt) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel) // in the first wait
		_, _ = retry.Do(ctx, p, func(context.Context, retry.Attempt) (int, error) { return 0, errDown })
		same(t, "spans", l.tree(), `
			internal op call.attempts=2 call.outcome=failed_after_resend call.reason=cancelled error.type=cancelled
			  client op attempt.verdict=ambiguous attempt=1 error.type=cancelled
			  client op attempt.copy=true attempt.verdict=ambiguous attempt=2 error.type=cancelled
			internal op call.attempts=1 call.outcome=failed_at_once call.reason=cancelled call.wait=0.1 error.type=_OTHER
			  : wait attempt=2 error.type=_OTHER wait.delay=0.25 wait.gate=false
			  client op attempt.verdict=ambiguous attempt=1 error.type=_OTHER (Error )
			`)
	})
}

// TestCallThatEndsBeforeItsAttempt drives a trace by hand: no span depends on the
// order in which things end.
func TestCallThatEndsBeforeItsAttempt(t *testing.T) {
	l := newLab(t)
	calls := l.trace()
	ctx := calls.CallContext(t.Context(), retry.CallInfo{Op: "op"})
	calls.AttemptContext(ctx, retry.AttemptInfo{Op: "op", Number: 1})
	calls.AttemptContext(ctx, retry.AttemptInfo{Op: "op", Number: 2, Copy: true})
	calls.Ended(ctx, retry.EndInfo{Op: "op", Attempts: 2})
	calls.Attempted(ctx, retry.AttemptInfo{Op: "op", Number: 2, Copy: true}, retry.Record{Verdict: retry.Succeeded})
	same(t, "spans", l.tree(), `
		internal op call.attempts=2 call.outcome=ok_after_resend
		  client op attempt=1
		  client op attempt.copy=true attempt=2
		`)
}

// TestGate: waits at the gate are told, and the gate's state and waiters are read
// when they are asked for.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		p := retry.Policy{Op: "op", Gate: l.Gate, Trace: l.trace()}
		up := time.Now().Add(time.Second)
		done := make(chan error)
		for range 10 {
			go func() {
				_, err := retry.Do(t.Context(), p, func(context.Context, retry.Attempt) (int, error) {
					if time.Now().Before(up) {
						return 0, errDown
					}
					return 0, nil
				})
				done <- err
			}()
		}
		time.Sleep(100 * time.Millisecond)
		gate := func(when, want string) {
			t.Helper()
			var lines []string
			for line := range strings.Lines(l.metrics()) {
				if strings.HasPrefix(line, "gate.") {
					lines = append(lines, line)
				}
			}
			same(t, when, strings.Join(lines, ""), want)
		}
		gate("in the outage", `
			gate.state gate.state=outage: 1
			gate.state gate.state=up: 0
			gate.waiters: 7
			`)
		for range 10 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		gate("after it", `
			gate.state gate.state=outage: 0
			gate.state gate.state=up: 1
			gate.waiters: 0
			`)
		if got := strings.Count(l.tree(), ": wait attempt=1 error.type=_OTHER wait.gate=true\n"); got != 7 {
			t.Errorf("%d calls told that they wait at the gate", got)
		}
	})
}

// TestSpanIsInTheOperation: what an operation does hangs below its attempt.
func TestSpanIsInTheOperation(t *testing.T) {
	l := newLab(t)
	_, err := retry.Do(t.Context(), retry.Policy{Op: "op", Trace: l.trace()}, func(ctx context.Context, _ retry.Attempt) (int, error) {
		_, inner := l.provider.Tracer("").Start(ctx, "inner")
		inner.End()
		return 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "spans", l.tree(), `
		internal op call.attempts=1 call.outcome=ok
		  client op attempt.verdict=done attempt=1
		    internal inner
		`)
}

// TestTwoObservers of one call keep apart what they know of it.
func TestTwoObservers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newLab(t), newLab(t)
		b.Traces = nil // or its spans would hang below those of a
		n := 0
		p := retry.Policy{Op: "op", Trace: retry.JoinTraces(a.trace(), b.trace()), Backoff: retry.Backoff{Jitter: -1}}
		_, err := retry.Do(t.Context(), p, func(context.Context, retry.Attempt) (int, error) {
			if n++; n < 3 {
				return 0, errDown
			}
			return 0, nil
		})
		if err != nil || a.metrics() != b.metrics() || a.log.String() != b.log.String() || a.log.Len() == 0 {
			t.Errorf("%v: %s and %s", err, a.metrics(), b.metrics())
		}
		if len(a.spans.Ended()) != 4 || len(b.spans.Started()) != 0 {
			t.Error(a.tree())
		}
	})
}

func TestObserverOfNothing(t *testing.T) {
	var o otelretry.Observer
	if trace, err := o.Trace(); trace != nil || err != nil {
		t.Error(trace, err)
	}
	h := http.Header{}
	if otelretry.Header(t.Context(), h); len(h) > 0 {
		t.Error(h)
	}
}

// TestOnlyOneSink: each of the three works without the others.
func TestOnlyOneSink(t *testing.T) {
	for name, keep := range map[string]func(o *otelretry.Observer){
		"traces":  func(o *otelretry.Observer) { o.Metrics, o.Log = nil, nil },
		"metrics": func(o *otelretry.Observer) { o.Traces, o.Log = nil, nil },
		"log":     func(o *otelretry.Observer) { o.Traces, o.Metrics = nil, nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			keep(&l.Observer)
			parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
			h := http.Header{}
			p := retry.Policy{Op: "op", Trace: l.trace(), Attempts: 2}
			_, err := retry.Do(trace.ContextWithRemoteSpanContext(t.Context(), parent), p, func(ctx context.Context, _ retry.Attempt) (int, error) {
				otelretry.Header(ctx, h)
				return 0, errDown
			})
			if !errors.Is(err, errDown) {
				t.Error(err)
			}
			got := map[string]bool{"traces": len(l.spans.Ended()) == 3, "metrics": strings.Contains(l.metrics(), "calls"), "log": l.log.Len() > 0}
			for sink, used := range got {
				if used != (sink == name) {
					t.Errorf("%s only: %s was used: %v", name, sink, used)
				}
			}
			if spanID := strings.Split(h.Get("Traceparent"), "-")[2]; (spanID == parent.SpanID().String()) == (name == "traces") {
				t.Errorf("%s only: traceparent %v", name, h)
			}
		})
	}
}
