package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
)

// serveRunPlan serves the WebSocket by which a caller has a plan run. None is opened to
// the server, which aborts the plan whenever such a connection is lost (1.21.1): the
// plan is run as blueapi's client runs it.
func (g *Gateway) serveRunPlan(w http.ResponseWriter, r *http.Request) {
	ended := make(chan struct{})
	defer close(ended)
	if !g.goOn(func() { <-ended }) {
		turnAway(errClosed.Error()).write(w)
		return
	}
	c := callerOf(r.Context())
	c.header = onward(r.Header)
	seen, refusal := g.receive(r.Context(), c)
	if refusal != nil {
		refusal.with("Connection", "close").to(c).write(w)
		return
	}
	for _, key := range []string{"Server", "X-Blueapi-Version", "X-Api-Version"} {
		if v := seen.Values(key); len(v) > 0 {
			w.Header()[key] = v
		}
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // receive has looked at the origin
	if err != nil {
		return // it has answered
	}
	conn.SetReadLimit(int64(g.maxBody()))
	// The caller sends its request but once: what it knows of retrying does not help here.
	ctx, cancel := g.detached(retry.Detach(r.Context()))
	defer cancel()
	s := &session{g: g, c: c, conn: conn, polling: g.Broker == nil}
	s.serve(ctx)
}

// receive asks the server whether it would let a caller in, and returns the header of
// its answer, or the refusal.
//
// The server refuses an upgrade as it refuses a read: without the right token. If it has
// a list of origins, a page of another origin is refused too; if it has none it lets all
// of them in. The read tells whether the origin is on the list, and not whether there is
// one, so the gateway lets in only what is, and pages of its own host. Callers that are
// no browsers name no origin.
func (g *Gateway) receive(ctx context.Context, c *caller) (seen http.Header, refusal *reply) {
	no := func(a reply) (http.Header, *reply) { return nil, &a }
	out, err := g.call(ctx, c.environment())
	if err != nil {
		return no(notSent(err))
	}
	var env blueapi.Environment
	switch {
	case out.status != http.StatusOK:
		return no(out.reply)
	case json.Unmarshal(out.body, &env) != nil || env.ID == "":
		return no(strange(out.header))
	case !c.fromHere() && !allows(out.header, c.header.Get("Origin")):
		c.did(TurnedAway)
		a := refuse(out.header, http.StatusForbidden, "").with("Content-Type", "text/plain; charset=utf-8")
		a.body = []byte("Origin not on allow list")
		return no(a)
	}
	return out.header, nil
}

// fromHere reports whether a caller is no page in a browser, or one of the gateway's own
// host.
func (c *caller) fromHere() bool {
	origin := c.header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, c.host)
}

// allows reports whether an answer may be read by pages of an origin.
func allows(h http.Header, origin string) bool {
	allowed := h.Get("Access-Control-Allow-Origin")
	return allowed == "*" || allowed == origin
}
