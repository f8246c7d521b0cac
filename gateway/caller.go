package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/adamant-go/adamant/retryhttp"
)

// caller is one request of a caller, for as long as it is dealt with.
type caller struct {
	route  route
	path   string // as asked for
	scheme string // by which the caller knows the gateway
	host   string
	task   string // that is to be started
	// nested tells that the caller retries itself, so that what was sent is not sent
	// again here.
	nested bool
	// resent tells that it asks again, maybe because a connection was dead.
	resent bool
	body   []byte
	// header is what goes to the server: the caller's, less what was meant for the
	// gateway.
	header http.Header

	at                time.Time
	attempts, resends atomic.Int64
	deed              atomic.Value // a Deed
	verdict           atomic.Value // a string, if it is not in the answer's header
	gone              atomic.Bool  // a session's caller has left before its end
	// reloading is signalled when the server has answered that it reloads.
	reloading chan struct{}
}

// callerKey finds the caller of a context.
type callerKey struct{}

// callerOf returns the caller on whose behalf something is asked, or nil.
func callerOf(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller)
	return c
}

func newCaller(r *http.Request) *caller {
	c := &caller{at: time.Now(), header: r.Header, path: r.URL.Path, scheme: "http", host: r.Host, route: routeOf(r), reloading: make(chan struct{}, 1)}
	if p := r.Header.Get("X-Forwarded-Proto"); r.TLS != nil || p == "https" {
		c.scheme = "https"
	}
	c.resent = r.Header.Get(retryhttp.HeaderAttempt) != ""
	c.nested = r.Header.Get(retryhttp.HeaderLayer) != "" || c.resent
	return c
}

// did notes what was done for the caller beyond passing its request on.
func (c *caller) did(d Deed) { c.deed.Store(d) }

// credentials are what tells one user from another.
func (c *caller) credentials() string {
	return strings.Join(slices.Concat(c.header["Authorization"], []string{"\n"}, c.header["Cookie"]), "\n")
}

// identify puts what says who the caller is, and the trace that it is part of, into a
// request of the gateway's own: all of its header but what speaks of its own request.
func identify(ctx context.Context, h http.Header) {
	c := callerOf(ctx)
	if c == nil {
		return
	}
	for key, values := range c.header {
		if !ofRequest(key) {
			h[key] = slices.Clone(values)
		}
	}
}

// ofRequest tells the headers that speak of one request, not of who asks.
func ofRequest(key string) bool {
	switch key {
	case "Accept", "Accept-Encoding", "Accept-Language", "Accept-Charset", "Cache-Control", "Expect", "Pragma", "Range",
		"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		retryhttp.HeaderAttempt, retryhttp.HeaderLayer:
		return true
	}
	return strings.HasPrefix(key, "Content-") || strings.HasPrefix(key, "If-") || strings.HasPrefix(key, "Sec-Websocket-")
}
