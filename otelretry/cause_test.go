package otelretry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/otelretry"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

func TestErrorType(t *testing.T) {
	op := func(err error) error { return &net.OpError{Op: "read", Net: "tcp", Err: err} }
	for _, c := range []struct {
		err  error
		want string
	}{
		{&retryhttp.StatusError{Status: 502}, "502"},
		{op(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "connection_refused"},
		{op(os.NewSyscallError("read", syscall.ECONNRESET)), "connection_reset"},
		{op(syscall.EPIPE), "connection_reset"},
		{op(syscall.EHOSTUNREACH), "unreachable"},
		{fmt.Errorf("the answer was cut off: %w", io.ErrUnexpectedEOF), "connection_closed"},
		{io.EOF, "connection_closed"},
		{op(os.ErrDeadlineExceeded), "timeout"},
		{context.DeadlineExceeded, "timeout"},
		{&retry.SilenceError{After: time.Second}, "timeout"},
		{op(&net.DNSError{IsTimeout: true}), "dns"},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "tls"},
		{x509.HostnameError{}, "tls"},
		{op(tls.AlertError(40)), "tls"},
		{fmt.Errorf("%w: gave up", context.Canceled), "cancelled"},
		{errDown, "_OTHER"},
		// Only the last attempt counts, not what the first met.
		{&retry.Error{Records: []retry.Record{{Err: io.EOF}}, Err: errDown}, "_OTHER"},
		{&retry.Error{Err: &retry.Error{Err: io.EOF}}, "connection_closed"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			_, _ = retry.Do(t.Context(), retry.Policy{Attempts: 1, Trace: l.trace()}, func(context.Context, retry.Attempt) (int, error) {
				return 0, &retry.Failure{Verdict: retry.Fatal, Err: c.err}
			})
			if got := strings.Count(strings.ReplaceAll(l.tree(), "\n", " "), " error.type="+c.want+" "); got != 2 { // of the call and of the attempt
				t.Errorf("%v: not %s: %s", c.err, c.want, l.tree())
			}
		})
	}
}

// TestOp: the words of metrics and spans are those that the program gives.
func TestOp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.Op = func(op string) string {
			method, _, _ := strings.Cut(op, " ")
			return method
		}
		for i := range 3 {
			p := retry.Policy{Op: fmt.Sprintf("GET /users/%d", i), Trace: l.trace()}
			_, _ = retry.Do(t.Context(), p, func(_ context.Context, a retry.Attempt) (int, error) {
				if a.Number == 1 {
					return 0, errDown
				}
				return 0, nil
			})
		}
		if all := l.tree() + l.metrics(); strings.Contains(all, "users") || !strings.Contains(all, "calls call.outcome=ok_after_resend op=GET: 3\n") {
			t.Error(all)
		}
		if !strings.Contains(l.tree(), "client GET attempt.verdict=done attempt=2 http.request.method=GET http.request.resend_count=1\n") {
			t.Error(l.tree())
		}
		if !strings.Contains(l.log.String(), `op="GET /users/2"`) {
			t.Error("a record does not tell which", &l.log)
		}
	})
}

func TestServer(t *testing.T) {
	for in, want := range map[string]string{
		"http://me:secret@lab/x?token=secret": "[{server.address lab} {server.port 80}]",
		"https://lab":                         "[{server.address lab} {server.port 443}]",
		"http://[::1]:8000":                   "[{server.address ::1} {server.port 8000}]",
		"lab.sock":                            "[{server.address }]",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range otelretry.Server(u) {
			got = append(got, fmt.Sprintf("{%s %s}", a.Key, a.Value.String()))
		}
		if s := fmt.Sprint(got); s != want {
			t.Errorf("%s: %s", in, s)
		}
	}
}
