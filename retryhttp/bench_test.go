package retryhttp_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// stub takes the request body as a transport must, and returns a canned 200.
type stub struct{}

var stubHeader = http.Header{"Content-Type": {"text/plain"}}

func (stub) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: stubHeader, Body: http.NoBody, Request: r,
	}, nil
}

// BenchmarkGET compares a call that succeeds at its first attempt with the same
// call by a plain http.Client.
func BenchmarkGET(b *testing.B) {
	for name, rt := range map[string]http.RoundTripper{"plain": stub{}, "adamant": &retryhttp.Transport{Base: stub{}}} {
		client := &http.Client{Transport: rt}
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		newRequest := func() *http.Request {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://peer.test/v1/thing?x=1", nil)
			if err != nil {
				b.Fatal(err)
			}
			return r
		}
		do := func(r *http.Request) {
			resp, err := client.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		b.Run(name+"/1", func(b *testing.B) {
			b.ReportAllocs()
			r := newRequest()
			for b.Loop() {
				do(r)
			}
		})
		b.Run(name+"/16", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8) // times two processors
			b.RunParallel(func(pb *testing.PB) {
				r := newRequest()
				for pb.Next() {
					do(r)
				}
			})
		})
	}
}

// BenchmarkPOST shows that a body that can be had again is not copied.
func BenchmarkPOST(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 1<<20)
	for name, rt := range map[string]http.RoundTripper{"plain": stub{}, "adamant": &retryhttp.Transport{Base: stub{}}} {
		client := &http.Client{Transport: rt}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://peer.test/v1/thing", bytes.NewReader(payload))
				if err != nil {
					b.Fatal(err)
				}
				resp, err := client.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				_ = resp.Body.Close()
			}
		})
	}
}

// BenchmarkWaiting measures the memory of a caller that waits at the gate, its
// goroutine's stack and net/http's share included.
func BenchmarkWaiting(b *testing.B) {
	const callers = 10_000
	for b.Loop() {
		refuse := roundTripper(func(r *http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		})
		client := &http.Client{Transport: &retryhttp.Transport{Base: refuse, Policy: retry.Policy{Wait: time.Hour}}}
		ctx, cancel := context.WithCancel(b.Context())
		before := memory()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://peer.test/v1/thing?x=1", nil)
				if err == nil {
					_, err = client.Do(r)
				}
				if err == nil {
					b.Error("a call succeeded")
				}
			})
		}
		for runtime.NumGoroutine() < callers {
			runtime.Gosched()
		}
		b.ReportMetric(float64(memory()-before)/callers, "B/caller")
		cancel()
		wg.Wait()
	}
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestFastPathAllocations: a call that succeeds at once costs two allocations more
// than a plain one: itself, and net/http's copy of the request.
func TestFastPathAllocations(t *testing.T) {
	allocations := func(rt http.RoundTripper) float64 {
		client := &http.Client{Transport: rt}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://peer.test/v1/thing?x=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		return testing.AllocsPerRun(200, func() {
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		})
	}
	if plain, ours := allocations(stub{}), allocations(&retryhttp.Transport{Base: stub{}}); ours > plain+2 {
		t.Errorf("%v allocations, %v of a plain client", ours, plain)
	}
}
