package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retryhttp"
)

// opReload is what blueapi's client calls the request to reload.
const opReload = "DELETE /environment"

// reload has the environment reloaded. The caller is answered when the server has
// answered, as it does at once; all other callers are held back until the new
// environment shows.
func (g *Gateway) reload(ctx context.Context, c *caller, _ operation) reply {
	seen, err := g.call(ctx, c.environment())
	if err != nil {
		return notSent(err)
	}
	var env blueapi.Environment
	switch {
	case seen.status != http.StatusOK:
		return seen.reply
	case json.Unmarshal(seen.body, &env) != nil || env.ID == "":
		return strange(seen.header)
	}
	answer := like(seen.header, http.StatusOK, blueapi.Environment{ID: env.ID})
	drained, first := g.hold.begin()
	if !first { // so says the server, and does nothing, while it reloads
		return answer
	}
	ended := make(chan error, 1)
	detached, cancel := g.detached(ctx)
	if !g.goOn(func() {
		defer cancel()
		defer g.hold.end()
		select {
		case <-drained:
			g.keepReload(detached, env.ID, time.Now())
			_, err := g.client.Reload(detached, true)
			if e, ok := errors.AsType[*blueapi.ReloadError](err); ok && (e.Reason == blueapi.ReloadDenied || !e.Sent) {
				g.keepReload(detached, env.ID, time.Unix(0, 0)) // there is none to be waited for
			}
			ended <- err
		case <-detached.Done():
			ended <- &blueapi.ReloadError{Reason: blueapi.ReloadUnreachable, Err: errClosed}
		}
	}) {
		cancel()
		g.hold.end()
		return turnAway(errClosed.Error())
	}
	select {
	case <-c.reloading:
		return answer
	case err = <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	e, ok := errors.AsType[*blueapi.ReloadError](err)
	switch {
	case !ok, e.Reason == blueapi.ReloadFailed: // what came of it is read from the environment
		return answer
	case e.Reason == blueapi.ReloadDenied:
		if refusal, ok := refusalOf(seen.header, e.Err); ok {
			return refusal
		}
	}
	if !e.Sent {
		return refuse(seen.header, http.StatusServiceUnavailable, e.Error()).with(retryhttp.HeaderVerdict, verdictNotSent).again()
	}
	return refuse(seen.header, http.StatusGatewayTimeout, e.Error()).with(retryhttp.HeaderVerdict, verdictUnknown)
}

// environment is a read of the environment.
func (c *caller) environment() operation {
	op := c.reading("GET /environment", "/environment")
	op.free = true
	return op
}
