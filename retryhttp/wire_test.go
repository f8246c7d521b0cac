package retryhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

func post(ctx context.Context, t *testing.T, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/thing", body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestForeignBaseIsNotTakenForUnsent: a RoundTripper that tells httptrace nothing
// proves nothing, so that what it may have sent is not sent again.
func TestForeignBaseIsNotTakenForUnsent(t *testing.T) {
	for name, slow := range map[string]time.Duration{"lost": 0, "slow": 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var sent atomic.Int32
			rt := &retryhttp.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				_ = r.Body.Close()
				sent.Add(1)
				select {
				case <-time.After(slow):
				case <-r.Context().Done():
				}
				return nil, errors.New("the answer was lost")
			})}
			_, err := rt.RoundTrip(post(t.Context(), t, strings.NewReader("run")))
			e, _ := errors.AsType[*retry.Error](err)
			if e == nil || !e.Sent || sent.Load() != 1 {
				t.Errorf("%s: sent %d times: %v", name, sent.Load(), err)
			}
		})
	}
}

// secure serves h over TLS on the network in memory.
func secure(t *testing.T, n *memnet.Network, h http.HandlerFunc, protocols ...string) *http.Transport {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	_ = srv.Listener.Close()
	l, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	srv.Listener, srv.EnableHTTP2 = l, true
	if protocols != nil {
		srv.TLS = &tls.Config{NextProtos: protocols}
	}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	base := srv.Client().Transport.(*http.Transport)
	base.TLSClientConfig.ServerName = "example.com"
	base.DialContext = n.DialContext
	base.ForceAttemptHTTP2 = true
	t.Cleanup(base.CloseIdleConnections)
	return base
}

// TestHTTP2FirstRequests: requests that share an HTTP/2 connection that is just
// being made. None is stopped, and none that arrived is called not sent.
func TestHTTP2FirstRequests(t *testing.T) {
	failed, lied := 0, 0
	var last error
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			ran, notSent := map[string]bool{}, map[string]bool{}
			base := secure(t, &memnet.Network{Latency: time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				ran[r.Header.Get("Id")] = true
			})
			wire := &retryhttp.Wire{Base: base}
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+addr+"/", nil)
					id := fmt.Sprint(i)
					r.Header.Set("Id", id)
					resp, err := wire.Send(t.Context(), r, retry.Attempt{Number: 1}, true)
					if err == nil {
						_ = resp.Body.Close()
						return
					}
					mu.Lock()
					defer mu.Unlock()
					failed++
					last = err
					notSent[id] = retry.VerdictOf(err) == retry.NotSent
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
			for id := range ran {
				if notSent[id] {
					lied++
				}
			}
			wire.CloseIdleConnections()
		})
	}
	if failed > 0 {
		t.Errorf("of 1000 requests %d failed: %v", failed, last)
	}
	if lied > 0 {
		t.Errorf("%d arrived and were called not sent", lied)
	}
}

// TestFreshOverTLS: a server that can speak HTTP/2 is spoken to on a fresh
// connection too.
func TestFreshOverTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{Latency: time.Millisecond}
		var proto []string
		base := secure(t, n, func(_ http.ResponseWriter, r *http.Request) { proto = append(proto, r.Proto) })
		base = &http.Transport{ // net/http's defaults, but for the network and the root
			DialContext: base.DialContext, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: base.TLSClientConfig.RootCAs, ServerName: "example.com"},
		}
		wire := &retryhttp.Wire{Base: base}
		for _, fresh := range []bool{false, true} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+addr+"/", strings.NewReader("x"))
			resp, err := wire.Send(t.Context(), r, retry.Attempt{Number: 1, Fresh: fresh}, true)
			if err != nil {
				t.Errorf("fresh %v: %v", fresh, err)
				continue
			}
			_ = resp.Body.Close()
		}
		wire.CloseIdleConnections()
	})
}

// TestHTTP2ServerComesBack: an outage does not lock a server out that speaks HTTP/2.
func TestHTTP2ServerComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{Latency: time.Millisecond}
		base := secure(t, n, func(http.ResponseWriter, *http.Request) {}, "h2")
		base.Protocols = new(http.Protocols)
		base.Protocols.SetHTTP2(true)
		rt := &retryhttp.Transport{Base: base}
		get := func() error {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+"/", nil)
			resp, err := rt.RoundTrip(r)
			if err == nil {
				_ = resp.Body.Close()
			}
			return err
		}
		if err := get(); err != nil {
			t.Fatal(err)
		}
		n.Set(memnet.Kill)
		time.AfterFunc(time.Second, func() { n.Set(memnet.Healthy) })
		if err := get(); err != nil {
			t.Errorf("during an outage of a second: %v", err)
		}
		for i := range 3 {
			time.Sleep(time.Minute)
			if err := get(); err != nil {
				t.Errorf("%d min after it: %v", i+1, err)
			}
		}
		time.Sleep(time.Minute)
		rt.CloseIdleConnections()
		base.CloseIdleConnections()
		time.Sleep(time.Minute)
	})
}

// TestConnectLimitProvesNothing: a process that stood still just before it got its
// connection may have written the request all the same.
func TestConnectLimitProvesNothing(t *testing.T) {
	for range 1000 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, ok)
			var written atomic.Int64
			wire := &retryhttp.Wire{Base: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := w.net.DialContext(ctx, network, addr)
				return &spyConn{c, &written}, err
			}}}
			defer wire.CloseIdleConnections()
			send := func(ctx context.Context) error {
				resp, err := wire.Send(ctx, post(ctx, t, strings.NewReader("run")), retry.Attempt{Number: 1}, true)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				return err
			}
			if err := send(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := written.Load()
			err := send(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GetConn: func(string) { time.Sleep(2 * time.Second) },
			}))
			synctest.Wait()
			if n := written.Load() - before; n > 0 && retry.VerdictOf(err) == retry.NotSent {
				t.Errorf("%d bytes were written and called not sent: %v", n, err)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// spyConn counts what is written.
type spyConn struct {
	net.Conn
	written *atomic.Int64
}

func (c *spyConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}
