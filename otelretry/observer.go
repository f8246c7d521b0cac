package otelretry

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/adamant-go/adamant/retry"
)

// scope names this package as the source of spans, metrics and records.
const scope = "github.com/adamant-go/adamant/otelretry"

// Observer says where the telemetry of the calls to one destination goes. Its zero
// value sends none. Its fields must not be changed once Trace was called.
type Observer struct {
	// Traces takes the spans; nil means none.
	Traces trace.TracerProvider
	// Metrics takes the metrics; nil means none.
	Metrics metric.MeterProvider
	// Log takes the records; nil means none. A handler that knows of spans,
	// such as OpenTelemetry's bridge otelslog, finds the call's in the context.
	Log *slog.Logger
	// Gate is the one that the calls go through, if its state is to be shown.
	Gate *retry.Gate
	// Attributes are added to all spans and metrics, such as those of Server.
	Attributes []attribute.KeyValue
	// Op words the operation in the names of spans and in metrics; nil takes it
	// as it is. There must be few of them: the operations of
	// retryhttp.Transport bear the request's path, which this may shorten.
	Op func(op string) string
	// Status returns the HTTP status of the answer that the error of an attempt
	// stands for, or 0. nil knows those of package retryhttp only, which are
	// known anyway.
	Status func(err error) int
}

// Trace returns the trace to be given to the client, or to the policy, of the
// destination; nil if there is nowhere to send anything. It may be used by any
// number of calls at once. The error is that of a provider.
func (o *Observer) Trace() (*retry.Trace, error) {
	if o.Traces == nil && o.Metrics == nil && o.Log == nil {
		return nil, nil
	}
	t := &telemetry{Observer: *o}
	if t.Traces == nil {
		t.Traces = tracenoop.NewTracerProvider()
	}
	if t.Metrics == nil {
		t.Metrics = metricnoop.NewMeterProvider()
	}
	if t.Log == nil {
		t.Log = slog.New(slog.DiscardHandler)
	}
	t.tracer = t.Traces.Tracer(scope)
	meter := t.Metrics.Meter(scope)
	if err := t.meters.make(meter); err != nil {
		return nil, err
	}
	if err := t.observeGate(meter); err != nil {
		return nil, err
	}
	return &retry.Trace{
		CallContext:    t.begin,
		AttemptContext: t.attempt,
		Attempted:      t.attempted,
		Waiting:        t.waiting,
		Ended:          t.ended,
	}, nil
}

// Header adds traceparent and tracestate (W3C Trace Context) to the header of an
// attempt whose context is ctx, as blueapi's Client.Header has it. It adds nothing
// if ctx bears no span.
func Header(ctx context.Context, h http.Header) {
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(h))
}

// telemetry is what an Observer's trace works with.
type telemetry struct {
	Observer

	tracer trace.Tracer
	meters meters
}

func (t *telemetry) name(op string) string {
	if t.Op != nil {
		return t.Op(op)
	}
	return op
}

// attributes returns those that were given and more.
func (t *telemetry) attributes(more ...attribute.KeyValue) []attribute.KeyValue {
	return append(more, t.Attributes...)
}

func seconds(d time.Duration) float64 { return d.Seconds() }
