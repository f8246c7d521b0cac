package retryhttp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
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

// TestUpgradeIsHandedOn: 101 is an answer, and the connection is the caller's.
func TestUpgradeIsHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
			conn, buf, _ := rw.(http.Hijacker).Hijack()
			defer conn.Close()
			time.AfterFunc(time.Minute, func() { _ = conn.Close() })
			_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_ = buf.Flush()
			_, _ = io.Copy(conn, buf)
		})
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/", nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "echo")
		begun := time.Now()
		resp, err := w.rt.RoundTrip(r)
		if err != nil {
			t.Fatalf("%v after %v, %d requests", err, time.Since(begun), len(w.arrivals()))
		}
		defer resp.Body.Close()
		rw, ok := resp.Body.(io.ReadWriter)
		if !ok {
			t.Fatalf("body %T cannot be written", resp.Body)
		}
		_, _ = io.WriteString(rw, "hello")
		b := make([]byte, 5)
		if _, err := io.ReadFull(rw, b); err != nil || string(b) != "hello" || time.Since(begun) > time.Second {
			t.Errorf("%q, %v after %v", b, err, time.Since(begun))
		}
	})
}

// TestAnOldRefusalIsNotTheLastWord: what became of the last attempt counts, not
// what an earlier one was answered.
func TestAnOldRefusalIsNotTheLastWord(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"429": func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusTooManyRequests) },
		"not sent": func(rw http.ResponseWriter) {
			rw.Header().Set(retryhttp.HeaderVerdict, "not-sent")
			rw.WriteHeader(http.StatusServiceUnavailable)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
				if n.Add(1) == 1 {
					answer(rw)
					return
				}
				conn, _, _ := rw.(http.Hijacker).Hijack() // done, and the answer lost
				_ = conn.Close()
			})
			resp, err := w.rt.RoundTrip(post(t.Context(), t, strings.NewReader("run")))
			e, _ := errors.AsType[*retry.Error](err)
			if e == nil || e.Reason != retry.Unclear || !e.Sent {
				t.Errorf("%s: the second request may have taken effect, but got %v, %v", name, resp, err)
			}
		})
	}
}

// TestPromise3RetryAfter: a crowd gives up although each 503 asks for more time.
func TestPromise3RetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "1")
			rw.WriteHeader(http.StatusServiceUnavailable)
		})
		begun := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { _, _ = w.do(t.Context(), http.MethodGet, "") })
		}
		wg.Wait()
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("50 callers gave up after %v and %d requests", took, len(w.arrivals()))
		}
	})
}

// TestUploadIsASignOfLife: silence is not counted while a body is being sent.
func TestUploadIsASignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, ok)
		w.net.OnDial = func(client, _ *memnet.Conn) { client.SetLatency(time.Millisecond) }
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+addr+"/", nil)
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(&drip{left: 20}), nil }
		r.Body, _ = r.GetBody()
		r.ContentLength = -1
		resp, err := w.rt.RoundTrip(r)
		if err != nil {
			t.Fatalf("an upload of 20 s: %v", err)
		}
		_ = resp.Body.Close()
	})
}

// drip gives one byte a second.
type drip struct{ left int }

func (d *drip) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Second)
	d.left--
	p[0] = 'x'
	return 1, nil
}

// TestPromise2Nested: calls inside calls through one gate.
func TestPromise2Nested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, ok)
		gate := new(retry.Gate)
		w.rt.Policy.Gate = gate
		w.net.Set(memnet.Refuse)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				_, _ = retry.Do(t.Context(), retry.Policy{Gate: gate}, func(ctx context.Context, _ retry.Attempt) (string, error) {
					return w.do(ctx, http.MethodGet, "")
				})
			})
		}
		wg.Wait()
		var dials []time.Time
		for _, d := range w.net.Dials() {
			dials = append(dials, d.At)
		}
		if most := memnet.Busiest(dials, time.Second); most > 5 {
			t.Errorf("%d connection attempts in a second, %d in all", most, len(dials))
		}
	})
}

// TestPromise3Nested: a silent server ends a call inside a call too.
func TestPromise3Nested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, ok)
		gate := new(retry.Gate)
		w.rt.Policy.Gate = gate
		w.net.Set(memnet.Stall)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begun := time.Now()
		_, err := retry.Do(ctx, retry.Policy{Gate: gate}, func(ctx context.Context, _ retry.Attempt) (string, error) {
			return w.do(ctx, http.MethodGet, "")
		})
		if took := time.Since(begun); took > 2*time.Minute {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestPromise9Body: a cancelled context ends a call whose body does not come.
func TestPromise9Body(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, ok)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		body, feed := io.Pipe()
		time.AfterFunc(time.Minute, func() { _ = feed.Close() })
		begun := time.Now()
		_, err := w.rt.RoundTrip(post(ctx, t, body))
		if took := time.Since(begun); took > time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestOwnMistakesCloseNoGate: a request that net/http refuses to send says nothing
// about its destination, and another attempt cannot help.
func TestOwnMistakesCloseNoGate(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, ok)
			r, _ := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/", nil)
			r.Header["Bad"] = []string{"a\nb"}
			begun := time.Now()
			_, err := w.rt.RoundTrip(r)
			e, _ := errors.AsType[*retry.Error](err)
			if e == nil || e.Reason != retry.Hopeless || e.Sent {
				t.Errorf("%s: %v", method, err)
			}
			if took := time.Since(begun); took != 0 {
				t.Errorf("%s: took %v", method, took)
			}
			begun = time.Now()
			if _, err := w.do(t.Context(), http.MethodGet, ""); err != nil || time.Since(begun) > 100*time.Millisecond {
				t.Errorf("%s: the next caller waited %v: %v", method, time.Since(begun), err)
			}
		})
	}
}

// TestHealthyServerShortDeadlines: nothing failed, so nobody fails at once.
func TestHealthyServerShortDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Millisecond)
			ok(rw, r)
		})
		var wg sync.WaitGroup
		var failed atomic.Int32
		for range 10 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if _, err := w.do(ctx, http.MethodGet, ""); err != nil {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if n := failed.Load(); n > 0 {
			t.Errorf("%d of 10 calls failed on a server that answers in 10 ms", n)
		}
	})
}

// TestNoDialInSecret: PUT without a body, on a pooled connection that is dead.
func TestNoDialInSecret(t *testing.T) {
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, ok)
			var broken atomic.Bool
			w.rt.Base = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := w.net.DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &brokenConn{c, &broken}, nil
			}}
			if _, err := w.do(t.Context(), method, ""); err != nil {
				t.Fatal(err)
			}
			broken.Store(true)
			time.AfterFunc(10*time.Millisecond, func() { broken.Store(false) })
			before := len(w.net.Dials())
			begun := time.Now()
			r, _ := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/", nil)
			resp, err := w.rt.RoundTrip(r)
			if err != nil {
				t.Fatal(method, err)
			}
			_ = resp.Body.Close()
			for _, d := range w.net.Dials()[before:] {
				if gap := d.At.Sub(begun); gap < 250*time.Millisecond {
					t.Errorf("%s: dialled again after %v, not on the schedule", method, gap)
				}
			}
		})
	}
}

// TestBaseDialCounts: the older form of DialContext too.
func TestBaseDialCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, ok)
		var used atomic.Bool
		w.rt.Base = &http.Transport{Dial: func(network, addr string) (net.Conn, error) { //nolint:staticcheck // people still set it
			used.Store(true)
			return w.net.DialContext(context.Background(), network, addr)
		}}
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/", nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		resp, err := w.rt.RoundTrip(r.WithContext(ctx))
		if err == nil {
			_ = resp.Body.Close()
		}
		if !used.Load() {
			t.Errorf("Base.Dial was not used: %v", err)
		}
	})
}

// TestNoURL: RoundTrip returns an error and closes the body, and does not panic.
func TestNoURL(t *testing.T) {
	body := &closeSpy{ReadCloser: io.NopCloser(strings.NewReader("x"))}
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic: %v", p)
		}
	}()
	_, err := new(retryhttp.Transport).RoundTrip((&http.Request{Method: http.MethodPost, Body: body}).WithContext(t.Context()))
	if err == nil || !body.closed.Load() {
		t.Errorf("%v, closed %v", err, body.closed.Load())
	}
}

// TestPromise3Drip: a 503 whose body never ends holds nobody.
func TestPromise3Drip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			rw.WriteHeader(http.StatusServiceUnavailable)
			for range 3600 {
				if _, err := io.WriteString(rw, "."); err != nil || r.Context().Err() != nil {
					return
				}
				rw.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		})
		begun := time.Now()
		_, err := w.do(t.Context(), http.MethodGet, "")
		if took := time.Since(begun); took > 2*time.Minute {
			t.Errorf("%v after %v and %d requests", err, took, len(w.arrivals()))
		}
	})
}

// TestDeadPoolIsFlushed: a copy that wins on a fresh connection tells that the
// pooled ones are dead.
func TestDeadPoolIsFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Millisecond)
			ok(rw, r)
		})
		w.rt.Base = &http.Transport{DialContext: w.net.DialContext, MaxIdleConnsPerHost: 20}
		w.rt.Policy.Gate = &retry.Gate{Unproven: 20}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _, _ = w.do(t.Context(), http.MethodGet, "") })
		}
		wg.Wait()
		time.Sleep(time.Second)
		w.net.Set(memnet.Forget)
		time.AfterFunc(900*time.Millisecond, func() { w.net.Set(memnet.Healthy) })
		if _, err := w.do(t.Context(), http.MethodGet, ""); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, err := w.do(t.Context(), http.MethodPost, "run")
		if took := time.Since(begun); err != nil || took > time.Second {
			t.Errorf("a POST after the outage: %v after %v", err, took)
		}
	})
}

// TestPromise9DialTLS: a dialler of the caller's own ends with the attempt.
func TestPromise9DialTLS(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		synctest.Test(t, func(t *testing.T) {
			left := make(chan struct{})
			defer close(left) // nothing else would end it
			var ended, begun atomic.Int32
			rt := &retryhttp.Transport{Base: &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				begun.Add(1)
				defer ended.Add(1)
				select {
				case <-ctx.Done():
				case <-left:
				}
				return nil, ctx.Err()
			}}}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			r, _ := http.NewRequestWithContext(ctx, method, "https://"+addr+"/", nil)
			_, err := rt.RoundTrip(r)
			time.Sleep(time.Hour)
			if ended.Load() != begun.Load() {
				t.Errorf("%s: %d of %d dials outlived their call by an hour: %v", method, begun.Load()-ended.Load(), begun.Load(), err)
			}
		})
	}
}

// TestCancelledCallsAskNothing: a call whose context has ended uses up no send.
func TestCancelledCallsAskNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, ok)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 3 {
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
			_, err := w.rt.RoundTrip(r)
			if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Sent || e.Attempts != 0 {
				t.Errorf("%+v", err)
			}
		}
		begun := time.Now()
		if _, err := w.do(t.Context(), http.MethodGet, ""); err != nil || time.Since(begun) > 100*time.Millisecond {
			t.Errorf("the next call took %v: %v", time.Since(begun), err)
		}
	})
}
