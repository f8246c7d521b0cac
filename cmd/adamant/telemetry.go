package main

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/otelretry"
	"github.com/adamant-go/adamant/retry"
)

// flushLimit bounds what a collector that is away, or slow, adds to the time that
// a command takes. What it has not taken by then is lost.
const flushLimit = 900 * time.Millisecond

// telemetry exports a command and its calls. nil exports nothing.
type telemetry struct {
	traces  *sdktrace.TracerProvider // nil if traces are not exported
	metrics *sdkmetric.MeterProvider // the same
	logs    *sdklog.LoggerProvider   // the same
	span    trace.Span               // the command's; nil without traces
}

// startTelemetry starts what the environment asks for, and gives cmd a context with
// the span that its calls hang below: its own, or that of the program's caller,
// named by TRACEPARENT.
func (a *app) startTelemetry(cmd *cobra.Command) {
	ctx := propagation.TraceContext{}.Extract(cmd.Context(), propagation.MapCarrier{
		"traceparent": os.Getenv("TRACEPARENT"), "tracestate": os.Getenv("TRACESTATE"),
	})
	cmd.SetContext(ctx)
	s := wantedSignals(a.ui.note)
	if !s.any() {
		return
	}
	// What OpenTelemetry itself says goes to stderr by default. In the beginning it
	// is about variables that cannot be read, whose values may be secret.
	otel.SetLogger(logr.Discard())
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	t, err := newTelemetry(ctx, s)
	if err != nil {
		a.telemetryFailed(err)
		return
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if a.level == verbose {
			a.telemetryFailed(err)
		}
	}))
	if t.traces != nil {
		ctx, t.span = t.traces.Tracer(source).Start(ctx, spanName(cmd))
		cmd.SetContext(ctx)
	}
	a.telemetry = t
}

// telemetryFailed tells what is no reason for a command to fail.
func (a *app) telemetryFailed(err error) { a.ui.note("telemetry: %v", err) }

// source names this program as the source of spans.
const source = "github.com/adamant-go/adamant/cmd/adamant"

func newTelemetry(ctx context.Context, s signals) (*telemetry, error) {
	about, err := resource.New(ctx, resource.WithAttributes(aboutProgram()...), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, err
	}
	t := new(telemetry)
	if s.traces {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, err
		}
		t.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	}
	if s.metrics {
		exporter, err := otlpmetrichttp.New(ctx)
		if err != nil {
			return nil, err
		}
		t.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)), sdkmetric.WithResource(about))
	}
	if s.logs {
		exporter, err := otlploghttp.New(ctx)
		if err != nil {
			return nil, err
		}
		t.logs = sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)), sdklog.WithResource(about))
	}
	return t, nil
}

// aboutProgram is what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES may override.
// The beamline is named as blueapi names it (observability_utils).
func aboutProgram() []attribute.KeyValue {
	_, version, _ := strings.Cut(strings.TrimSpace(versionLine()), "version ")
	attrs := []attribute.KeyValue{semconv.ServiceName("adamant"), semconv.ServiceVersion(version)}
	beamline := os.Getenv("INSTRUMENT")
	if beamline == "" {
		beamline = os.Getenv("BEAMLINE")
	}
	if beamline != "" {
		attrs = append(attrs, attribute.String("service.instrument", beamline), attribute.String("service.beamline", beamline))
	}
	return attrs
}

// spanName is the command's path without its arguments, and under the program's own
// name, whatever it was invoked as.
func spanName(cmd *cobra.Command) string {
	_, commands, _ := strings.Cut(cmd.CommandPath(), " ")
	return strings.TrimSpace("adamant " + commands)
}

// observe has the calls of c exported, or at least hang below the caller's span.
func (a *app) observe(c *blueapi.Client) {
	c.Header = otelretry.Header
	if a.telemetry == nil {
		return
	}
	gate := new(retry.Gate)
	if calls := a.callTrace(gate, c.URL); calls != nil {
		c.Gate = gate
		c.Trace = retry.JoinTraces(c.Trace, calls)
	}
}

// callTrace exports the calls to a server, and what its gate does unless that is nil. It
// is nil if nothing is exported.
func (a *app) callTrace(gate *retry.Gate, server string) *retry.Trace {
	t := a.telemetry
	if t == nil {
		return nil
	}
	o := otelretry.Observer{Gate: gate, Status: refusalStatus}
	if t.traces != nil {
		o.Traces = t.traces
	}
	if t.metrics != nil {
		o.Metrics = t.metrics
	}
	if t.logs != nil {
		o.Log = otelslog.NewLogger(source, otelslog.WithLoggerProvider(t.logs))
	}
	if u, err := url.Parse(server); err == nil { // else the client says so
		o.Attributes = otelretry.Server(u)
	}
	calls, err := o.Trace()
	if err != nil {
		a.telemetryFailed(err)
		return nil
	}
	return calls
}

func refusalStatus(err error) int {
	if refusal, ok := errors.AsType[*blueapi.Error](err); ok {
		return refusal.Status
	}
	return 0
}

// end ends the command's span, and waits a little until all is exported.
func (t *telemetry) end(s status) {
	if t == nil {
		return
	}
	if t.span != nil {
		t.span.SetAttributes(semconv.ProcessExitCode(int(s)))
		if s != statusDone {
			t.span.SetStatus(codes.Error, "")
		}
		t.span.End()
	}
	// Not the command's context, which an interrupt has ended.
	ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
	defer cancel()
	var all sync.WaitGroup
	for _, shutdown := range t.shutdowns() {
		all.Go(func() {
			if err := shutdown(ctx); err != nil {
				otel.Handle(err)
			}
		})
	}
	all.Wait()
}

func (t *telemetry) shutdowns() []func(context.Context) error {
	var all []func(context.Context) error
	if t.traces != nil {
		all = append(all, t.traces.Shutdown)
	}
	if t.metrics != nil {
		all = append(all, t.metrics.Shutdown)
	}
	if t.logs != nil {
		all = append(all, t.logs.Shutdown)
	}
	return all
}
