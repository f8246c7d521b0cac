package otelretry

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/adamant-go/adamant/retry"
)

// Attributes of our own. Those of HTTP, and error.type, are OpenTelemetry's
// (semantic conventions, HTTP client spans).
const (
	keyOp       = attribute.Key("adamant.op")
	keyCallID   = attribute.Key("adamant.call.id")
	keyAttempts = attribute.Key("adamant.call.attempts")
	keyOutcome  = attribute.Key("adamant.call.outcome")
	keyReason   = attribute.Key("adamant.call.reason")  // why a call that failed stopped
	keyWaited   = attribute.Key("adamant.call.wait")    // s; on those that waited
	keyNumber   = attribute.Key("adamant.attempt")      // from 1
	keyCopy     = attribute.Key("adamant.attempt.copy") // on copies only
	keyVerdict  = attribute.Key("adamant.attempt.verdict")
	keyGateWait = attribute.Key("adamant.wait.gate")  // at the gate, until the destination answers
	keyDelay    = attribute.Key("adamant.wait.delay") // s; on those that are no wait at the gate
)

// call is what is kept of a call while it lasts, in its context.
type call struct {
	op   string
	span trace.Span

	mu       sync.Mutex
	attempts map[int]trace.Span // under way, by number
	waiting  time.Time          // the beginning of the wait that goes on
	waited   time.Duration
}

// callKey finds the call of one telemetry: a context may bear those of several.
type callKey struct{ *telemetry }

func (t *telemetry) of(ctx context.Context) *call {
	return ctx.Value(callKey{t}).(*call)
}

func (t *telemetry) begin(ctx context.Context, i retry.CallInfo) context.Context {
	c := &call{op: t.name(i.Op), attempts: make(map[int]trace.Span)}
	ctx, c.span = t.tracer.Start(ctx, c.op, trace.WithAttributes(t.attributes(keyCallID.String(i.CallID))...))
	return context.WithValue(ctx, callKey{t}, c)
}

func (t *telemetry) waiting(ctx context.Context, w retry.WaitInfo) {
	c := t.of(ctx)
	c.mu.Lock()
	if c.waiting.IsZero() {
		c.waiting = time.Now()
	}
	c.mu.Unlock()
	attrs := []attribute.KeyValue{keyGateWait.Bool(w.Delay == 0), keyNumber.Int(w.Number)}
	if w.Delay > 0 {
		attrs = append(attrs, keyDelay.Float64(seconds(w.Delay)))
	}
	if w.Err != nil {
		attrs = append(attrs, keyErrorType.String(t.errorType(w.Err)))
	}
	c.span.AddEvent("wait", trace.WithAttributes(attrs...))
	if w.Delay > 0 { // each resend has one backoff, and may have to wait at the gate besides
		t.Log.LogAttrs(ctx, slog.LevelInfo, "resend scheduled", t.record(w.Op, w.CallID, w.Of, w.Err,
			slog.Int("attempt", w.Number), slog.Float64("wait", seconds(w.Delay)))...)
	}
}

// ended ends the span of a call, and those of attempts that have not ended: a call
// ends after its attempts, but no span is to depend on it.
func (t *telemetry) ended(ctx context.Context, e retry.EndInfo) {
	c := t.of(ctx)
	c.endWait()
	c.mu.Lock()
	for _, span := range c.attempts {
		span.End()
	}
	clear(c.attempts)
	waited := c.waited
	c.mu.Unlock()

	outcome := outcomeOf(e)
	ended := []attribute.KeyValue{keyOutcome.String(outcome)}
	if e.Err != nil {
		ended = append(ended, keyErrorType.String(t.errorType(e.Err)))
	}
	t.countCall(ctx, c.op, ended, e, waited)
	c.span.SetAttributes(append(ended, keyAttempts.Int(e.Attempts))...)
	if waited > 0 {
		c.span.SetAttributes(keyWaited.Float64(seconds(waited)))
	}
	if failed, ok := errors.AsType[*retry.Error](e.Err); ok {
		c.span.SetAttributes(keyReason.String(failed.Reason.String()))
		if failed.Reason != retry.Cancelled { // by the caller, who knows
			c.span.SetStatus(codes.Error, failed.Reason.String())
		}
	}
	c.span.End()
	if e.Attempts < 2 {
		return
	}
	attrs := t.record(e.Op, e.CallID, e.Of, e.Err,
		slog.Int("attempts", e.Attempts), slog.Float64("took", seconds(e.Took)), slog.Float64("waited", seconds(waited)))
	if e.Err != nil {
		t.Log.LogAttrs(ctx, slog.LevelWarn, "call failed", attrs...)
		return
	}
	t.Log.LogAttrs(ctx, slog.LevelInfo, "answered after resend", attrs...)
}

// endWait adds the wait that goes on, if any, to the time waited.
func (c *call) endWait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting.IsZero() {
		c.waited += time.Since(c.waiting)
		c.waiting = time.Time{}
	}
}

// record makes the attributes of a record. The operation is as the call has it,
// whatever it is called in metrics.
func (t *telemetry) record(op, callID string, of int, cause error, attrs ...slog.Attr) []slog.Attr {
	if of > 0 {
		attrs = slices.Insert(attrs, 1, slog.Int("of", of)) // attempt k of n
	}
	attrs = append([]slog.Attr{slog.String("op", op), slog.String("call", callID)}, attrs...)
	if cause != nil {
		attrs = append(attrs, slog.String(string(keyErrorType), t.errorType(cause)), slog.String("cause", cause.Error()))
	}
	return attrs
}

// outcomeOf is one of four kinds. With two attempts or more, one was a resend.
func outcomeOf(e retry.EndInfo) string {
	switch {
	case e.Err == nil && e.Attempts > 1:
		return "ok_after_resend"
	case e.Err == nil:
		return "ok"
	case e.Attempts > 1:
		return "failed_after_resend"
	}
	return "failed_at_once"
}
