package otelretry

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

const keyErrorType = semconv.ErrorTypeKey

// attempt begins the span of an attempt.
func (t *telemetry) attempt(ctx context.Context, a retry.AttemptInfo) context.Context {
	c := t.of(ctx)
	if !a.Copy {
		c.endWait()
	}
	attrs := t.attributes(keyCallID.String(a.CallID), keyNumber.Int(a.Number))
	if a.Copy {
		attrs = append(attrs, keyCopy.Bool(true))
	}
	if method, path, ok := httpOp(c.op); ok {
		attrs = append(attrs, semconv.HTTPRequestMethodKey.String(method))
		if path != "" {
			attrs = append(attrs, semconv.URLTemplate(path))
		}
		if a.Number > 1 {
			attrs = append(attrs, semconv.HTTPRequestResendCount(a.Number-1))
		}
	}
	ctx, span := t.tracer.Start(ctx, c.op, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
	c.mu.Lock()
	c.attempts[a.Number] = span
	c.mu.Unlock()
	return retryhttp.WithTrace(ctx, &retryhttp.Trace{
		Sending: func(r *http.Request) {
			span.SetAttributes(requestAttributes(r)...)
			Header(ctx, r.Header)
		},
		Answered: func(resp *http.Response) { span.SetAttributes(semconv.HTTPResponseStatusCode(resp.StatusCode)) },
	})
}

// requestAttributes leaves out of the URL what may be secret.
func requestAttributes(r *http.Request) []attribute.KeyValue {
	u := *r.URL
	u.User, u.RawQuery, u.ForceQuery, u.Fragment = nil, "", false, ""
	return append(Server(&u), semconv.HTTPRequestMethodKey.String(cmp.Or(r.Method, http.MethodGet)), semconv.URLFull(u.String()))
}

// attempted ends the span of an attempt, and counts it.
func (t *telemetry) attempted(ctx context.Context, a retry.AttemptInfo, r retry.Record) {
	c := t.of(ctx)
	verdict := keyVerdict.String(r.Verdict.String())
	attrs := []attribute.KeyValue{verdict}
	if r.Err != nil {
		attrs = append(attrs, keyErrorType.String(t.errorType(r.Err)))
	}
	t.countAttempt(ctx, c.op, attrs)

	c.mu.Lock()
	span, open := c.attempts[a.Number]
	delete(c.attempts, a.Number)
	c.mu.Unlock()
	if !open {
		return
	}
	if status := t.statusOf(r.Err); status != 0 {
		attrs = append(attrs, semconv.HTTPResponseStatusCode(status))
	}
	span.SetAttributes(attrs...)
	if r.Err != nil && !errors.Is(r.Err, context.Canceled) { // one that lost to another did not fail
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// httpOp splits an operation such as "GET /plans/{name}".
func httpOp(op string) (method, path string, ok bool) {
	method, path, _ = strings.Cut(op, " ")
	return method, path, slices.Contains([]string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodTrace, http.MethodConnect,
	}, method)
}
