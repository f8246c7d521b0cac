package retryhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

const addr = "server.test:80"

// world is a server over a network in memory, and a client with a Transport.
type world struct {
	net    *memnet.Network
	client *http.Client
	rt     *retryhttp.Transport

	mu   sync.Mutex
	seen []arrival
}

type arrival struct {
	at      time.Time
	method  string
	attempt string
	layer   string
	remote  string
	body    string
}

func newWorld(t *testing.T, h http.HandlerFunc) *world {
	t.Helper()
	w := &world{net: &memnet.Network{Latency: time.Millisecond}}
	w.rt = &retryhttp.Transport{Base: &http.Transport{DialContext: w.net.DialContext}}
	w.client = &http.Client{Transport: w.rt}
	l, err := w.net.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.seen = append(w.seen, arrival{
			time.Now(), r.Method, r.Header.Get("Retry-Attempt"), r.Header.Get("Retry-Layer"), r.RemoteAddr, string(b),
		})
		w.mu.Unlock()
		h(rw, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() {
		w.net.Set(memnet.Healthy)
		_ = srv.Close()
		w.client.CloseIdleConnections()
		<-done
		time.Sleep(time.Hour) // of virtual time, for handlers that nobody waits for
	})
	return w
}

func ok(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "plans") }

func (w *world) do(ctx context.Context, method, body string) (string, error) {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+addr+"/thing", in)
	if err != nil {
		return "", err
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return string(b), err
}

func (w *world) arrivals() []arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]arrival(nil), w.seen...)
}

// TestZeroTransportOutlastsAnOutage sweeps the beginning of an outage over a
// call with a warm connection, through the real net/http.
func TestZeroTransportOutlastsAnOutage(t *testing.T) {
	for _, fault := range []memnet.Fault{memnet.Refuse, memnet.Kill, memnet.Reset, memnet.BlackHole, memnet.Forget, memnet.Stall} {
		t.Run(fault.String(), func(t *testing.T) {
			for start := -1005 * time.Millisecond; start <= 15*time.Millisecond; start += 17 * time.Millisecond {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
						time.Sleep(5 * time.Millisecond)
						ok(rw, r)
					})
					if _, err := w.do(t.Context(), http.MethodGet, ""); err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Second)
					var wg sync.WaitGroup
					wg.Go(func() {
						time.Sleep(2*time.Second + start)
						w.net.Set(fault)
						time.Sleep(time.Second)
						w.net.Set(memnet.Healthy)
					})
					time.Sleep(2 * time.Second)
					begun := time.Now()
					if got, err := w.do(t.Context(), http.MethodGet, ""); err != nil || got != "plans" {
						t.Errorf("outage from %v: %q, %v", start, got, err)
					}
					if took := time.Since(begun); took > 3300*time.Millisecond {
						t.Errorf("outage from %v: took %v", start, took)
					}
					wg.Wait()
				})
			}
		})
	}
}

// TestStormOfAThousand is promise 2 through the whole stack: a thousand callers
// of one process, and what arrives at the server in any second.
func TestStormOfAThousand(t *testing.T) {
	for _, fault := range []memnet.Fault{memnet.Kill, memnet.Forget, memnet.Stall} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, ok)
			w.net.Set(fault)
			start := time.Now()
			var wg sync.WaitGroup
			for i := range 1000 {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * time.Millisecond)
					if _, err := w.do(t.Context(), http.MethodGet, ""); err == nil {
						t.Error("a call succeeded")
					}
				})
			}
			wg.Wait()
			var dials []time.Time
			for _, d := range w.net.Dials() {
				dials = append(dials, d.At)
			}
			if most := memnet.Busiest(dials, time.Second); most > 5 {
				t.Errorf("%v: %d connection attempts in a second", fault, most)
			}
			t.Logf("%v: %d connection attempts of 1000 callers, last gave up after %v", fault, len(dials), time.Since(start))
			w.net.Set(memnet.Healthy)
		})
	}
}

// TestNoResendInSecret: net/http must not send again by itself on a pooled
// connection that turns out to be dead.
func TestNoResendInSecret(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete, http.MethodPut, http.MethodTrace, http.MethodPost} {
		synctest.Test(t, func(t *testing.T) {
			var kill atomic.Bool
			w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
				if kill.Swap(false) { // processed, and the answer lost
					conn, _, _ := rw.(http.Hijacker).Hijack()
					_ = conn.Close()
					return
				}
				ok(rw, r)
			})
			if _, err := w.do(t.Context(), http.MethodGet, ""); err != nil {
				t.Fatal(err)
			}
			kill.Store(true)
			body := ""
			if method == http.MethodPut || method == http.MethodPost {
				body = "x"
			}
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if body == "" {
				r.Body, r.GetBody = nil, nil
			}
			if method == http.MethodPost {
				r.Header.Set("Idempotency-Key", "k")
			}
			begun := time.Now()
			resp, err := w.client.Do(r)
			if err != nil {
				t.Fatalf("%s: %v", method, err)
			}
			_ = resp.Body.Close()
			seen := w.arrivals()[1:]
			if len(seen) != 2 {
				t.Fatalf("%s: %d requests", method, len(seen))
			}
			if gap := seen[1].at.Sub(begun); gap < 250*time.Millisecond {
				t.Errorf("%s: resent after %v, not on the schedule", method, gap)
			}
			if seen[0].attempt != "" || seen[1].attempt != "2" || !strings.HasPrefix(seen[1].layer, "adamant;call=") {
				t.Errorf("%s: resends did not announce themselves: %+v", method, seen)
			}
		})
	}
}

// TestOncePOST: sent and lost is an error that says so; not sent is repeated,
// down to a connection that dies before the first byte.
func TestOncePOST(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lose atomic.Bool
		lose.Store(true)
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			if lose.Swap(false) {
				conn, _, _ := rw.(http.Hijacker).Hijack()
				_ = conn.Close()
				return
			}
			ok(rw, r)
		})
		_, err := w.do(t.Context(), http.MethodPost, "take it")
		e, _ := errors.AsType[*retry.Error](err)
		if e == nil || e.Reason != retry.Unclear || !e.Sent || len(w.arrivals()) != 1 {
			t.Fatalf("lost answer: %v, %d requests", err, len(w.arrivals()))
		}
		w.net.Set(memnet.Refuse)
		time.AfterFunc(time.Second, func() { w.net.Set(memnet.Healthy) })
		if _, err := w.do(t.Context(), http.MethodPost, "take it"); err != nil {
			t.Fatalf("refused: %v", err)
		}
		if seen := w.arrivals(); len(seen) != 2 || seen[1].body != "take it" {
			t.Errorf("saw %+v", seen)
		}
	})
}

// TestNotOneByte: a connection that is reset before anything is written counts
// as not sent; one that took a byte does not.
func TestNotOneByte(t *testing.T) {
	for _, tc := range []struct {
		name    string
		written int
		want    retry.Verdict
	}{{"none", 0, retry.NotSent}, {"one", 1, retry.Ambiguous}} {
		wire := &retryhttp.Wire{Base: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				b := make([]byte, 1)
				if tc.written > 0 {
					_, _ = server.Read(b)
				}
				_ = server.Close()
			}()
			return &lateConn{Conn: client, none: tc.written == 0}, nil
		}}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://x.test/", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = wire.Send(t.Context(), r, retry.Attempt{Number: 1, Fresh: true}, true)
		if got := retry.VerdictOf(err); got != tc.want {
			t.Errorf("%s: %v (%v)", tc.name, got, err)
		}
	}
}

// lateConn refuses to write, as a socket does whose peer has sent a reset.
type lateConn struct {
	net.Conn
	none bool
}

func (c *lateConn) Write(b []byte) (int, error) {
	if c.none {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return c.Conn.Write(b)
}

func TestBodiesReplay(t *testing.T) {
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"GetBody":  func(r io.Reader) io.Reader { return r },
		"buffered": func(r io.Reader) io.Reader { return struct{ io.Reader }{r} },
	} {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
				if n.Add(1) < 3 {
					rw.WriteHeader(http.StatusBadGateway)
					return
				}
				ok(rw, r)
			})
			payload := strings.Repeat("x", 100_000)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+addr+"/", wrap(strings.NewReader(payload)))
			if err != nil {
				t.Fatal(err)
			}
			body := &closeSpy{ReadCloser: r.Body}
			r.Body = body
			before := *r
			resp, err := w.rt.RoundTrip(r)
			if err != nil {
				t.Fatal(name, err)
			}
			_ = resp.Body.Close()
			seen := w.arrivals()
			if len(seen) != 3 || seen[2].body != payload || !body.closed.Load() {
				t.Errorf("%s: %d requests, closed %v", name, len(seen), body.closed.Load())
			}
			if r.Body != before.Body || len(r.Header) != 0 || resp.Request != r && name == "GetBody" {
				t.Errorf("%s: the request was changed", name)
			}
		})
	}
}

type closeSpy struct {
	io.ReadCloser
	closed atomic.Bool
}

func (s *closeSpy) Close() error { s.closed.Store(true); return s.ReadCloser.Close() }

func TestBodyTooLongToKeepIsRefused(t *testing.T) {
	rt := &retryhttp.Transport{RequestLimit: 10}
	for _, length := range []int64{-1, 11} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+addr+"/", io.MultiReader(bytes.NewReader(make([]byte, 11))))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = length
		_, err = rt.RoundTrip(r)
		if err == nil || !strings.Contains(err.Error(), "GetBody") {
			t.Errorf("got %v", err)
		}
	}
}

// TestCutAnswerIsNoAnswer: an answer that is cut off is another attempt's.
func TestCutAnswerIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			if n.Add(1) < 3 {
				conn, buf, _ := rw.(http.Hijacker).Hijack()
				_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npl")
				_ = buf.Flush()
				_ = conn.Close()
				return
			}
			ok(rw, r)
		})
		if got, err := w.do(t.Context(), http.MethodGet, ""); got != "plans" || err != nil || n.Load() != 3 {
			t.Errorf("got %q, %v after %d", got, err, n.Load())
		}
	})
}

// TestLastAnswerIsReturned: RoundTrip returns a response whatever its status, and
// leaves no connection behind.
func TestLastAnswerIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(rw, strings.Repeat("sorry ", 100))
		})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.rt.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || len(b) != 600 || err != nil || len(w.arrivals()) != 5 {
			t.Errorf("status %d, %d bytes, %v, %d requests", resp.StatusCode, len(b), err, len(w.arrivals()))
		}
	})
}

// TestStreamsAreNotHeldBack: what has no known length is handed on as it comes,
// and its context lives until it is closed.
func TestStreamsAreNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/event-stream")
			for range 3 {
				_, _ = io.WriteString(rw, "event\n")
				rw.(http.Flusher).Flush()
				time.Sleep(time.Minute)
			}
		})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		resp, err := w.rt.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(start) > time.Second {
			t.Errorf("held back for %v", time.Since(start))
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if len(b) != 18 || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestPromise8: recovery is gentle and quick. A crowd that waited is let go as
// fast as answers come, the first within one probe interval.
func TestPromise8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var most, now atomic.Int32
		var mu sync.Mutex
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			mu.Lock()
			most.Store(max(most.Load(), n))
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			now.Add(-1)
			ok(rw, r)
		})
		w.net.Set(memnet.Kill)
		var wg sync.WaitGroup
		var first, last atomic.Int64
		up := time.Now().Add(time.Second)
		for range 300 {
			wg.Go(func() {
				if _, err := w.do(t.Context(), http.MethodGet, ""); err != nil {
					t.Error(err)
				}
				first.CompareAndSwap(0, int64(time.Since(up)))
				last.Store(int64(time.Since(up)))
			})
		}
		time.Sleep(time.Second)
		w.net.Set(memnet.Healthy)
		wg.Wait()
		if f := time.Duration(first.Load()); f > 1300*time.Millisecond {
			t.Errorf("first after %v", f)
		}
		if l := time.Duration(last.Load() - first.Load()); l > 500*time.Millisecond {
			t.Errorf("last %v after the first", l)
		}
		t.Logf("first back after %v, last %v later, at most %d at once", time.Duration(first.Load()), time.Duration(last.Load()-first.Load()), most.Load())
	})
}

// TestPromise9: nothing outlives its call. synctest fails the test if a goroutine
// is left; connections are looked for at the server.
func TestPromise9(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, ok)
		w.net.Set(memnet.BlackHole)
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := w.do(ctx, http.MethodGet, "")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 700*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		synctest.Wait()
		for _, d := range w.net.Dials() {
			if d.Ended.IsZero() {
				t.Error("a dial outlived its call")
			}
		}
	})
}
