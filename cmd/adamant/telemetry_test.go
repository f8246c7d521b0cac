package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/adamant-go/adamant/blueapi/sim"
)

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
	traceparent  = "TRACEPARENT=00-" + callersTrace + "-" + callersSpan + "-01"
)

// observed runs the program against server with some variables set, and none of
// telemetry besides.
func observed(t *testing.T, server *sim.Server, variables []string, args ...string) (stdout, stderr string) {
	t.Helper()
	addr, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "adamant", args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "OTEL_") || strings.HasPrefix(v, "OTLP_") || strings.HasPrefix(v, "TRACE") || strings.HasPrefix(v, "BLUEAPI_")
	})
	cmd.Env = append(cmd.Env, quickExit, "BLUEAPI_HOST=http://me:secret@"+addr)
	cmd.Env = append(cmd.Env, variables...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s%s", err, &out, &errs)
	}
	return out.String(), errs.String()
}

// TestExport runs a plan that needs three resends, and looks at what a collector
// gets and at what the server was told on each request.
func TestExport(t *testing.T) {
	t.Parallel()
	var server sim.Server
	defer server.Close()
	server.Inject(sim.When(sim.Request("GET", "/environment"), sim.First(3, sim.Status(http.StatusServiceUnavailable))))
	c := newCollector(t)
	out, errs := observed(t, &server, []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20secret",
		"OTEL_SERVICE_NAME=beamline", traceparent,
	}, "run", "nap", `{"seconds": 0.1}`, "-i", "cm12345-1")
	if out != "Plan succeeded\n" || !strings.HasSuffix(errs, "answered at attempt 4 of 5\n") || strings.Count(errs, "\n") != 1 {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}
	c.mu.Lock()
	defer c.mu.Unlock()

	if strings.Contains(c.raw.String(), "secret") {
		t.Error("a secret was exported")
	}
	if len(c.services) != 1 || !c.services["beamline"] {
		t.Errorf("services %v", c.services)
	}
	for _, r := range c.requests {
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("%s without the headers that were set", r.URL.Path)
		}
	}
	resent := c.checkTree(t)
	c.checkRequests(t, server.Exchanges())

	environment := []string{"adamant.op", "GET /environment"}
	for outcome, want := range map[string]int64{"ok_after_resend": 1, "ok": 1, "failed_after_resend": 0, "failed_at_once": 0} {
		if got := c.count("adamant.calls", append(environment, "adamant.call.outcome", outcome)...); got != want {
			t.Errorf("%d calls with outcome %s, not %d", got, outcome, want)
		}
	}
	if got := c.count("adamant.attempts", append(environment, "error.type", "503", "adamant.attempt.verdict", "ambiguous")...); got != 3 {
		t.Errorf("%d attempts were answered 503", got)
	}
	if got, all := c.count("adamant.attempts"), len(server.Exchanges()); int(got) != all {
		t.Errorf("%d attempts, and %d requests", got, all)
	}

	var messages []string
	for _, r := range c.records {
		messages = append(messages, fmt.Sprintf("%s %s %s", r.SeverityText(), r.Body().AsString(), attr(r.Attributes(), "error.type")))
		if r.TraceID() != resent.TraceID() || r.SpanID() != resent.SpanID() {
			t.Errorf("record %q is not of the call's span", r.Body().AsString())
		}
	}
	scheduled := "INFO resend scheduled 503"
	if want := []string{scheduled, scheduled, scheduled, "INFO answered after resend "}; !slices.Equal(messages, want) {
		t.Errorf("records %q", messages)
	}
}

// checkTree looks at the spans from the caller's down, and returns that of the call
// that was resent.
func (c *collector) checkTree(t *testing.T) (resent ptrace.Span) {
	t.Helper()
	var caller pcommon.SpanID
	if _, err := hex.Decode(caller[:], []byte(callersSpan)); err != nil {
		t.Fatal(err)
	}
	roots := c.below(caller)
	if len(roots) != 1 || roots[0].Name() != "adamant run" || roots[0].Kind() != ptrace.SpanKindInternal ||
		roots[0].TraceID().String() != callersTrace || attr(roots[0].Attributes(), "process.exit.code") != "0" {
		t.Fatalf("%d spans below the caller's", len(roots))
	}
	spans := 1
	first := true
	for _, call := range c.below(roots[0].SpanID()) {
		spans++
		if call.Kind() != ptrace.SpanKindInternal || call.TraceID() != roots[0].TraceID() || call.Status().Code() == ptrace.StatusCodeError {
			t.Errorf("call %s: %v %v", call.Name(), call.Kind(), call.Status().Code())
		}
		attempts, want := c.below(call.SpanID()), 1
		spans += len(attempts)
		if first && call.Name() == "GET /environment" {
			resent, want, first = call, 4, false
		}
		if len(attempts) != want || attr(call.Attributes(), "adamant.call.attempts") != fmt.Sprint(want) {
			t.Errorf("%s has %d attempts, not %d", call.Name(), len(attempts), want)
		}
		for k, attempt := range attempts {
			resends := ""
			if k > 0 {
				resends = fmt.Sprint(k)
			}
			if attempt.Kind() != ptrace.SpanKindClient || attr(attempt.Attributes(), "http.request.resend_count") != resends ||
				attr(attempt.Attributes(), "server.address") != "127.0.0.1" || attr(attempt.Attributes(), "http.response.status_code") == "" ||
				!strings.HasPrefix(attr(attempt.Attributes(), "url.full"), "http://127.0.0.1:") {
				t.Errorf("attempt %d of %s: %v %v", k+1, call.Name(), attempt.Kind(), attempt.Attributes().AsRaw())
			}
		}
	}
	if first || resent.Events().Len() != 3 {
		t.Fatal("no call with three waits")
	}
	if spans != len(c.spans) {
		t.Errorf("%d spans of %d are in the tree", spans, len(c.spans))
	}
	return resent
}

// checkRequests looks whether each request named the span of its own attempt.
func (c *collector) checkRequests(t *testing.T, all []sim.Exchange) {
	t.Helper()
	attempts := map[string]string{} // name by what they are called on the wire
	for _, s := range c.spans {
		if s.Kind() == ptrace.SpanKindClient {
			attempts["00-"+s.TraceID().String()+"-"+s.SpanID().String()+"-01"] = s.Name()
		}
	}
	for _, x := range all {
		name, ok := attempts[x.Header.Get("Traceparent")]
		if !ok || !strings.HasPrefix(name, x.Method+" ") {
			t.Errorf("%s %s bears %q, of attempt %q", x.Method, x.URL.Path, x.Header.Get("Traceparent"), name)
		}
		delete(attempts, x.Header.Get("Traceparent"))
	}
	if len(attempts) > 0 {
		t.Errorf("attempts without a request: %v", attempts)
	}
}

// TestTraceparentWithoutExport: the server's spans hang below the caller's even if
// this program exports none.
func TestTraceparentWithoutExport(t *testing.T) {
	t.Parallel()
	var server sim.Server
	defer server.Close()
	observed(t, &server, []string{traceparent}, "controller", "state")
	for _, x := range server.Exchanges() {
		if got := "TRACEPARENT=" + x.Header.Get("Traceparent"); got != traceparent {
			t.Errorf("%s", got)
		}
	}
	if len(server.Exchanges()) == 0 {
		t.Error("no requests")
	}
}

// TestCollectorAway: a collector that is not there, or takes what it is given and
// says nothing, costs no errors and little time.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for name, l := range map[string]net.Listener{"silent": silent, "gone": gone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var server sim.Server
			defer server.Close()
			to := "OTEL_EXPORTER_OTLP_ENDPOINT=http://me:secret@" + l.Addr().String()
			begin := time.Now()
			out, errs := observed(t, &server, []string{to}, "controller", "state")
			if took := time.Since(begin); out != "IDLE\n" || errs != "" || took > 8*time.Second { // the exporter's own limit is 10 s
				t.Errorf("stdout %q, stderr %q, after %v", out, errs, took)
			}
			_, errs = observed(t, &server, []string{to}, "-v", "controller", "state")
			if !strings.Contains(errs, "\nadamant: telemetry: ") || strings.Contains(errs, "secret") {
				t.Errorf("with -v: %s", errs)
			}
		})
	}
}

// TestWantedSignals: nothing is exported unless a variable asks for it.
func TestWantedSignals(t *testing.T) {
	const endpoint, grpc = "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
	all := signals{true, true, true}
	for _, c := range []struct {
		variables string
		want      signals
		warnings  int
	}{
		{"", signals{}, 0},
		{"OTEL_SERVICE_NAME=x OTEL_EXPORTER_OTLP_HEADERS=a=b " + grpc + " " + traceparent, signals{}, 0},
		{endpoint, all, 0},
		{endpoint + " OTEL_SDK_DISABLED=TRUE", signals{}, 0},
		{endpoint + " OTEL_SDK_DISABLED=1", all, 0}, // only "true" is, by the specification
		{endpoint + " OTEL_METRICS_EXPORTER=none", signals{traces: true, logs: true}, 0},
		{endpoint + " OTEL_METRICS_EXPORTER=prometheus OTEL_LOGS_EXPORTER=otlp", signals{traces: true, logs: true}, 1},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://lab/v1/metrics", signals{metrics: true}, 0},
		{"OTEL_TRACES_EXPORTER=otlp", signals{traces: true}, 0},
		{"OTLP_EXPORT_ENABLED=true", signals{traces: true}, 0},
		{"OTLP_EXPORT_ENABLED=True", signals{}, 0}, // as blueapi
		{"OTLP_EXPORT_ENABLED=true OTEL_TRACES_EXPORTER=none", signals{}, 0},
		{"OTLP_EXPORT_ENABLED=true OTEL_SDK_DISABLED=true", signals{}, 0},
		{"OTLP_EXPORT_ENABLED=true " + grpc, signals{}, 1},
		{endpoint + " " + grpc + " OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf", signals{traces: true}, 2},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318", signals{}, 3},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=", signals{}, 0},
	} {
		t.Run(c.variables, func(t *testing.T) {
			for v := range strings.FieldsSeq(c.variables) {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			var warnings []string
			got := wantedSignals(func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) })
			if got != c.want || len(warnings) != c.warnings {
				t.Errorf("%+v, and warned %q", got, warnings)
			}
		})
	}
}

// TestNothingIsExported where nothing asks for it, or something forbids it.
func TestNothingIsExported(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	for _, variables := range [][]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_SDK_DISABLED=true", "OTLP_EXPORT_ENABLED=true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none"},
	} {
		var server sim.Server
		defer server.Close()
		if out, errs := observed(t, &server, variables, "controller", "state"); out != "IDLE\n" || errs != "" {
			t.Errorf("stdout %q, stderr %q", out, errs)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) > 0 {
		t.Errorf("%d requests", len(c.requests))
	}
}
