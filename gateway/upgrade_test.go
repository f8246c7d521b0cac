package gateway_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestOfferedUpgrade: Java's HttpClient offers HTTP/2 with its requests, and they are as
// well looked after as any; the server is not made the offer.
func TestOfferedUpgrade(t *testing.T) {
	for _, offer := range [][]string{
		{"Upgrade", "h2c", "Connection", "Upgrade, HTTP2-Settings", "HTTP2-Settings", "AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA"},
		{"Upgrade", "websocket"},
		{"Upgrade", "websocket", "Connection", "Upgrade"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			id := w.caller.submit(longNap, offer...)
			w.Inject(sim.When(put(), sim.First(1, sim.LoseAnswer(sim.Reset))))
			if a := w.caller.start(id, offer...); a.status != 200 || w.did("PUT", "/worker/task")[0].Op != "PUT /worker/task" {
				t.Errorf("%v: started: %v", offer, a)
			}
			time.Sleep(time.Second)
			if a := w.caller.state("ABORTING", offer...); a.status != 202 || w.did("PUT", "/worker/state")[0].Op != "PUT /worker/state" {
				t.Errorf("%v: aborted: %v", offer, a)
			}
			w.caller.ask(t.Context(), "GET", "/docs", "", offer[:2]...)
			w.caller.ask(t.Context(), "POST", "/unknown", "{}", offer...)
			for _, x := range w.Exchanges() {
				if x.Header.Get("Upgrade") != "" {
					t.Errorf("%s %s: the server was offered %q", x.Method, x.URL, x.Header.Get("Upgrade"))
				}
			}
		})
	}
}
