package retryhttp_test

import (
	"context"
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

// TestSendBefore: a request that cannot be begun in time is not, however the time was
// lost, and that is known.
func TestSendBefore(t *testing.T) {
	const limit = time.Second
	for name, c := range map[string]struct {
		dial, before time.Duration
		tls, pooled  bool
		arrives      bool
	}{
		"at once":                        {arrives: true},
		"slow to connect":                {dial: 1100 * time.Millisecond},
		"slow to connect, TLS":           {dial: 1100 * time.Millisecond, tls: true},
		"just in time":                   {dial: 990 * time.Millisecond, arrives: true},
		"just in time, TLS":              {dial: 990 * time.Millisecond, tls: true, arrives: true},
		"late when called":               {before: 1100 * time.Millisecond},
		"pooled":                         {pooled: true, arrives: true},
		"pooled, late":                   {pooled: true, before: 1100 * time.Millisecond},
		"pooled by one that had a limit": {pooled: true, dial: 990 * time.Millisecond, before: 500 * time.Millisecond, arrives: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var arrived atomic.Int32
				h := func(w http.ResponseWriter, _ *http.Request) { arrived.Add(1); _, _ = io.WriteString(w, "ok") }
				var n *memnet.Network
				base, scheme := &http.Transport{}, "http://"
				if c.tls {
					n = new(memnet.Network)
					base, scheme = secure(t, n, h), "https://"
				} else {
					n = newWorld(t, h).net
				}
				base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
					select {
					case <-time.After(c.dial):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					return n.DialContext(ctx, network, addr)
				}
				wire := retryhttp.Wire{Base: base}
				defer wire.CloseIdleConnections()
				send := func(latest time.Time) error {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, scheme+addr+"/state", strings.NewReader("abort"))
					if err != nil {
						t.Fatal(err)
					}
					_, err = retry.Do(t.Context(), retry.Policy{Attempts: 1}, func(ctx context.Context, a retry.Attempt) (int, error) {
						a.Fresh = !c.pooled
						resp, err := wire.SendBefore(ctx, r, a, latest)
						if err != nil {
							return 0, err
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						return resp.StatusCode, resp.Body.Close()
					})
					return err
				}
				want := int32(0)
				if c.pooled {
					if err := send(time.Now().Add(limit)); err != nil {
						t.Fatal(err)
					}
					want++
				}
				begin := time.Now()
				time.Sleep(c.before)
				err := send(begin.Add(limit))
				if c.arrives {
					if want++; err != nil {
						t.Error(err)
					}
				} else if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Sent || !errors.Is(err, retryhttp.ErrTooLate) {
					t.Errorf("not refused as too late: %v", err)
				}
				synctest.Wait()
				if arrived.Load() != want {
					t.Errorf("%d requests arrived, not %d", arrived.Load(), want)
				}
			})
		})
	}
}
