package gateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/memnet"
)

// client is adamant's own, before the gateway.
func (w *world) client() *blueapi.Client {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return w.front.DialContext(ctx, network, w.addr)
	}
	c := &blueapi.Client{URL: "http://gateway.example", Transport: &http.Transport{DialContext: dial}}
	w.Cleanup(c.Close)
	return c
}

// second puts another gateway before the first, and callers before that.
func (w *world) second(aliases bool) {
	network := new(memnet.Network)
	network.Latency = latency
	addr := w.addr
	g := &gateway.Gateway{Upstream: "http://gateway.example", Aliases: aliases, Transport: &http.Transport{
		DialContext: func(ctx context.Context, n, _ string) (net.Conn, error) { return w.front.DialContext(ctx, n, addr) },
	}}
	w.addr = serve(w.T, network, g)
	w.caller = newCaller(w.T, network, w.addr)
	c := w.caller
	w.Cleanup(func() {
		c.http.CloseIdleConnections()
		g.Close()
	})
}

// TestNestedPromise1: an outage of a second surfaces in no call that comes through a
// gateway from a layer that retries too, be it a client or another gateway.
func TestNestedPromise1(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2))
	for _, o := range outages() {
		for name, kind := range map[string]func(w *world, c *blueapi.Client, id string) error{
			"plans": func(w *world, c *blueapi.Client, _ string) error { _, err := c.Plans(w.Context()); return err },
			"submit": func(w *world, c *blueapi.Client, _ string) error {
				_, err := c.SubmitTask(w.Context(), request)
				return err
			},
			"run": func(w *world, c *blueapi.Client, _ string) error { _, err := c.Run(w.Context(), request); return err },
			"second gateway/plans": func(w *world, _ *blueapi.Client, _ string) error {
				return wants(w.caller.get("/plans"), 200)
			},
			"second gateway/start": func(w *world, _ *blueapi.Client, id string) error { return wants(w.caller.start(id), 200) },
		} {
			t.Run(o.name+"/"+name, func(t *testing.T) {
				for at := -time.Second - 5*time.Millisecond; at <= 100*time.Millisecond; at += 5 * time.Millisecond {
					if !everything() && rng.IntN(60) != 0 {
						continue
					}
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, aliased)
						c := w.client()
						w.second(true)
						id := w.caller.submit(nap)
						outlast(t, w, o, 2*time.Second, at, func() error { return kind(w, c, id) })
						time.Sleep(2 * time.Minute)
						if n := len(w.Runs()); n > 1 {
							t.Errorf("from %v: the plan ran %d times", at, n)
						}
					})
				}
			})
		}
	}
}

var request = blueapi.TaskRequest{Name: "nap", Params: []byte(`{"seconds":0.5}`), InstrumentSession: "cm12345-1"}

// TestAttemptsDoNotMultiply: what layers of callers send at most to a server that is
// broken, in each way, is what one of them would.
func TestAttemptsDoNotMultiply(t *testing.T) {
	for name, fault := range map[string]sim.Fault{
		"502":         sim.Status(502),
		"lost":        sim.LoseRequest(sim.Reset),
		"answer lost": sim.LoseAnswer(sim.Reset),
		"text 500": func(*sim.Exchange, func() sim.Answer) sim.Answer {
			return sim.Answer{Status: 500, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte("Internal Server Error")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				c := w.client()
				w.second(false)
				w.caller.get("/environment")
				w.Inject(fault)
				before := len(w.Exchanges())
				if _, err := c.Plans(t.Context()); err == nil {
					t.Error("no error")
				}
				if n := len(w.Exchanges()) - before; n > 5 {
					t.Errorf("client behind a gateway: %d attempts", n)
				}
				before = len(w.Exchanges())
				if a := w.caller.get("/plans"); a.status < 500 {
					t.Error(a)
				}
				if n := len(w.Exchanges()) - before; n > 5 {
					t.Errorf("gateway behind a gateway: %d attempts", n)
				}
			})
		})
	}
	for _, f := range []memnet.Fault{memnet.Kill, memnet.BlackHole} {
		t.Run(f.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.second(false)
				w.caller.get("/environment")
				w.Network().Set(f)
				before := len(w.Network().Dials())
				if a := w.caller.get("/plans"); a.status != 503 {
					t.Error(a)
				}
				if n := len(w.Network().Dials()) - before; n > 5 {
					t.Errorf("%d dials", n)
				}
			})
		})
	}
}

// TestNestedPromise5: a client's runs through a gateway are made at most once, and told
// of truthfully, whatever becomes of any two requests, before the gateway or behind it.
func TestNestedPromise5(t *testing.T) {
	n := 150
	if everything() {
		n = 5000
	}
	words := map[string]int{}
	for seed := range uint64(n) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 6))
			w := newWorld(t, func(w *world) { w.gateway.Aliases = seed%2 == 0 })
			c := w.client()
			if _, err := c.Plans(t.Context()); err != nil {
				t.Fatal(err)
			}
			var names []string
			for range 1 + rng.IntN(2) {
				name, f := startFaults(rng)
				names = append(names, name)
				w.Inject(sim.Nth(1+rng.IntN(14), f))
			}
			name, f := startFaults(rng)
			w.Inject(sim.When(put(), sim.Nth(1, f)))
			names = append(names, name)
			if rng.IntN(3) == 0 { // between client and gateway
				at := time.Duration(rng.IntN(200)) * time.Millisecond
				time.AfterFunc(at, func() { w.front.ResetConns("") })
			}
			plan := request
			if rng.IntN(2) == 0 {
				plan.Name, plan.Params = "slow_start", []byte(`{"seconds":6}`)
			}
			result, err := c.Run(t.Context(), plan)
			time.Sleep(10 * time.Minute)
			runs := len(w.Runs())
			words[result.Word.String()]++
			if runs > 1 || result.Word == blueapi.Done && runs != 1 || result.Word == blueapi.NotStarted && runs != 0 || result.Word == 0 {
				t.Errorf("seed %d: %v: %v, %v, and %d runs", seed, names, result.Word, err, runs)
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Log(words)
}

// TestBusyThroughGateway: a client that retries by itself is told what the server says,
// and its task left to it.
func TestBusyThroughGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, aliased)
		id := w.caller.submit(longNap)
		if a := w.caller.start(id); a.status != 200 {
			t.Fatal(a)
		}
		result, err := w.client().Run(t.Context(), request)
		if result.Reason != blueapi.Busy {
			t.Errorf("%+v, %v", result, err)
		}
		if s := w.gateway.Status(); s.Aliases != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestBesideOneWhoRetries: a caller who retries is left to find out what became of its
// start; one who does not is told, and nothing is sent for it that was sent before.
func TestBesideOneWhoRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.caller.submit(nap)
		w.Inject(sim.When(put(), sim.First(1, sim.LoseRequest(sim.Silence))))
		var other sync.WaitGroup
		other.Go(func() {
			a := w.caller.start(id, "Retry-Layer", "adamant;call=1")
			if a.status != 504 || verdict(a) != "unknown" || a.took > 16*time.Second {
				t.Errorf("%v after %v", a, a.took)
			}
		})
		time.Sleep(100 * time.Millisecond)
		if a := w.caller.start(id); a.status != 503 || verdict(a) != "withdrawn" {
			t.Errorf("%v (%s)", a, verdict(a))
		}
		other.Wait()
		if n := w.asked("PUT", "/worker/task"); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestNestedSession: adamant's own client, when it is told to use a WebSocket, has its plan
// run once through a gateway, whatever befalls a request to the server, and knows how it
// ended.
func TestNestedSession(t *testing.T) {
	for strike := range strikes(nil) {
		for k := 1; k <= 14; k++ {
			if strike == "broker restarted" || !everything() && rand.IntN(8) != 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s request %d", strike, k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, brokered)
					w.Inject(sim.Nth(k, strikes(w)[strike]))
					result, err := w.client().RunWebSocket(t.Context(), request)
					time.Sleep(10 * time.Minute)
					runs := len(w.Runs())
					if runs > 1 || result.Word == blueapi.Done && runs != 1 || result.Word == blueapi.NotStarted && runs != 0 {
						t.Errorf("%v: %d runs", result.Word, runs)
					}
					if result.Word != blueapi.Done && !strings.HasPrefix(strike, "restarted") {
						t.Errorf("%v: %v", result.Word, err)
					}
				})
			})
		}
	}
}
