package blueapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// A plan is run while the answer to the request that starts it is lost.
func ExampleClient_Run() {
	var server sim.Server // in the place of a real one
	defer server.Close()
	server.Inject(sim.When(sim.Request("PUT", "/worker/task"), sim.LoseAnswer(sim.Reset)))

	c := &blueapi.Client{Transport: &http.Transport{DialContext: server.DialContext}}
	defer c.Close()
	result, err := c.Run(context.Background(), blueapi.TaskRequest{
		Name: "returns", Params: json.RawMessage(`{"value":42}`), InstrumentSession: "cm12345-1",
	})
	fmt.Println(result.Word, string(result.Outcome.Result), err)
	fmt.Println("runs on the server:", len(server.Runs()))
	// Output:
	// done 42 <nil>
	// runs on the server: 1
}

// An error tells whether it is safe to run the plan again.
func ExampleRunError() {
	var server sim.Server
	defer server.Close()
	c := &blueapi.Client{Transport: &http.Transport{DialContext: server.DialContext}}
	defer c.Close()

	_, err := c.Run(context.Background(), blueapi.TaskRequest{Name: "nonesuch", InstrumentSession: "cm12345-1"})
	if e, ok := errors.AsType[*blueapi.RunError](err); ok && e.Word == blueapi.NotStarted {
		fmt.Println("safe to run again:", e)
	}
	// Output:
	// safe to run again: plan nonesuch was not started: the server refused it: POST /tasks: 404 Not Found: Item not found
}

func ExampleClient_Plan() {
	var server sim.Server
	defer server.Close()
	c := &blueapi.Client{Transport: &http.Transport{DialContext: server.DialContext}}
	defer c.Close()

	plan, err := c.Plan(context.Background(), "nap")
	fmt.Println(plan.Name, err)
	// Output: nap <nil>
}
