package gateway

import (
	"context"
	"net/http"
)

// serveRunPlan serves the WebSocket by which a caller has a plan run: it is passed on.
// Such a session ends with the gateway.
func (g *Gateway) serveRunPlan(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()
	ended := make(chan struct{})
	defer close(ended)
	if !g.goOn(func() { <-ended }) {
		turnAway(errClosed.Error()).write(w)
		return
	}
	g.proxy.ServeHTTP(w, r.WithContext(ctx))
}
