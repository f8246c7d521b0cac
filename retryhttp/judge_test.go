package retryhttp_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		status int
		header http.Header
		want   retry.Verdict // 0: an answer
		shared bool
		stop   bool
	}{
		{status: 200},
		{status: 101},
		{status: 304},
		{status: 404},
		{status: 408},
		{status: 500},
		{status: 501},
		{status: 429, want: retry.Rejected},
		{status: 502, want: retry.Ambiguous},
		{status: 503, want: retry.Ambiguous, shared: true},
		{status: 504, want: retry.Ambiguous},
		{status: 503, header: http.Header{"Adamant-Verdict": {"not-sent"}}, want: retry.NotSent, shared: true},
		{status: 503, header: http.Header{"Adamant-Verdict": {"withdrawn"}}, want: retry.NotSent, shared: true},
		{status: 504, header: http.Header{"Adamant-Verdict": {"unknown"}}, want: retry.Ambiguous},
		{status: 200, header: http.Header{"Adamant-Verdict": {"not-sent"}}},
		{status: 502, header: http.Header{"X-Should-Retry": {"false"}}, want: retry.Ambiguous, stop: true},
		{status: 502, header: http.Header{"X-Should-Retry": {"true"}}, want: retry.Ambiguous},
	} {
		f := retryhttp.Judge(&http.Response{StatusCode: tc.status, Header: tc.header})
		if f == nil {
			f = new(retry.Failure)
		}
		if f.Verdict != tc.want || f.Shared != tc.shared || f.Stop != tc.stop {
			t.Errorf("%d %v: %+v", tc.status, tc.header, f)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, tc := range []struct {
		after, date string
		want        time.Duration
		ok          bool
	}{
		{"", "", 0, false},
		{"soon", "", 0, false},
		{"-1", "", 0, false},
		{"1.5", "", 0, false},
		{"0", "", 0, true},
		{"3", "", 3 * time.Second, true},
		{in(4 * time.Second), "", 4 * time.Second, true},
		{in(-time.Second), "", 0, true},
		{in(time.Hour + 4*time.Second), in(time.Hour), 4 * time.Second, true}, // the server's clock is an hour ahead
		{in(4 * time.Second), "today", 4 * time.Second, true},
	} {
		h := http.Header{"Retry-After": {tc.after}, "Date": {tc.date}}
		if d, ok := retryhttp.RetryAfter(h, now); d != tc.want || ok != tc.ok {
			t.Errorf("%q at %q: %v, %v", tc.after, tc.date, d, ok)
		}
	}
}
