package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/retryhttp"
)

// crowd has callers ask for many different things at the same time.
func crowd(w *world, callers int) []answer {
	answers := make([]answer, callers)
	ids := []string{w.caller.submit(nap), w.caller.submit(nap)}
	time.Sleep(10 * time.Second) // idle connections are gone
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			time.Sleep(time.Duration(i) * time.Millisecond)
			ctx, call := w.Context(), w.caller
			switch i % 5 {
			case 0:
				answers[i] = call.get(fmt.Sprintf("/tasks?n=%d", i))
			case 1:
				answers[i] = call.get("/worker/state")
			case 2:
				answers[i] = call.ask(ctx, "POST", "/tasks", nap)
			case 3:
				answers[i] = call.get(fmt.Sprintf("/docs?n=%d", i))
			case 4:
				answers[i] = call.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+ids[i%2]+`"}`)
			}
		})
	}
	all.Wait()
	return answers
}

// TestPromise2: in an outage of ten seconds the server gets at most five requests in any
// second from a thousand callers together. With a wait of thirty seconds all of them are
// answered, the last half a second after the first; without, all are told that it is
// away, once they have waited for two seconds and soon after that (promise 3).
func TestPromise2(t *testing.T) {
	for _, o := range outages()[:10] {
		for _, wait := range []time.Duration{0, 30 * time.Second} {
			callers := 1000
			if o.name != "black hole" && o.name != "503" && !everything() {
				callers = 200
			}
			t.Run(fmt.Sprintf("%s/%v", o.name, wait), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, func(w *world) {
						w.gateway.Wait = wait
						w.Network().Latency = 2500 * time.Microsecond // there and back 5 ms
					})
					w.caller.get("/environment")
					var begun, ended time.Time
					time.AfterFunc(9*time.Second, func() {
						begun = time.Now()
						o.begin(w)
					})
					time.AfterFunc(19500*time.Millisecond, func() {
						ended = time.Now()
						o.end(w)
					})
					answers := crowd(w, callers)
					var sends []time.Time
					count := func(at time.Time) {
						if !at.Before(begun) && (ended.IsZero() || at.Before(ended)) {
							sends = append(sends, at)
						}
					}
					if strings.HasPrefix(o.name, "50") { // the network is well
						for _, x := range w.Exchanges() {
							count(x.Time)
						}
					} else {
						for _, d := range w.Network().Dials() {
							count(d.At)
						}
					}
					if most := memnet.Busiest(sends, time.Second); most > 5 || len(sends) == 0 {
						t.Errorf("%d in a second, %d in all", most, len(sends))
					}
					words := map[string]int{}
					for i, a := range answers {
						words[fmt.Sprint(a.status, verdict(a))]++
						if err := isDue(i, a, o.name, wait); err != nil {
							t.Errorf("caller %d: %v after %v: %v", i, a, a.took, err)
						}
					}
					first := slices.MinFunc(answers, func(a, b answer) int { return a.at.Compare(b.at) }).at
					last := slices.MaxFunc(answers, func(a, b answer) int { return a.at.Compare(b.at) }).at
					if spread := last.Sub(first); wait > 0 && spread > 500*time.Millisecond {
						t.Errorf("the last caller is released %v after the first", spread)
					}
					if len(w.Runs()) > 2 {
						t.Errorf("%d runs", len(w.Runs()))
					}
					took := func(a, b answer) int { return int(a.took - b.took) }
					t.Logf("%v after %v to %v, within %v, %d sends", words, slices.MinFunc(answers, took).took,
						slices.MaxFunc(answers, took).took, last.Sub(first), len(sends))
				})
			})
		}
	}
}

// isDue says what is wrong with an answer that a caller of the crowd got.
func isDue(i int, a answer, outage string, wait time.Duration) error {
	switch {
	case a.err != nil:
		return a.err
	case wait > 0 || outage == "stall" || outage == "frozen": // which are shorter than is waited for an answer
		if a.status >= 500 {
			return errors.New("not saved")
		}
		return nil
	case outage == "502" && a.status == 502 && i%5 == 3: // of a path that is not known, as it came
	case a.status != 503 && a.status != 504 || verdict(a) == "withdrawn":
		return errors.New("not told that the server is away")
	}
	most := 2030*time.Millisecond + 1270*time.Millisecond + 30*time.Millisecond // the window, the longest pace, and the network
	if outage == "black hole" || outage == "forget" {
		most += 3 * retryhttp.ConnectLimit // of two attempts of its own, and of the one that it waited for
	}
	least := 2030 * time.Millisecond
	if i%5 == 4 { // joined to a start that was asked for up to a second before
		least -= time.Second
	}
	if a.took < least || a.took > most {
		return fmt.Errorf("not from %v to %v", least, most)
	}
	return nil
}

// TestMerged: callers who read the same at the same time share answers, none of which
// is older than the question.
func TestMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.caller.get("/environment")
		w.Inject(sim.When(sim.Request("GET", "/plans"), sim.Delay(200*time.Millisecond)))
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if a := w.caller.get("/plans"); a.status != 200 || a.took > 500*time.Millisecond {
					t.Errorf("%v after %v", a.status, a.took)
				}
			})
		}
		all.Wait()
		if n := w.asked("GET", "/plans"); n < 2 || n > 4 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestMergedIsNotOlder: who reads after something was done sees it, though a read from
// before is still under way.
func TestMergedIsNotOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.caller.submit(nap)
		w.Inject(sim.When(sim.Request("GET", "/tasks/*"), sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			a := next()
			time.Sleep(500 * time.Millisecond)
			return a
		})))
		var early sync.WaitGroup
		early.Go(func() {
			if task, _ := w.caller.read(id); !task.IsPending {
				t.Errorf("%+v", task)
			}
		})
		time.Sleep(100 * time.Millisecond)
		if a := w.caller.ask(t.Context(), "DELETE", "/tasks/"+id, ""); a.status != 200 {
			t.Error(a)
		}
		if _, status := w.caller.read(id); status != 404 {
			t.Errorf("a deleted task is %d", status)
		}
		early.Wait()
	})
}

// TestMergedOutlivesItsFirst: the read goes on for the others when its first caller
// leaves, and ends when all have.
func TestMergedOutlivesItsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.caller.get("/environment")
		w.Network().Set(memnet.BlackHole)
		time.AfterFunc(time.Second, func() { w.Network().Set(memnet.Healthy) })
		var all sync.WaitGroup
		for i, patience := range []time.Duration{100 * time.Millisecond, time.Minute, 300 * time.Millisecond, time.Minute} {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if a := w.caller.ask(ctx, "GET", "/plans", ""); (a.status == 200) != (patience == time.Minute) {
					t.Errorf("%d: %v", i, a)
				}
			})
		}
		all.Wait()
		w.Network().Set(memnet.BlackHole)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		w.caller.ask(ctx, "GET", "/devices", "")
		time.Sleep(100 * time.Millisecond)
		dials := len(w.Network().Dials())
		time.Sleep(time.Minute)
		if n := len(w.Network().Dials()) - dials; n != 0 {
			t.Errorf("%d dials for nobody", n)
		}
	})
}

// TestCredentials: callers with different credentials share no answer, and all that is
// asked for a caller bears the caller's own.
func TestCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const token = "Bearer good"
		w := newWorld(t, func(w *world) { w.Token, w.gateway.Aliases = "good", true })
		w.Inject(sim.When(sim.Request("GET", "/plans"), sim.Delay(100*time.Millisecond)))
		var all sync.WaitGroup
		for range 5 {
			for auth, status := range map[string]int{token: 200, "Bearer bad": 401, "": 401} {
				all.Go(func() {
					var headers []string
					if auth != "" {
						headers = []string{"Authorization", auth}
					}
					if a := w.caller.get("/plans", headers...); a.status != status {
						t.Errorf("%q: %v", auth, a)
					}
				})
			}
			all.Go(func() {
				if a := w.caller.get("/plans", "Cookie", "Authorization="+token); a.status != 200 {
					t.Errorf("cookie: %v", a)
				}
			})
		}
		all.Wait()

		id := w.caller.submit(nap, "Authorization", token)
		w.Inject(sim.When(put(), sim.First(1, sim.LoseRequest(sim.Reset))))
		for i, auth := range []string{"Bearer bad", token, "Bearer bad"} {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond)
				if a := w.caller.start(id, "Authorization", auth); (a.status == 200) != (auth == token) || auth != token && a.status != 401 {
					t.Errorf("%s: %v", auth, a)
				}
			})
		}
		all.Wait()
		if a := w.caller.state("ABORTING"); a.status != 401 {
			t.Error(a)
		}
		if a := w.caller.state("ABORTING", "Authorization", token); a.status != 202 {
			t.Error(a)
		}
		if a := w.caller.ask(t.Context(), "DELETE", "/environment", ""); a.status != 401 {
			t.Error(a)
		}
		if n := len(w.Runs()); n != 1 {
			t.Errorf("%d runs", n)
		}
		good, bad := 0, 0
		for _, x := range w.Exchanges() {
			switch x.Header.Get("Authorization") {
			case token:
				good++
			case "Bearer bad":
				bad++
			default:
				if x.Header.Get("Cookie") == "" && x.Status != 401 && x.Status != 0 {
					t.Errorf("%s %s without credentials: %d", x.Method, x.URL, x.Status)
				}
			}
		}
		if good < 15 || bad > 10 {
			t.Errorf("%d with the token, %d with the bad one", good, bad)
		}
	})
}

// TestWaitingCallersAreLimited: who comes when too many wait is told so at once; an
// abort is let in.
func TestWaitingCallersAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.gateway.MaxWaiting = 3 })
		id := w.caller.submit(longNap)
		if a := w.caller.start(id); a.status != 200 {
			t.Fatal(a)
		}
		w.Inject(sim.When(sim.Request("GET", "/plans/*"), sim.Delay(5*time.Second)))
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				if a := w.caller.get(fmt.Sprintf("/plans/nap?%d", i)); a.status != 200 {
					t.Error(a)
				}
			})
		}
		time.Sleep(time.Second)
		if s := w.gateway.Status(); s.Callers != 3 {
			t.Errorf("%+v", s)
		}
		a := w.caller.get("/devices")
		if a.status != 503 || verdict(a) != "not-sent" || a.took > 10*time.Millisecond || !strings.Contains(detailOf(t, a), "3 callers") {
			t.Errorf("%v after %v", a, a.took)
		}
		if a := w.caller.state("ABORTING"); a.status != 202 {
			t.Error(a)
		}
		all.Wait()
		if a := w.caller.get("/devices"); a.status != 200 {
			t.Error(a)
		}
	})
}

// TestDrain: callers who are here are served, new ones are not.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.Inject(sim.When(sim.Request("GET", "/plans"), sim.Delay(5*time.Second)))
		var here sync.WaitGroup
		here.Go(func() {
			if a := w.caller.get("/plans"); a.status != 200 {
				t.Error(a)
			}
		})
		time.Sleep(time.Second)
		w.gateway.Drain()
		if a := w.caller.get("/healthz"); a.status != http.StatusServiceUnavailable || verdict(a) != "not-sent" {
			t.Error(a)
		}
		if s := w.gateway.Status(); !s.Draining {
			t.Errorf("%+v", s)
		}
		here.Wait()
	})
}
