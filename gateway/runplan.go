package gateway

import "net/http"

// serveRunPlan serves the WebSocket by which a caller has a plan run: it is passed on.
func (g *Gateway) serveRunPlan(w http.ResponseWriter, r *http.Request) { g.proxy.ServeHTTP(w, r) }
