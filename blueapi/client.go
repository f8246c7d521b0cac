// Package blueapi is a client of the blueapi server, which runs bluesky plans
// for a beamline, that keeps working while the network does not.
//
// Most programs want [Client.Run]: it runs a plan at most once, waits for its
// end through outages, and says what became of it in one of three words: [Done],
// [NotStarted], or [Unknown].
//
//	c := &blueapi.Client{URL: "http://i22-blueapi.diamond.ac.uk"}
//	result, err := c.Run(ctx, blueapi.TaskRequest{Name: "count", InstrumentSession: "cm12345-1"})
//
// Every call makes up to five attempts over at least two seconds where that is
// safe; errors of the network are [*retry.Error], which lists them, and refusals
// of the server are [*Error].
//
// A Client retries by itself. Do not put a retrying RoundTripper under it.
package blueapi

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// DefaultURL is where a server is expected if a Client does not say (blueapi's
// own default).
const DefaultURL = "http://localhost:8000"

// idleTimeout is shorter than the five seconds after which uvicorn, blueapi's
// web server, closes an idle connection, so that none is used while it closes.
const idleTimeout = 4 * time.Second

// Client talks to one blueapi server. Its zero value talks to DefaultURL. A
// Client may be used concurrently; it must not be copied, nor its fields changed,
// once in use. Its callers share what is known of the server: make one.
type Client struct {
	// URL is the server's base; empty means DefaultURL. A path in it is kept.
	URL string
	// Transport gives settings of connections, such as proxy, TLS and dialling;
	// nil means net/http's defaults. It is cloned.
	Transport *http.Transport
	// Gate is shared with other clients of the same server; nil means the
	// client's own.
	Gate *retry.Gate
	// Wait makes calls wait this long for a server that is away, instead of
	// the two to three seconds of five attempts.
	Wait time.Duration
	// Trace observes the calls and their attempts; nil means nobody does.
	Trace *retry.Trace
	// RunTrace observes runs; nil means nobody does.
	RunTrace *RunTrace
	// Broker is where runs get the server's events from; nil means that they are
	// followed by polling alone. How a run ended is always asked of the server.
	Broker *Broker
	// Token returns the bearer token for an attempt, or "" for none. It is
	// called for each attempt, and must not use the client, which may be held
	// back until the attempt has ended. nil means none.
	Token func(ctx context.Context) (string, error)
	// Header may add headers to an attempt, such as traceparent; without one
	// of these, a random one is written. nil adds none.
	Header func(ctx context.Context, h http.Header)
	// Journal keeps what runs have done, for the case that this program dies;
	// nil keeps nothing.
	Journal Journal

	once    sync.Once
	wire    retryhttp.Wire
	gate    *retry.Gate
	base    *url.URL
	baseErr error
	hold    hold
	paths   atomic.Int32 // a pathStyle
	version atomic.Pointer[Version]
}

// Version is what a server says it is, in the headers of its answers.
type Version struct {
	// Server is the version of blueapi, such as 1.21.1; empty if the server
	// is too old to say.
	Server string
	// API is the version of its REST API, such as 1.5.0.
	API string
}

// pathStyle is which of the two forms of its paths a server knows.
type pathStyle = int32

const (
	pathsUnknown   pathStyle = iota // try the versioned form
	pathsVersioned                  // /api/v1/plans
	pathsBare                       // /plans, of servers before 1.17
)

func (c *Client) setUp() {
	if c.Transport != nil {
		c.wire.Base = c.Transport
	}
	c.wire.IdleTimeout = idleTimeout
	c.gate = c.Gate
	if c.gate == nil {
		c.gate = new(retry.Gate)
	}
	c.base, c.baseErr = parseURL(c.URL)
}

// Version returns what the server said it is, once it has answered; the zero
// Version before.
func (c *Client) Version() Version {
	if v := c.version.Load(); v != nil {
		return *v
	}
	return Version{}
}

// Close lets go of idle connections. The client may be used again.
func (c *Client) Close() {
	c.once.Do(c.setUp)
	c.wire.CloseIdleConnections()
}
