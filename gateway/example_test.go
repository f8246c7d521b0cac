package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
)

// A caller that knows nothing of retrying, and a server that a proxy hides for a moment.
func Example() {
	var server sim.Server
	defer server.Close()
	g := &gateway.Gateway{Upstream: "http://blueapi.example", Transport: &http.Transport{DialContext: server.DialContext}}
	defer g.Close()
	front := httptest.NewServer(g)
	defer front.Close()

	server.Inject(sim.First(1, sim.Status(503)))
	resp, err := front.Client().Get(front.URL + "/worker/state")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), "resends:", g.Status().Resends)
	// Output: 200 "IDLE" resends: 1
}
