package blueapi

import (
	"context"
	"encoding/json"
)

// Environment is one life of the server's worker: its plans, devices and
// tasks. The server makes a new one, with a new id, at every start and every
// reload; tasks do not survive it.
type Environment struct {
	// ID changes with every start of the server and every reload.
	ID string `json:"environment_id"`
	// Initialized is false while the worker starts, and when loading failed.
	Initialized bool `json:"initialized"`
	// ErrorMessage says why loading failed. A server that lost its broker at
	// start reports that here and still runs plans.
	ErrorMessage *string `json:"error_message"`
	// Extra is what a later server says besides.
	Extra Extra `json:"-"`
}

// Environment reads the server's environment. It is answered from memory, even
// while the worker is dead.
func (c *Client) Environment(ctx context.Context) (Environment, error) {
	return c.environment(ctx, how{})
}

func (c *Client) environment(ctx context.Context, h how) (Environment, error) {
	var e Environment
	op := read("GET /environment", "/environment", h)
	op.free = true
	op.check = func(answer []byte) bool {
		var e Environment
		return json.Unmarshal(answer, &e) == nil && e.ID != ""
	}
	err := c.do(ctx, op, &e)
	return e, err
}
