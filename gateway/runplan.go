package gateway

import (
	"context"
	"encoding/json"
	"errors"
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
	asking, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()
	seen, refusal, away := g.receive(asking, c)
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
	ctx, end := g.detached(retry.Detach(r.Context()))
	defer end()
	s := &session{g: g, c: c, conn: conn, away: away}
	s.serve(ctx)
}

// receive asks the server whether it would let a caller in, and returns the header of
// its answer, or the refusal.
//
// If nothing is heard of the server, that is away, and the session is opened to say so:
// blueapi's Python client drops what an HTTP answer other than 401 and 403 says. It is a
// refusal for callers who retry by themselves, and for pages that are not known to be let
// in.
//
// The server refuses an upgrade as it refuses a read: without the right token. If it has
// a list of origins, a page of another origin is refused too; if it has none it lets all
// of them in. The read tells whether the origin is on the list, and not whether there is
// one, so the gateway lets in only what is, and pages of its own host. Callers that are
// no browsers name no origin.
func (g *Gateway) receive(ctx context.Context, c *caller) (seen http.Header, refusal *reply, away error) {
	no := func(a reply) (http.Header, *reply, error) { return nil, &a, nil }
	out, err := g.call(ctx, c.environment())
	if err != nil {
		_, answered := lastAnswer(err)
		tries, ok := errors.AsType[*retry.Error](err)
		origin := c.header.Get("Origin")
		if ok && !answered && ctx.Err() == nil && g.life.Err() == nil && !c.nested && (c.fromHere() || g.origins.permits(origin)) {
			return nil, nil, tries
		}
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
	return out.header, nil, nil
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
