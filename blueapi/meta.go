package blueapi

import (
	"bytes"
	"context"
	"encoding/json"
)

// OIDC says where users of the server log in.
type OIDC struct {
	// WellKnownURL is where the provider describes itself; deprecated in favour
	// of Issuer, and nil in 1.21.
	WellKnownURL           *string `json:"well_known_url"`
	Issuer                 string  `json:"issuer"`
	ClientID               string  `json:"client_id"`
	ClientAudience         string  `json:"client_audience"`
	LogoutRedirectEndpoint string  `json:"logout_redirect_endpoint"`
}

// OIDC reads how users of the server log in; nil if it wants no login.
func (c *Client) OIDC(ctx context.Context) (*OIDC, error) {
	op := read("GET /config/oidc", "/config/oidc", how{})
	op.root = true
	var answer []byte
	if err := c.do(ctx, op, &answer); err != nil || len(bytes.TrimSpace(answer)) == 0 { // 204
		return nil, err
	}
	o := new(OIDC)
	if err := json.Unmarshal(answer, o); err != nil || o.ClientID == "" {
		return nil, unexpected(op.name, answer)
	}
	return o, nil
}

// Health asks whether the server answers at all. It says nothing about its worker,
// its broker or its environment.
func (c *Client) Health(ctx context.Context) error {
	op := read("GET /healthz", "/healthz", how{})
	op.root, op.free = true, true
	var answer struct {
		Status string `json:"status"`
	}
	return c.do(ctx, op, &answer)
}
