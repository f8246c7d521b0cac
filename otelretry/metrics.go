package otelretry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/adamant-go/adamant/retry"
)

// meters are the instruments.
type meters struct {
	calls, attempts        metric.Int64Counter
	perCall                metric.Int64Histogram
	duration, wait         metric.Float64Histogram
	gateState, gateWaiters metric.Int64ObservableGauge
}

func (m *meters) make(meter metric.Meter) error {
	errs := make([]error, 7)
	m.calls, errs[0] = meter.Int64Counter("adamant.calls", metric.WithUnit("{call}"),
		metric.WithDescription("Calls that have ended, by outcome."))
	m.attempts, errs[1] = meter.Int64Counter("adamant.attempts", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts that have ended, by verdict and cause."))
	m.perCall, errs[2] = meter.Int64Histogram("adamant.call.attempts", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts that a call made."),
		metric.WithExplicitBucketBoundaries(0, 1, 2, 3, 4, 5, 10, 30))
	m.duration, errs[3] = meter.Float64Histogram("adamant.call.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from the beginning of a call to its end, attempts and waits included."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
	m.wait, errs[4] = meter.Float64Histogram("adamant.call.wait", metric.WithUnit("s"),
		metric.WithDescription("Time that a call waited for its next attempt, of the calls that waited."),
		metric.WithExplicitBucketBoundaries(.1, .25, .5, 1, 2, 3, 5, 10, 30, 60, 300))
	m.gateState, errs[5] = meter.Int64ObservableGauge("adamant.gate.state", metric.WithUnit("1"),
		metric.WithDescription("1 for the state that the gate of a destination is in, 0 for the others."))
	m.gateWaiters, errs[6] = meter.Int64ObservableGauge("adamant.gate.waiters", metric.WithUnit("{call}"),
		metric.WithDescription("Calls that wait at the gate of a destination."))
	return errors.Join(errs...)
}

func (t *telemetry) countCall(ctx context.Context, op string, how []attribute.KeyValue, e retry.EndInfo, waited time.Duration) {
	byOp := metric.WithAttributes(t.attributes(keyOp.String(op))...)
	byEnd := metric.WithAttributes(how...)
	t.meters.calls.Add(ctx, 1, byOp, byEnd)
	t.meters.duration.Record(ctx, seconds(e.Took), byOp, byEnd)
	t.meters.perCall.Record(ctx, int64(e.Attempts), byOp)
	if waited > 0 {
		t.meters.wait.Record(ctx, seconds(waited), byOp)
	}
}

func (t *telemetry) countAttempt(ctx context.Context, op string, how []attribute.KeyValue) {
	t.meters.attempts.Add(ctx, 1, metric.WithAttributes(t.attributes(keyOp.String(op))...), metric.WithAttributes(how...))
}

// observeGate has the gate's status read whenever metrics are collected.
func (t *telemetry) observeGate(meter metric.Meter) error {
	if t.Gate == nil {
		return nil
	}
	const state = attribute.Key("adamant.gate.state")
	in := func(s string) metric.MeasurementOption {
		return metric.WithAttributes(t.attributes(state.String(s))...)
	}
	up, outage, all := in("up"), in("outage"), metric.WithAttributes(t.Attributes...)
	_, err := meter.RegisterCallback(func(_ context.Context, m metric.Observer) error {
		s := t.Gate.Status()
		var down int64
		if !s.Down.IsZero() {
			down = 1
		}
		m.ObserveInt64(t.meters.gateState, 1-down, up)
		m.ObserveInt64(t.meters.gateState, down, outage)
		m.ObserveInt64(t.meters.gateWaiters, int64(s.Waiting), all)
		return nil
	}, t.meters.gateState, t.meters.gateWaiters)
	return err
}
