package otelretry_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/otelretry"
)

// TestThreeResends looks at a call of blueapi's client that needs three resends to
// be answered, by a refusal: at its spans, at what each request on the wire says of
// them, at the metrics, and at the records.
func TestThreeResends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		u, err := url.Parse("http://me:secret@blueapi.sim?token=secret")
		if err != nil {
			t.Fatal(err)
		}
		l.Attributes = otelretry.Server(u)
		var server sim.Server
		defer server.Close()
		server.Inject(sim.First(3, sim.Status(http.StatusServiceUnavailable)))
		l.Status = func(err error) int {
			if e, ok := errors.AsType[*blueapi.Error](err); ok {
				return e.Status
			}
			return 0
		}
		client := blueapi.Client{
			URL: "http://me:secret@blueapi.sim", Transport: &http.Transport{DialContext: server.DialContext},
			Gate: l.Gate, Trace: l.trace(), Header: otelretry.Header,
		}
		defer client.Close()
		ctx, caller := l.provider.Tracer("").Start(t.Context(), "caller")
		if _, err := client.Plan(ctx, "count-of-s"); !isNotFound(err) {
			t.Fatal(err)
		}
		caller.End()

		tree := l.tree()
		same(t, "spans", tree, `
			internal caller
			  internal GET /plans/{name} call.attempts=4 call.outcome=failed_after_resend call.reason=another attempt cannot help call.wait=1.1875 error.type=404 server.address=blueapi.sim server.port=80 (Error another attempt cannot help)
			    : wait attempt=2 error.type=503 wait.delay=0.25 wait.gate=false
			    : wait attempt=3 error.type=503 wait.delay=0.375 wait.gate=false
			    : wait attempt=4 error.type=503 wait.delay=0.5625 wait.gate=false
			    client GET /plans/{name} attempt.verdict=ambiguous attempt=1 error.type=503 http.request.method=GET http.response.status_code=503 server.address=blueapi.sim server.port=80 url.full=http://blueapi.sim/api/v1/plans/count-of-s url.template=/plans/{name} (Error )
			    client GET /plans/{name} attempt.verdict=ambiguous attempt=2 error.type=503 http.request.method=GET http.request.resend_count=1 http.response.status_code=503 server.address=blueapi.sim server.port=80 url.full=http://blueapi.sim/api/v1/plans/count-of-s url.template=/plans/{name} (Error )
			    client GET /plans/{name} attempt.verdict=ambiguous attempt=3 error.type=503 http.request.method=GET http.request.resend_count=2 http.response.status_code=503 server.address=blueapi.sim server.port=80 url.full=http://blueapi.sim/api/v1/plans/count-of-s url.template=/plans/{name} (Error )
			    client GET /plans/{name} attempt.verdict=fatal attempt=4 error.type=404 http.request.method=GET http.request.resend_count=3 http.response.status_code=404 server.address=blueapi.sim server.port=80 url.full=http://blueapi.sim/api/v1/plans/count-of-s url.template=/plans/{name} (Error )
			`)
		same(t, "metrics", l.metrics(), `
			attempts attempt.verdict=ambiguous error.type=503 op=GET /plans/{name} server.address=blueapi.sim server.port=80: 3
			attempts attempt.verdict=fatal error.type=404 op=GET /plans/{name} server.address=blueapi.sim server.port=80: 1
			call.attempts op=GET /plans/{name} server.address=blueapi.sim server.port=80: 4 in 1
			call.duration call.outcome=failed_after_resend error.type=404 op=GET /plans/{name} server.address=blueapi.sim server.port=80: 1.2 in 1
			call.wait op=GET /plans/{name} server.address=blueapi.sim server.port=80: 1.2 in 1
			calls call.outcome=failed_after_resend error.type=404 op=GET /plans/{name} server.address=blueapi.sim server.port=80: 1
			gate.state gate.state=outage server.address=blueapi.sim server.port=80: 0
			gate.state gate.state=up server.address=blueapi.sim server.port=80: 1
			gate.waiters server.address=blueapi.sim server.port=80: 0
			`)
		same(t, "records", l.log.String(), `
			level=INFO msg="resend scheduled" op="GET /plans/{name}" attempt=2 of=5 wait=0.25 error.type=503 cause="answered 503 Service Unavailable"
			level=INFO msg="resend scheduled" op="GET /plans/{name}" attempt=3 of=5 wait=0.375 error.type=503 cause="answered 503 Service Unavailable"
			level=INFO msg="resend scheduled" op="GET /plans/{name}" attempt=4 of=5 wait=0.5625 error.type=503 cause="answered 503 Service Unavailable"
			level=WARN msg="call failed" op="GET /plans/{name}" attempts=4 of=5 took=1.2 waited=1.2 error.type=404 cause="GET /plans/{name}: GET /plans/{name}: 404 Not Found: Item not found (another attempt cannot help; 4 attempts in 1.2 s)"
			`)
		if all := tree + l.metrics() + l.log.String(); strings.Contains(all, "secret") {
			t.Error("a secret was told")
		}
		for i, x := range server.Exchanges() {
			onWire := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(t.Context(), propagation.HeaderCarrier(x.Header)))
			attempt := l.spans.Started()[2+i].SpanContext()
			if onWire.SpanID() != attempt.SpanID() || onWire.TraceID() != caller.SpanContext().TraceID() || !onWire.IsSampled() {
				t.Errorf("request %d bears %s, the attempt has %s", i+1, x.Header.Get("Traceparent"), attempt.SpanID())
			}
		}
	})
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*blueapi.Error](err)
	return ok && e.Status == http.StatusNotFound
}
