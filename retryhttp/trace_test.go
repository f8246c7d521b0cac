package retryhttp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// TestTraceSeesWhatIsSent: each attempt is told with a header of its own, whether or
// not its connection is watched, and the caller's request stays as it is.
func TestTraceSeesWhatIsSent(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got = append(got, r.Header.Get("Seen")); len(got)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	var answers []int
	calls := &retry.Trace{AttemptContext: func(ctx context.Context, a retry.AttemptInfo) context.Context {
		return retryhttp.WithTrace(ctx, &retryhttp.Trace{
			Sending:  func(r *http.Request) { r.Header.Set("Seen", r.Method+" "+r.URL.Path+string(rune('0'+a.Number))) },
			Answered: func(resp *http.Response) { answers = append(answers, resp.StatusCode) },
		})
	}}
	transport := &retryhttp.Transport{Policy: retry.Policy{Trace: calls, Backoff: retry.Backoff{First: 1}}}
	defer transport.CloseIdleConnections()
	for _, method := range []string{http.MethodGet, http.MethodPut} { // a PUT without a body is watched
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if len(r.Header) > 0 {
			t.Errorf("the caller's request has %v", r.Header)
		}
	}
	want := []string{"GET /x1", "GET /x2", "PUT /x1", "PUT /x2"}
	if !slices.Equal(got, want) || !slices.Equal(answers, []int{503, 200, 503, 200}) {
		t.Errorf("%q, answers %v", got, answers)
	}
}
