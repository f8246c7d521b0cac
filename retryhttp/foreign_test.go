package retryhttp_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// TestDialErrorAfterAConnection: a RoundTripper that resends by itself may fail to
// connect after it has sent; that is no proof that nothing was.
func TestDialErrorAfterAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int32
		rt := &retryhttp.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			_ = r.Body.Close()
			trace := httptrace.ContextClientTrace(r.Context())
			trace.GetConn(addr)
			trace.GotConn(httptrace.GotConnInfo{})
			sent.Add(1) // and lost; the next connection is refused
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		})}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/", strings.NewReader("run"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = rt.RoundTrip(r)
		if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Reason != retry.Unclear || sent.Load() != 1 {
			t.Errorf("sent %d times: %v", sent.Load(), err)
		}
	})
}
