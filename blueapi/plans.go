package blueapi

import (
	"context"
	"encoding/json"
	"net/url"
)

// Plan is an experiment procedure that the server can run.
type Plan struct {
	Name string `json:"name"`
	// Description is the plan's docstring, with its indentation.
	Description *string `json:"description"`
	// Schema is the JSON schema of the parameters, byte for byte as sent: the
	// order of its properties is the order of the plan's arguments.
	Schema json.RawMessage `json:"schema"`
	// Extra is what a later server says besides.
	Extra Extra `json:"-"`
}

// Plans lists the plans, in the server's order.
func (c *Client) Plans(ctx context.Context) ([]Plan, error) {
	var answer struct {
		Plans []Plan `json:"plans"`
	}
	op := read("GET /plans", "/plans", how{})
	op.key = "plans"
	err := c.do(ctx, op, &answer)
	return answer.Plans, err
}

// Plan reads one plan. The error is an [*Error] with status 404 if there is none
// of that name.
func (c *Client) Plan(ctx context.Context, name string) (Plan, error) {
	var p Plan
	op := read("GET /plans/{name}", "/plans/"+url.PathEscape(name), how{})
	op.key = "name"
	err := c.do(ctx, op, &p)
	return p, err
}
