package sim_test

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/adamant-go/adamant/blueapi/sim"
)

func Example() {
	var s sim.Server
	defer s.Close()
	s.Inject(sim.Nth(1, sim.LoseAnswer(sim.Reset)))

	tr := &http.Transport{DialContext: s.DialContext}
	defer tr.CloseIdleConnections()
	c := http.Client{Transport: tr}
	for range 2 {
		resp, err := c.Post("http://blueapi/tasks", "application/json",
			strings.NewReader(`{"name":"nap","params":{"seconds":1},"instrument_session":"cm12345-1"}`))
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	fmt.Println(len(s.Exchanges()), "requests")
	// Output:
	// no answer
	// 201 Created
	// 2 requests
}
