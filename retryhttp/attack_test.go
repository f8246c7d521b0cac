package retryhttp_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// TestPromise2Chaos: callers of all kinds, many of them impatient, and a network
// that fails in another way every 200 ms. In no second does the server get more
// than five requests, and three for each answer of that second or of one round
// trip before.
func TestPromise2Chaos(t *testing.T) {
	faults := []memnet.Fault{
		memnet.Healthy, memnet.Refuse, memnet.Kill, memnet.Reset, memnet.BlackHole, memnet.Forget, memnet.Stall,
	}
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			var mu sync.Mutex
			var answers, requests, dials []time.Time
			draw := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return rng.IntN(n)
			}
			w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
				status, hint := []int{200, 200, 503, 502, 500, 429}[draw(6)], draw(2) == 0
				time.Sleep(time.Duration(draw(300)) * time.Millisecond)
				if status == http.StatusServiceUnavailable && hint {
					rw.Header().Set("Retry-After", "1")
				}
				rw.WriteHeader(status)
			})
			gate := new(retry.Gate)
			trace := &retry.Trace{Attempted: func(_ context.Context, _ retry.AttemptInfo, r retry.Record) {
				if r.Verdict == retry.Succeeded || r.Verdict == retry.Rejected {
					mu.Lock()
					answers = append(answers, time.Now())
					mu.Unlock()
				}
			}}
			used := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
				mu.Lock()
				requests = append(requests, time.Now())
				mu.Unlock()
			}}
			kinds := make([]*retryhttp.Transport, 4)
			for i, p := range []retry.Policy{{}, {Wait: 20 * time.Second}, {Urgent: true}, {Attempts: 1}} {
				p.Gate, p.Trace = gate, trace
				kinds[i] = &retryhttp.Transport{Base: &http.Transport{DialContext: w.net.DialContext}, Policy: p}
				defer kinds[i].CloseIdleConnections()
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for range 50 {
					w.net.Set(faults[draw(len(faults))])
					time.Sleep(200 * time.Millisecond)
				}
				w.net.Set(memnet.Healthy)
			})
			for i := range 600 {
				start := time.Duration(draw(10000)) * time.Millisecond
				limit := time.Minute
				if i%3 == 0 {
					limit = time.Duration(draw(2000)) * time.Millisecond
				}
				rt := kinds[draw(len(kinds))]
				method := []string{http.MethodGet, http.MethodPost, http.MethodPut}[draw(3)]
				wg.Go(func() {
					time.Sleep(start)
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					if i%2 == 0 { // no deadline that is known beforehand
						ctx, cancel = context.WithCancel(t.Context())
						time.AfterFunc(limit, cancel)
					}
					defer cancel()
					r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, used), method, "http://"+addr+"/", nil)
					if resp, err := rt.RoundTrip(r); err == nil {
						_ = resp.Body.Close()
					}
				})
			}
			begun := time.Now()
			wg.Wait()
			if took := time.Since(begun); took > 2*time.Minute {
				t.Errorf("seed %d: the last call ended after %v", seed, took)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, d := range w.net.Dials() {
				dials = append(dials, d.At)
			}
			// net/http may dial for a request that then takes a used connection, so
			// they are counted apart.
			for name, sends := range map[string][]time.Time{"requests": requests, "connections": dials} {
				if n := excess(sends, answers); n > 0 {
					t.Errorf("seed %d: %d %s too many in a second", seed, n, name)
				}
			}
		})
	}
}

// excess is by how much promise 2 is broken in the worst second.
func excess(sends, answers []time.Time) int {
	const roundTrip = 10 * time.Millisecond // generously
	worst := 0
	for _, from := range sends {
		n := -5
		for _, s := range sends {
			if d := s.Sub(from); d >= 0 && d < time.Second {
				n++
			}
		}
		for _, a := range answers {
			if d := a.Sub(from); d >= -roundTrip && d < time.Second {
				n -= 3
			}
		}
		worst = max(worst, n)
	}
	return worst
}

// TestPromise1Mixed: an outage of one second that changes its kind in the middle.
// One pool of connections that were all alive before it; two callers.
func TestPromise1Mixed(t *testing.T) {
	faults := []memnet.Fault{memnet.Refuse, memnet.Kill, memnet.Reset, memnet.BlackHole, memnet.Forget, memnet.Stall, -1}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, first := range faults {
		for _, second := range faults {
			for _, split := range []time.Duration{200, 500, 800} {
				for range 2 {
					offset := time.Duration(rng.IntN(1050)-1040) * time.Millisecond
					synctest.Test(t, func(t *testing.T) {
						var unavailable atomic.Bool
						w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
							time.Sleep(5 * time.Millisecond)
							if unavailable.Load() {
								rw.Header().Set("Retry-After", "1")
								rw.WriteHeader(http.StatusServiceUnavailable)
								return
							}
							ok(rw, r)
						})
						w.rt.Base = &http.Transport{DialContext: w.net.DialContext, MaxIdleConnsPerHost: 20}
						w.rt.Policy.Gate = new(retry.Gate)
						set := func(f memnet.Fault) {
							unavailable.Store(f == -1)
							w.net.Set(max(f, memnet.Healthy))
						}
						var warm sync.WaitGroup
						for range 20 {
							warm.Go(func() { _, _ = w.do(t.Context(), http.MethodGet, "") })
						}
						warm.Wait()
						time.Sleep(5 * time.Second)
						var wg sync.WaitGroup
						wg.Go(func() {
							time.Sleep(2*time.Second + offset)
							set(first)
							time.Sleep(split * time.Millisecond)
							set(second)
							time.Sleep(time.Second - split*time.Millisecond)
							set(memnet.Healthy)
						})
						time.Sleep(2 * time.Second)
						for _, method := range []string{http.MethodGet, http.MethodPut} {
							wg.Go(func() {
								begun := time.Now()
								_, err := w.do(t.Context(), method, map[string]string{http.MethodPut: "x"}[method])
								if took := time.Since(begun); err != nil || took > 13*time.Second {
									t.Errorf("%s, outage from %v, %v for %v ms, then %v: %v after %v", method, offset, first, int(split), second, err, took)
								}
							})
						}
						wg.Wait()
					})
				}
			}
		}
	}
}
