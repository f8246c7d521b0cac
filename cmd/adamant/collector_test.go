package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// collector receives what is exported by OTLP over HTTP.
type collector struct {
	*httptest.Server

	mu       sync.Mutex
	requests []*http.Request
	raw      strings.Builder // all bodies
	services map[string]bool // service.name of all resources
	spans    []ptrace.Span
	metrics  []pmetric.Metric
	records  []plog.LogRecord
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{services: map[string]bool{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = c.take(r, body)
		}
		if err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(r *http.Request, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r)
	c.raw.Write(body)
	switch r.URL.Path {
	case "/v1/traces":
		in := ptraceotlp.NewExportRequest()
		if err := in.UnmarshalProto(body); err != nil {
			return err
		}
		for _, from := range in.Traces().ResourceSpans().All() {
			c.from(from.Resource())
			for _, scope := range from.ScopeSpans().All() {
				for _, span := range scope.Spans().All() {
					c.spans = append(c.spans, span)
				}
			}
		}
	case "/v1/metrics":
		in := pmetricotlp.NewExportRequest()
		if err := in.UnmarshalProto(body); err != nil {
			return err
		}
		for _, from := range in.Metrics().ResourceMetrics().All() {
			c.from(from.Resource())
			for _, scope := range from.ScopeMetrics().All() {
				for _, metric := range scope.Metrics().All() {
					c.metrics = append(c.metrics, metric)
				}
			}
		}
	case "/v1/logs":
		in := plogotlp.NewExportRequest()
		if err := in.UnmarshalProto(body); err != nil {
			return err
		}
		for _, from := range in.Logs().ResourceLogs().All() {
			c.from(from.Resource())
			for _, scope := range from.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					c.records = append(c.records, record)
				}
			}
		}
	default:
		return fmt.Errorf("unknown path %s", r.URL.Path)
	}
	return nil
}

func (c *collector) from(r pcommon.Resource) { c.services[attr(r.Attributes(), "service.name")] = true }

// below returns the spans whose parent is id, in the order in which they began.
func (c *collector) below(id pcommon.SpanID) []ptrace.Span {
	var all []ptrace.Span
	for _, s := range c.spans {
		if s.ParentSpanID() == id {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b ptrace.Span) int { return cmp.Compare(a.StartTimestamp(), b.StartTimestamp()) })
	return all
}

// count is the value of a data point of a counter, by those of its attributes that
// are given.
func (c *collector) count(name string, of ...string) int64 {
	var n int64
	for _, m := range c.metrics {
		if m.Name() != name {
			continue
		}
		for _, p := range m.Sum().DataPoints().All() {
			if matches(p.Attributes(), of) {
				n += p.IntValue()
			}
		}
	}
	return n
}

// matches reports whether m has all of some keys and values.
func matches(m pcommon.Map, of []string) bool {
	for pair := range slices.Chunk(of, 2) {
		if attr(m, pair[0]) != pair[1] {
			return false
		}
	}
	return true
}

// attr is the value of an attribute as text; "" if there is none.
func attr(m pcommon.Map, key string) string {
	v, ok := m.Get(key)
	if !ok {
		return ""
	}
	return v.AsString()
}
