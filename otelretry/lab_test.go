package otelretry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/adamant-go/adamant/otelretry"
	"github.com/adamant-go/adamant/retry"
)

// lab is an observer whose telemetry stays in memory. Its gate's waits have no
// jitter: 250, 375, 562.5 and 843.75 ms.
type lab struct {
	otelretry.Observer

	t        *testing.T
	spans    *tracetest.SpanRecorder
	reader   *sdkmetric.ManualReader
	log      bytes.Buffer
	provider *sdktrace.TracerProvider
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	l.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(l.spans))
	l.Traces = l.provider
	l.Metrics = sdkmetric.NewMeterProvider(sdkmetric.WithReader(l.reader))
	l.Log = slog.New(slog.NewTextHandler(&l.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "call" {
			return slog.Attr{}
		}
		if a.Key == "took" || a.Key == "waited" {
			return slog.String(a.Key, fmt.Sprintf("%.1f", a.Value.Float64()))
		}
		return a
	}}))
	l.Gate = &retry.Gate{Rand: func() float64 { return 0 }}
	return l
}

// trace is the observer's, which must not fail.
func (l *lab) trace() *retry.Trace {
	l.t.Helper()
	trace, err := l.Trace()
	if err != nil || trace == nil {
		l.t.Fatal(trace, err)
	}
	return trace
}

// tree shows all spans, which must have ended, each below its parent, with its
// events. Ids of calls are left out: they are random.
func (l *lab) tree() string {
	l.t.Helper()
	if begun, ended := len(l.spans.Started()), len(l.spans.Ended()); begun != ended {
		l.t.Errorf("%d spans were begun and %d ended", begun, ended)
	}
	var b strings.Builder
	var show func(parent trace.SpanID, indent string)
	show = func(parent trace.SpanID, indent string) {
		for _, s := range l.spans.Started() { // in that order
			if s.Parent().SpanID() != parent {
				continue
			}
			fmt.Fprintf(&b, "%s%v %s%s", indent, s.SpanKind(), s.Name(), words(s.Attributes()))
			if s.Status().Code != codes.Unset {
				fmt.Fprintf(&b, " (%v %s)", s.Status().Code, s.Status().Description)
			}
			b.WriteByte('\n')
			for _, e := range s.Events() {
				fmt.Fprintf(&b, "%s  : %s%s\n", indent, e.Name, words(e.Attributes))
			}
			show(s.SpanContext().SpanID(), indent+"  ")
		}
	}
	show(trace.SpanID{}, "")
	return b.String()
}

func words(attrs []attribute.KeyValue) string {
	var all []string
	for _, a := range attrs {
		if a.Key != "adamant.call.id" {
			all = append(all, fmt.Sprintf(" %s=%s", strings.TrimPrefix(string(a.Key), "adamant."), a.Value.String()))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// metrics shows what a collection of metrics yields, a line for each data point.
func (l *lab) metrics() string {
	l.t.Helper()
	var all metricdata.ResourceMetrics
	if err := l.reader.Collect(context.Background(), &all); err != nil {
		l.t.Fatal(err)
	}
	var lines []string
	line := func(m metricdata.Metrics, of attribute.Set, value string) {
		lines = append(lines, strings.TrimPrefix(m.Name, "adamant.")+words(of.ToSlice())+": "+value)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					line(m, p.Attributes, fmt.Sprint(p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					line(m, p.Attributes, fmt.Sprint(p.Value))
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					line(m, p.Attributes, fmt.Sprintf("%d in %d", p.Sum, p.Count))
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					line(m, p.Attributes, fmt.Sprintf("%.1f in %d", p.Sum, p.Count))
				}
			default:
				l.t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// same compares texts line by line; want is indented as it stands in the test.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	want = strings.ReplaceAll(strings.TrimPrefix(want, "\n"), "\t", "")
	if got != want {
		t.Errorf("%s:\n%s\nnot\n%s", what, got, want)
	}
}

var errDown = errors.New("down")
