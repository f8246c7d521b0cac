package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

const page = "http://ui.example"

// mayRead holds whether a page of an origin may read an answer, and what it says of the
// gateway's.
func mayRead(t *testing.T, a answer, status int, allowed string) {
	t.Helper()
	exposed := a.header.Get("Access-Control-Expose-Headers")
	for _, key := range []string{"Adamant-Verdict", "Adamant-Warning", "Retry-After"} {
		if strings.Contains(exposed, key) != (allowed != "") {
			t.Errorf("exposed: %q", exposed)
		}
	}
	if got := a.header.Get("Access-Control-Allow-Origin"); a.err != nil || a.status != status || got != allowed {
		t.Errorf("%.200v, for %q, want %d for %q", a, got, status, allowed)
	}
}

// TestOwnAnswersAreRead: a page that the server lets read may read the gateway's own
// answers too, and no other page.
func TestOwnAnswersAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.gateway.Wait = time.Second })
		w.Inject(listed(page))
		other := []string{"Origin", "http://evil.example"}
		mine := []string{"Origin", page}
		id := w.caller.submit(nap, mine...)
		w.caller.get("/plans", other...)
		w.Network().Set(memnet.Kill)
		for _, ask := range []func(headers ...string) answer{
			func(h ...string) answer { return w.caller.get("/plans", h...) },
			func(h ...string) answer { return w.caller.get("/nonesuch", h...) },
			func(h ...string) answer { return w.caller.start(id, h...) },
			func(h ...string) answer { return w.caller.state("ABORTING", h...) },
			func(h ...string) answer { return w.caller.ask(t.Context(), "DELETE", "/environment", "", h...) },
		} {
			mayRead(t, ask(mine...), 503, page)
			mayRead(t, ask(other...), 503, "")
			mayRead(t, ask(), 503, "")
		}
		w.Network().Set(memnet.Healthy)
		w.caller.get("/plans") // the outage is over
		w.gateway.Drain()
		mayRead(t, w.caller.get("/plans", mine...), 503, page)
		mayRead(t, w.caller.get("/plans", other...), 503, "")
	})
}

// TestOwnVerdictsAreRead: a page sees that nobody knows what became of its plan, and that
// the worker is busy.
func TestOwnVerdictsAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.gateway.Wait = time.Second })
		w.Inject(listed(page))
		mine := []string{"Origin", page}
		first, second := w.caller.submit(longNap, mine...), w.caller.submit(nap, mine...)
		w.caller.start(first, mine...)
		mayRead(t, w.caller.start(second, mine...), 409, page)
		w.caller.state("ABORTING", mine...)
		w.caller.await(first)
		time.Sleep(time.Second)
		w.Inject(sim.When(put(), func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.Network().Set(memnet.Reset)
			return sim.Answer{End: sim.Reset}
		}))
		a := w.caller.start(second, mine...)
		mayRead(t, a, 504, page)
		if a.header.Get("Adamant-Verdict") != "unknown" {
			t.Errorf("%v", a.header)
		}
	})
}

// TestPermissions: what the server said last counts, be it to a preflight; a proxy before
// it says nothing; and the pages of which is known are not without number.
func TestPermissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var allow, foreign bool
		e := newEcho(t, "http://blueapi.example", func(w http.ResponseWriter, r *http.Request) {
			if allow && r.Header.Get("Origin") != "" {
				w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
				w.Header().Set("Access-Control-Allow-Credentials", "true")
				w.Header().Set("Access-Control-Allow-Methods", "PUT")
				w.Header().Set("Vary", "Origin")
			}
			if foreign || r.Method == http.MethodOptions {
				w.Header().Del("X-Blueapi-Version")
			}
			fmt.Fprint(w, "{}")
		})
		e.gateway.MaxBody = 10
		own := func(origin string) answer { // is not asked of the server
			return e.caller.ask(t.Context(), "POST", "/tasks", nap, "Origin", origin)
		}
		mayRead(t, own(page), 413, "")
		allow = true
		e.caller.ask(t.Context(), "OPTIONS", "/worker/task", "", "Origin", page, "Access-Control-Request-Method", "PUT")
		a := own(page)
		mayRead(t, a, 413, page)
		if h := a.header; h.Get("Vary") != "Origin" || h.Get("Access-Control-Allow-Credentials") != "true" || h.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("%v", h)
		}
		allow, foreign = false, true
		e.caller.get("/plans", "Origin", page)
		mayRead(t, own(page), 413, page)
		foreign = false
		e.caller.get("/plans", "Origin", page)
		mayRead(t, own(page), 413, "")
		allow = true
		for i := range 65 {
			e.caller.get("/plans", "Origin", fmt.Sprint(page, i))
		}
		mayRead(t, own(page+"0"), 413, "")
		mayRead(t, own(page+"1"), 413, page+"1")
		mayRead(t, own(page+"64"), 413, page+"64")
	})
}

// TestMergedByOrigin: pages of several origins that read the same do not get each other's
// answers, which say who may read them; those of one do.
func TestMergedByOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho(t, "http://blueapi.example", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Millisecond)
			if origin := r.Header.Get("Origin"); origin != "" {
				w.Header().Set("Access-Control-Allow-Origin", origin)
				w.Header().Set("Vary", "Origin")
			}
			fmt.Fprint(w, "{}")
		})
		var all sync.WaitGroup
		for range 4 {
			for _, origin := range []string{"", page, "http://other.example"} {
				all.Go(func() {
					var h []string
					vary := ""
					if origin != "" {
						h, vary = []string{"Origin", origin}, "Origin"
					}
					a := e.caller.get("/plans", h...)
					if got := a.header.Get("Access-Control-Allow-Origin"); a.status != 200 || got != origin || a.header.Get("Vary") != vary {
						t.Errorf("%v: %v to %q", a, a.header, origin)
					}
				})
			}
		}
		all.Wait()
		if n := len(e.seen); n > 6 { // one for those who had asked, one for the others
			t.Errorf("%d requests", n)
		}
	})
}
