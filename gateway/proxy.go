package gateway

import (
	"bytes"
	"context"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// forward is a function as a RoundTripper.
type forward func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f forward) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// silent is where net/http logs: what it has to say may show what a caller sent.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }

// rewrite turns a caller's request of which nothing is known into one to the server.
// What speaks of the way from the caller to here is gone by now, and what a proxy before
// the gateway said of it, which uvicorn would believe from a neighbour.
func (g *Gateway) rewrite(p *httputil.ProxyRequest) {
	c := callerOf(p.In.Context())
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	p.Out.TransferEncoding = nil
	if len(c.body) > 0 {
		p.Out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.body)), nil }
		p.Out.Body, _ = p.Out.GetBody()
	}
	unmark(p.Out.Header)
	if !isUpgrade(p.In) { // which httputil.ReverseProxy would pass on
		delete(p.Out.Header, "Upgrade")
		delete(p.Out.Header, "Connection")
	}
	c.header = p.Out.Header
	p.SetURL(g.upstream)
	g.introduce(p.Out)
	// So that a gateway at the server's end knows that somebody stands behind it.
	p.Out.Header.Set(retryhttp.HeaderLayer, "adamant")
}

// unmark takes out of a header what was meant for the gateway.
func unmark(h http.Header) {
	delete(h, retryhttp.HeaderAttempt)
	delete(h, retryhttp.HeaderLayer)
	delete(h, "Expect") // met when the body was read
}

// onward is the header of a caller's request less what was meant for the gateway and
// what httputil.ReverseProxy takes out of those that it passes on.
func onward(in http.Header) http.Header {
	out := make(http.Header, len(in)+2) // the call's mark, and another
	maps.Copy(out, in)
	ofTheWay(in, out)
	unmark(out)
	for _, key := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		delete(out, key)
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = []string{""} // or net/http would say who it is
	}
	return out
}

// ofTheWay takes what is about one connection (RFC 9110, 7.6.1), as seen says, out of a
// header.
func ofTheWay(seen, h http.Header) {
	for _, value := range seen["Connection"] {
		for key := range strings.SplitSeq(value, ",") {
			delete(h, http.CanonicalHeaderKey(strings.TrimSpace(key)))
		}
	}
	for _, key := range []string{
		"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		delete(h, key)
	}
}

// serveKnown answers a request that is known of blueapi. All of it is here, and so will
// the answer be: there is nothing to stream.
func (g *Gateway) serveKnown(ctx context.Context, w http.ResponseWriter, r *http.Request, c *caller) {
	c.header = onward(r.Header)
	a := g.origins.open(g.aliases.show(g.answer(ctx, r, c)).to(c), c)
	h := w.Header()
	last := h["Connection"] // which readBody may have said
	maps.Copy(h, a.header)
	ofTheWay(a.header, h)
	if last != nil {
		h["Connection"] = last
	}
	if to := a.header.Get("Location"); to != "" {
		h["Location"] = []string{g.location(c, to)}
	}
	if bodyAllowed(a.status) {
		h["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// answer answers what is known of blueapi.
func (g *Gateway) answer(ctx context.Context, r *http.Request, c *caller) reply {
	op := c.operation(r)
	if c.route.id != "" {
		op.path = c.route.taskPath(g.aliases.real(c.route.id))
	}
	var out outcome
	var err error
	switch c.route.kind {
	case read:
		read := g.read
		if c.nested { // whose copies are to go their own way
			read = g.call
		}
		out, err = read(ctx, op)
		if err == nil && c.route.id != "" && out.status == http.StatusNotFound {
			if id, found := g.aliases.successor(ctx, g.aliases.real(c.route.id)); found {
				op.path = c.route.taskPath(id)
				out, err = read(ctx, op)
			}
		}
	case deleteTask:
		return g.deleteTask(ctx, op)
	case startTask:
		return g.startTask(ctx, c, op)
	case setState:
		return g.setState(ctx, c, op)
	case reload:
		return g.reload(ctx, c, op)
	case submit, other, runPlan: // a task may be stored twice: nothing moves
		out, err = g.call(ctx, op)
	}
	if err != nil {
		return failed(err, op.safety)
	}
	g.notice(c, out)
	return out.reply
}

// deleteTask deletes a task. One that is gone after a request that was not answered
// was deleted by that.
func (g *Gateway) deleteTask(ctx context.Context, op operation) reply {
	out, err := g.call(ctx, op)
	switch {
	case err != nil:
		return failed(err, op.safety)
	case out.status == http.StatusNotFound && out.doubtful:
		id, _ := url.PathUnescape(op.path[strings.LastIndex(op.path, "/")+1:])
		return like(out.header, http.StatusOK, taskID{&id})
	}
	return out.reply
}

// taskID is the body of what names a task.
type taskID struct {
	ID *string `json:"task_id"`
}

// pass passes a request on of which nothing is known, and streams the answer.
func (g *Gateway) pass(r *http.Request) (*http.Response, error) {
	c := callerOf(r.Context())
	if !c.route.free {
		if err := g.hold.enter(r.Context()); err != nil {
			return g.origins.open(failed(err, retry.Safe), c).response(r), nil
		}
		defer g.hold.leave()
	}
	t := &g.transport
	if c.nested {
		t = &g.single
	}
	resp, err := t.RoundTrip(r)
	if err != nil {
		return g.origins.open(failed(err, safetyOf(r)).to(c), c).response(r), nil
	}
	g.origins.learn(r.Header.Get("Origin"), resp.Header)
	return resp, nil
}

// modify changes an answer on its way to the caller.
func (g *Gateway) modify(resp *http.Response) error {
	if to := resp.Header.Get("Location"); to != "" {
		resp.Header.Set("Location", g.location(callerOf(resp.Request.Context()), to))
	}
	return nil
}

// location is where a caller finds what the server, going by the name that the gateway
// knows it by, has at a URL. Other URLs are left as they are; so is one at which the
// caller is already, as when a proxy wants to be spoken to by TLS: it would go round in
// a circle.
func (g *Gateway) location(c *caller, to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Host != "" && !strings.EqualFold(u.Host, g.upstream.Host) {
		return to
	}
	if base := strings.TrimRight(g.upstream.Path, "/"); base != "" {
		path, under := strings.CutPrefix(u.Path, base+"/")
		if !under {
			return to
		}
		u.Path, u.RawPath = "/"+path, ""
	}
	if u.Host == "" {
		return u.String()
	}
	if u.Path == c.path && u.Scheme != g.upstream.Scheme {
		return to
	}
	u.Scheme, u.Host, u.User = c.scheme, c.host, nil
	return u.String()
}

// fail answers a caller whose connection could not be made one to the server.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	g.origins.open(refuse(nil, http.StatusBadGateway, err.Error()), callerOf(r.Context())).write(w)
}
