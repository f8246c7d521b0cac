package main

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/retry"
)

// gatewayMetrics are the metrics of a gateway, for Prometheus. Their labels are servers,
// which the configuration names, operations, of which there are about twenty, and words
// of ours.
type gatewayMetrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	waits    *prometheus.HistogramVec
}

func newGatewayMetrics() *gatewayMetrics {
	m := &gatewayMetrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "adamant_gateway_requests_total",
			Help: "Requests of callers that were answered, by class of status (0: none was begun), the gateway's own verdict and what it did.",
		}, []string{"upstream", "operation", "status", "verdict", "deed"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "adamant_gateway_request_duration_seconds",
			Help: "How long callers waited for the whole of their answers.",
			// From an answer at once to the end of the longest default wait.
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2, 3, 5, 10, 30, 60},
		}, []string{"upstream", "operation"}),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "adamant_gateway_wait_seconds",
			Help: "How long requests to the server had to wait until they were sent, of those that had to.",
			// The backoff's delays are 0.25 s to 0.84 s and 1.3 s.
			Buckets: []float64{.001, .01, .1, .25, .5, 1, 2, 4, 10, 30, 60, 300},
		}, []string{"upstream"}),
	}
	m.registry.MustRegister(m.requests, m.took, m.waits,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe has the metrics of a gateway kept too.
func (m *gatewayMetrics) observe(server string, g *gateway.Gateway) {
	m.registry.MustRegister(newGatewayState(server, g))
}

// record counts a request of a caller.
func (m *gatewayMetrics) record(server string, r gateway.Record) {
	m.requests.WithLabelValues(server, r.Op, statusClass(r.Status), r.Verdict, string(r.Deed)).Inc()
	m.took.WithLabelValues(server, r.Op).Observe(r.Took.Seconds())
}

func statusClass(status int) string {
	if status == 0 {
		return "0"
	}
	return strconv.Itoa(status/100) + "xx"
}

// trace observes how long requests wait.
func (m *gatewayMetrics) trace(server string) *retry.Trace {
	waits := m.waits.WithLabelValues(server)
	return &retry.Trace{Attempted: func(_ context.Context, _ retry.AttemptInfo, r retry.Record) {
		if r.Waited >= time.Millisecond {
			waits.Observe(r.Waited.Seconds())
		}
	}}
}

func (m *gatewayMetrics) handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)})
}

// gatewayState is a gateway's status as metrics.
type gatewayState struct {
	gateway *gateway.Gateway
	values  []stateValue
}

type stateValue struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(gateway.Status) float64
}

func newGatewayState(server string, g *gateway.Gateway) *gatewayState {
	s := &gatewayState{gateway: g}
	add := func(kind prometheus.ValueType, name, help string, of func(gateway.Status) float64) {
		desc := prometheus.NewDesc("adamant_gateway_"+name, help, nil, prometheus.Labels{"upstream": server})
		s.values = append(s.values, stateValue{desc, kind, of})
	}
	gauge := func(name, help string, of func(gateway.Status) float64) { add(prometheus.GaugeValue, name, help, of) }
	number := func(name, help string, of func(gateway.Status) int) {
		gauge(name, help, func(s gateway.Status) float64 { return float64(of(s)) })
	}
	add(prometheus.CounterValue, "attempts_total", "Requests to the server that were begun.",
		func(s gateway.Status) float64 { return float64(s.Attempts) })
	add(prometheus.CounterValue, "resends_total", "Requests to the server that repeated another.",
		func(s gateway.Status) float64 { return float64(s.Resends) })
	gauge("upstream_up", "Whether no outage of the server is known.",
		func(s gateway.Status) float64 { return truth(s.Down.IsZero()) })
	gauge("upstream_down_since_timestamp_seconds", "When the outage that is known of began; 0 if none is.", func(s gateway.Status) float64 {
		if s.Down.IsZero() {
			return 0
		}
		return float64(s.Down.UnixMilli()) / 1000
	})
	gauge("reloading", "Whether callers wait for the server's environment to be reloaded.",
		func(s gateway.Status) float64 { return truth(s.Reloading) })
	gauge("draining", "Whether new callers are turned away.",
		func(s gateway.Status) float64 { return truth(s.Draining) })
	number("callers", "Requests of callers that are under way.", func(s gateway.Status) int { return s.Callers })
	number("sessions", "WebSockets that are open by which callers have plans run.", func(s gateway.Status) int { return s.Sessions })
	number("stomp_callers", "Callers that are connected to hear of events.", func(s gateway.Status) int { return s.Stomp.Callers })
	gauge("stomp_upstream_up", "Whether the server's message broker is connected to.", func(s gateway.Status) float64 { return truth(s.Stomp.Broker == "connected") })
	number("waiting", "Requests to the server that wait until they may be sent.", func(s gateway.Status) int { return s.Waiting })
	number("unproven", "Requests that were sent since the server last answered.", func(s gateway.Status) int { return s.Unproven })
	number("starts", "Tasks that are being started.", func(s gateway.Status) int { return len(s.Starting) })
	number("running", "Plans that go on, for all that callers' requests have shown.", func(s gateway.Status) int { return len(s.Running) })
	number("unsettled", "Tasks of which it is not known whether they were started.", func(s gateway.Status) int { return len(s.Unsettled) })
	number("aliases", "Tasks that were replaced under the id of another.", func(s gateway.Status) int { return s.Aliases })
	return s
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (s *gatewayState) Describe(to chan<- *prometheus.Desc) {
	for _, v := range s.values {
		to <- v.desc
	}
}

// Collect implements prometheus.Collector.
func (s *gatewayState) Collect(to chan<- prometheus.Metric) {
	status := s.gateway.Status()
	for _, v := range s.values {
		to <- prometheus.MustNewConstMetric(v.desc, v.kind, v.of(status))
	}
}
