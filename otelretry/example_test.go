package otelretry_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/adamant-go/adamant/otelretry"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// Any HTTP service is observed through the policy of a retryhttp.Transport.
func ExampleObserver() {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("the server is told of a span:", r.Header.Get("Traceparent") != "")
		if requests++; requests < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()

	spans := tracetest.NewInMemoryExporter() // of an example: yours sends them somewhere
	o := otelretry.Observer{Traces: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))}
	trace, err := o.Trace()
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: &retryhttp.Transport{
		Policy: retry.Policy{Trace: trace, Backoff: retry.Backoff{First: time.Millisecond}}, // also of an example
	}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, server.URL+"/temperature", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = resp.Body.Close()

	for _, span := range spans.GetSpans() {
		fmt.Println(span.SpanKind, span.Name, len(span.Events), "waits")
	}
	// Output:
	// the server is told of a span: true
	// the server is told of a span: true
	// the server is told of a span: true
	// client GET /temperature 0 waits
	// client GET /temperature 0 waits
	// client GET /temperature 0 waits
	// internal GET /temperature 2 waits
}
