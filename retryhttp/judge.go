package retryhttp

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/adamant-go/adamant/retry"
)

// StatusError is the cause of a failure that came as a response.
type StatusError struct {
	Status int // such as 503
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("answered %d %s", e.Status, http.StatusText(e.Status))
}

// Judge says what a response means for its call: nil if it is an answer of the
// application, which 4xx and 500 are too. 502, 503 and 504 are what a proxy says
// in its stead: whether the request got through is not known, unless our own
// gateway says so. 429 is an answer, by which nothing was done.
func Judge(resp *http.Response) *retry.Failure {
	verdict := retry.Ambiguous
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		verdict = retry.Rejected
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return nil
	}
	if v := resp.Header.Get(HeaderVerdict); v == "not-sent" || v == "withdrawn" {
		verdict = retry.NotSent
	}
	f := &retry.Failure{
		Verdict: verdict,
		Err:     &StatusError{resp.StatusCode},
		Shared:  resp.StatusCode == http.StatusServiceUnavailable,
		Stop:    resp.Header.Get("X-Should-Retry") == "false",
	}
	if after, ok := RetryAfter(resp.Header, time.Now()); ok {
		f.RetryAfter = after
	}
	return f
}

// RetryAfter returns the delay that a Retry-After header asks for (RFC 9110,
// 10.2.3: seconds, or a date). It is not ok if there is none or it is malformed;
// a date that has passed gives zero. A date is measured by the server's own
// Date, if it sent one, so that clocks may differ.
func RetryAfter(h http.Header, now time.Time) (d time.Duration, ok bool) {
	v := h.Get("Retry-After")
	if v == "" {
		return 0, false
	}
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(at.Sub(now), 0), true
}
