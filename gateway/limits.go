package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/adamant-go/adamant/retryhttp"
)

// admit lets a caller in, or says why not.
func (g *Gateway) admit(c *caller, r *http.Request) (leave func(), refusal *reply) {
	no := func(a reply) (func(), *reply) { return nil, &a }
	switch {
	case g.setUpErr != nil:
		return no(refuse(nil, http.StatusServiceUnavailable, g.setUpErr.Error()).with(retryhttp.HeaderVerdict, verdictNotSent))
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace:
		// Neither is for a gateway to one server: TRACE would show a caller what a
		// proxy has added for the server alone. blueapi says the same.
		return no(refuse(nil, http.StatusMethodNotAllowed, "Method Not Allowed"))
	case !isStraight(r.URL.Path):
		return no(refuse(nil, http.StatusNotFound, "Not Found"))
	case g.draining.Load():
		return no(turnAway(errDrained.Error()))
	}
	count, what := &g.callers, "callers wait"
	if c.route.kind == runPlan {
		count, what = &g.sessions, "plans are run"
	}
	limit := g.maxWaiting()
	if n := count.Add(1); n > int64(limit) && c.route.kind != setState {
		count.Add(-1)
		return no(turnAway(fmt.Sprintf("%d %s already", limit, what)))
	}
	return func() { count.Add(-1) }, nil
}

// turnAway is the answer to a caller who has to come again.
func turnAway(why string) reply {
	return refuse(nil, http.StatusServiceUnavailable, "nothing was sent: "+why).with(retryhttp.HeaderVerdict, verdictNotSent).with("Retry-After", soon)
}

// readBody reads the whole of a request, which may have to be sent more than once.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request, c *caller) *reply {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if len(r.TransferEncoding) > 0 {
		// A proxy that went by a Content-Length, which net/http leaves out of account
		// then, may take what follows for part of this request (RFC 9112, 6.1).
		w.Header().Set("Connection", "close")
	}
	var err error
	c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, int64(g.maxBody())))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		a := refuse(nil, http.StatusRequestEntityTooLarge, fmt.Sprintf("a request may have %d bytes", g.maxBody()))
		return &a
	}
	if err != nil {
		a := refuse(nil, http.StatusBadRequest, "the request was cut off")
		return &a
	}
	r.ContentLength = int64(len(c.body))
	r.Body = http.NoBody
	if len(c.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(c.body))
	}
	return nil
}

// goOn starts f, which is not for one caller's request alone, unless the gateway is
// closed.
func (g *Gateway) goOn(f func()) bool {
	g.closing.Lock()
	defer g.closing.Unlock()
	if g.closed {
		return false
	}
	g.work.Go(f)
	return true
}
