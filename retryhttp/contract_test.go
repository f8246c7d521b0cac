package retryhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

func request(ctx context.Context, t *testing.T, method, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// canned is a response of a RoundTripper.
func canned(r *http.Request, status int, body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: status, Header: make(http.Header), Body: body, ContentLength: -1, Request: r}
}

// bodies count how many are open.
type bodies struct{ open atomic.Int32 }

func (b *bodies) of(n int) io.ReadCloser {
	b.open.Add(1)
	return &countedBody{Reader: strings.NewReader(strings.Repeat("x", n)), of: b}
}

type countedBody struct {
	io.Reader
	of   *bodies
	once sync.Once
}

func (b *countedBody) Close() error {
	b.once.Do(func() { b.of.open.Add(-1) })
	return nil
}

// TestDeadConnectionIsNotSentAgainInSecret: a pooled connection that refuses the
// first byte; nothing is dialled before the schedule says so.
func TestDeadConnectionIsNotSentAgainInSecret(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodDelete} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, ok)
			var broken atomic.Bool
			w.rt.Base = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := w.net.DialContext(ctx, network, addr)
				return &brokenConn{c, &broken}, err
			}}
			if _, err := w.do(t.Context(), method, ""); err != nil {
				t.Fatal(err)
			}
			broken.Store(true)
			time.AfterFunc(10*time.Millisecond, func() { broken.Store(false) })
			before, begun := len(w.net.Dials()), time.Now()
			resp, err := w.rt.RoundTrip(request(t.Context(), t, method, "http://"+addr+"/"))
			if err != nil {
				t.Fatalf("%s: %v", method, err) // it was not sent
			}
			_ = resp.Body.Close()
			for _, d := range w.net.Dials()[before:] {
				if gap := d.At.Sub(begun); gap < 250*time.Millisecond {
					t.Errorf("%s: dialled again after %v", method, gap)
				}
			}
		})
	}
}

// brokenConn refuses to write while it is broken.
type brokenConn struct {
	net.Conn
	broken *atomic.Bool
}

func (c *brokenConn) Write(b []byte) (int, error) {
	if c.broken.Load() {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return c.Conn.Write(b)
}

// TestResendsUseAnotherConnection.
func TestResendsUseAnotherConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				rw.WriteHeader(http.StatusBadGateway)
				return
			}
			ok(rw, r)
		})
		if _, err := w.do(t.Context(), http.MethodPut, "x"); err != nil {
			t.Fatal(err)
		}
		if seen := w.arrivals(); len(seen) != 2 || seen[0].remote == seen[1].remote {
			t.Errorf("%+v", seen)
		}
	})
}

// TestConnectLimit bounds every way of connecting: a lost SYN, a TLS handshake
// that is not answered, and a dialler that hangs.
func TestConnectLimit(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for name, hung := range map[string]*http.Transport{
			"dial": {}, "handshake": {}, "dialler": {DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
				time.Sleep(30 * time.Second)
				return nil, errors.New("too late")
			}},
		} {
			if name == "dialler" && method == http.MethodGet {
				continue // bounded by Silence
			}
			synctest.Test(t, func(t *testing.T) {
				n := &memnet.Network{Latency: time.Millisecond}
				l, err := n.Listen(addr)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				hung.DialContext = n.DialContext
				if name == "dial" {
					n.Set(memnet.BlackHole)
				}
				wire := &retryhttp.Wire{Base: hung}
				begun := time.Now()
				_, err = wire.Send(t.Context(), request(t.Context(), t, method, "https://"+addr+"/"), retry.Attempt{Number: 1}, method == http.MethodPost)
				if took := time.Since(begun); took > 1510*time.Millisecond || err == nil {
					t.Errorf("%s, %s: %v after %v", name, method, err, took)
				}
				if v := retry.VerdictOf(err); method == http.MethodPost && v != retry.NotSent {
					t.Errorf("%s: %v", name, v)
				}
				time.Sleep(time.Minute)
			})
		}
	}
}

// TestBodyIsClosed on the ways that lead to no attempt.
func TestBodyIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := roundTripper(func(r *http.Request) (*http.Response, error) {
			_ = r.Body.Close()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		})
		rt := &retryhttp.Transport{Base: refuse}
		spied := func(ctx context.Context, url string) (*http.Request, *closeSpy) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			spy := &closeSpy{ReadCloser: r.Body}
			r.Body = spy
			return r, spy
		}
		cancelled, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 20 { // most of them never get past the gate
			ctx := t.Context()
			if i%2 == 0 {
				ctx = cancelled
			}
			wg.Go(func() {
				r, spy := spied(ctx, "http://"+addr+"/")
				if _, err := rt.RoundTrip(r); err == nil || !spy.closed.Load() {
					t.Errorf("closed %v: %v", spy.closed.Load(), err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		cancel()
		wg.Wait()
		r, spy := spied(t.Context(), "ftp://"+addr+"/")
		if _, err := rt.RoundTrip(r); err == nil || !spy.closed.Load() {
			t.Errorf("ftp: closed %v: %v", spy.closed.Load(), err)
		}
	})
}

// TestBadCertificateIsHopeless, and nothing was sent.
func TestBadCertificateIsHopeless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{Latency: time.Millisecond}
		srv := httptest.NewUnstartedServer(http.HandlerFunc(ok))
		_ = srv.Listener.Close()
		var err error
		if srv.Listener, err = n.Listen(addr); err != nil {
			t.Fatal(err)
		}
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		defer srv.Close()
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			rt := &retryhttp.Transport{Base: &http.Transport{DialContext: n.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
			_, err := rt.RoundTrip(request(t.Context(), t, method, "https://"+addr+"/"))
			e, _ := errors.AsType[*retry.Error](err)
			if e == nil || e.Reason != retry.Hopeless || e.Attempts != 1 || method == http.MethodPost && e.Sent {
				t.Errorf("%s: %+v", method, e)
			}
		}
	})
}

// TestLastAnswerIsWhole: its body is there although its attempt has ended, up to
// 64 KiB of it.
func TestLastAnswerIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusServiceUnavailable)
			for range 60 {
				_, _ = io.WriteString(rw, strings.Repeat("x", 1000))
				rw.(http.Flusher).Flush()
				time.Sleep(time.Millisecond)
			}
		})
		resp, err := w.rt.RoundTrip(request(t.Context(), t, http.MethodGet, "http://"+addr+"/"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if len(b) != 60_000 || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
}

// TestEveryBodyIsClosed: those of the answers that nobody gets.
func TestEveryBodyIsClosed(t *testing.T) {
	t.Run("refusals", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var b bodies
			rt := &retryhttp.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				return canned(r, http.StatusServiceUnavailable, b.of(200_000)), nil
			})}
			resp, err := rt.RoundTrip(request(t.Context(), t, http.MethodGet, "http://"+addr+"/"))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if n := b.open.Load(); n != 0 {
				t.Errorf("%d left open", n)
			}
		})
	})
	t.Run("a copy that came late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var b bodies
			var n atomic.Int32
			rt := &retryhttp.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				if n.Add(1) == 1 {
					time.Sleep(1500 * time.Millisecond)
				} else {
					<-r.Context().Done()
				}
				return canned(r, http.StatusOK, b.of(10)), nil
			})}
			resp, err := rt.RoundTrip(request(t.Context(), t, http.MethodGet, "http://"+addr+"/"))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if open := b.open.Load(); open != 0 || n.Load() != 2 {
				t.Errorf("%d of %d left open", open, n.Load())
			}
		})
	})
}

// TestClosingAStreamEndsItsContext.
func TestClosingAStreamEndsItsContext(t *testing.T) {
	var ctx context.Context
	var b bodies
	rt := &retryhttp.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		ctx = r.Context()
		return canned(r, http.StatusOK, b.of(10)), nil
	})}
	resp, err := rt.RoundTrip(request(t.Context(), t, http.MethodGet, "http://"+addr+"/"))
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Error("ended before the body was read")
	}
	_ = resp.Body.Close()
	if ctx.Err() == nil {
		t.Error("not ended")
	}
}

// TestCutJSONIsNoAnswer, though its length was not known; other streams are the
// caller's.
func TestCutJSONIsNoAnswer(t *testing.T) {
	for kind, want := range map[string]int32{"application/json": 2, "application/problem+json; charset=utf-8": 2, "text/plain": 1} {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Type", kind)
				_, _ = io.WriteString(rw, "{")
				rw.(http.Flusher).Flush()
				if n.Add(1) == 1 {
					panic(http.ErrAbortHandler)
				}
				_, _ = io.WriteString(rw, "}")
			})
			got, err := w.do(t.Context(), http.MethodGet, "")
			if whole := got == "{}" && err == nil; n.Load() != want || whole != (want == 2) {
				t.Errorf("%s: %q, %v after %d", kind, got, err, n.Load())
			}
		})
	}
}

// TestLongJSONIsNotTruncated: what does not fit in memory is streamed.
func TestLongJSONIsNotTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long = 3 << 20
		w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			for range 3 {
				_, _ = io.WriteString(rw, strings.Repeat(" ", 1<<20))
				rw.(http.Flusher).Flush()
			}
		})
		if got, err := w.do(t.Context(), http.MethodGet, ""); len(got) != long || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// TestOnlyReadsAreCopied.
func TestOnlyReadsAreCopied(t *testing.T) {
	for method, want := range map[string]int{http.MethodGet: 2, http.MethodPut: 1, http.MethodDelete: 1, http.MethodPost: 1} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
				time.Sleep(2500 * time.Millisecond)
				ok(rw, r)
			})
			_, err := w.do(t.Context(), method, map[bool]string{true: "x"}[method == http.MethodPut])
			if n := len(w.arrivals()); n != want || err != nil {
				t.Errorf("%s: %d requests, %v", method, n, err)
			}
		})
	}
}

// TestDestinationsHaveGatesOfTheirOwn: one that is away holds up no other, unless
// they have the same key.
func TestDestinationsHaveGatesOfTheirOwn(t *testing.T) {
	for _, key := range []func(*http.Request) string{nil, func(*http.Request) string { return "one" }} {
		synctest.Test(t, func(t *testing.T) {
			rt := &retryhttp.Transport{Key: key, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Host == "down.test" {
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
				}
				return canned(r, http.StatusOK, http.NoBody), nil
			})}
			_, err := rt.RoundTrip(request(t.Context(), t, http.MethodGet, "http://down.test/"))
			if err == nil {
				t.Fatal("no error")
			}
			begun := time.Now()
			resp, err := rt.RoundTrip(request(t.Context(), t, http.MethodGet, "http://up.test/"))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if waited := time.Since(begun) > 0; waited != (key != nil) {
				t.Errorf("own key %v: waited %v", key != nil, time.Since(begun))
			}
		})
	}
}

// TestPoolIsEmptiedAfterAnOutage.
func TestPoolIsEmptiedAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := new(closableBase)
		rt := &retryhttp.Transport{Base: base}
		for range 3 {
			resp, err := rt.RoundTrip(request(t.Context(), t, http.MethodGet, "http://"+addr+"/"))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			time.Sleep(time.Millisecond)
		}
		if base.sent != 4 || base.closed == 0 {
			t.Errorf("%d requests, closed %d times", base.sent, base.closed)
		}
	})
}

// closableBase refuses its second request.
type closableBase struct{ sent, closed int }

func (b *closableBase) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.sent++; b.sent == 2 {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return canned(r, http.StatusOK, http.NoBody), nil
}

func (b *closableBase) CloseIdleConnections() { b.closed++ }
