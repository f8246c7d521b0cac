package retryhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// TestSendBeforeOverConnectionsThatAreNotCounted: where it is not seen what is written,
// a connection that comes too late is not used.
func TestSendBeforeOverConnectionsThatAreNotCounted(t *testing.T) {
	const slow = 1400 * time.Millisecond
	for name, prepare := range map[string]func(n *memnet.Network, base *http.Transport){
		"DialTLSContext": func(n *memnet.Network, base *http.Transport) {
			config := base.TLSClientConfig.Clone()
			base.DialTLSContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				select {
				case <-time.After(slow):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				conn, err := n.DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				c := tls.Client(conn, config)
				return c, c.HandshakeContext(ctx)
			}
		},
		"only HTTP/2": func(n *memnet.Network, base *http.Transport) {
			base.Protocols = new(http.Protocols)
			base.Protocols.SetHTTP2(true)
			base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				select {
				case <-time.After(slow):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				return n.DialContext(ctx, network, addr)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var arrived atomic.Int32
				n := new(memnet.Network)
				base := secure(t, n, func(w http.ResponseWriter, _ *http.Request) { arrived.Add(1); _, _ = io.WriteString(w, "ok") })
				prepare(n, base)
				wire := retryhttp.Wire{Base: base}
				defer wire.CloseIdleConnections()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+addr+"/state", strings.NewReader("abort"))
				if err != nil {
					t.Fatal(err)
				}
				latest := time.Now().Add(time.Second)
				_, err = retry.Do(t.Context(), retry.Policy{Attempts: 1}, func(ctx context.Context, a retry.Attempt) (int, error) {
					a.Fresh = true
					resp, err := wire.SendBefore(ctx, r, a, latest)
					if err != nil {
						return 0, err
					}
					return resp.StatusCode, resp.Body.Close()
				})
				if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Sent || !errors.Is(err, retryhttp.ErrTooLate) {
					t.Errorf("not refused as too late: %v", err)
				}
				synctest.Wait()
				if arrived.Load() != 0 {
					t.Errorf("%d requests arrived", arrived.Load())
				}
			})
		})
	}
}
