package retryhttp

import (
	"context"
	"net/http"
)

// Trace observes what attempts send and are answered, as retry.Trace observes the
// attempts. Any function may be nil. They are called from the goroutine of the
// attempt.
type Trace struct {
	// Sending is called before a request is sent. Its context is the attempt's,
	// and its Header the attempt's own: it may be added to. The rest must not
	// be changed.
	Sending func(r *http.Request)
	// Answered is called with a response, whatever its status. Its body must
	// be left alone.
	Answered func(resp *http.Response)
}

type traceKey struct{}

// WithTrace returns a context whose requests are observed by t, for the
// AttemptContext of a retry.Trace. A trace that ctx has already is replaced.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

func traceOf(ctx context.Context) *Trace {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	return t
}

func (t *Trace) sending(r *http.Request) {
	if t != nil && t.Sending != nil {
		t.Sending(r)
	}
}

func (t *Trace) answered(resp *http.Response) {
	if t != nil && t.Answered != nil {
		t.Answered(resp)
	}
}
