// Package gateway stands in front of a blueapi server, for callers that nobody will
// rewrite: what adamant's own clients do about a network that fails, it does for them.
//
// A [Gateway] is an http.Handler that speaks the server's own REST, so that nothing in
// a caller changes but an address:
//
//	g := &gateway.Gateway{Upstream: "http://i22-blueapi.diamond.ac.uk"}
//	defer g.Close()
//	server := http.Server{Handler: g, ReadHeaderTimeout: 10 * time.Second}
//
// All callers share what is known of the server, and wait for it together. Reads,
// submitted tasks and deletions are sent again; reads that are alike are sent once. The
// request that starts a plan is sent once and its fate found out by looking; control
// commands are bound to the plan that was active; while the environment is reloaded
// everything else is held back. What the gateway cannot find out it says: an answer
// that bears Adamant-Verdict is its own, with a body like those of blueapi's errors.
//
//	503 not-sent   nothing was sent that has an effect: it may be asked again
//	503 withdrawn  the task named was deleted before it could start
//	504 unknown    the request was sent, and nobody knows what it did; not to be repeated
//
// A page in a browser may read such an answer if the server's last answer to a page of its
// origin, or to its preflight, let it read that.
//
// Callers that listen to the server's events by way of its message broker are served by
// [Gateway.ServeStomp].
//
// Credentials are passed on with each request, and bear the gateway's own requests on
// the caller's behalf; they are not told to Log, and are kept in memory alone, and only
// where somebody listens to events (see ServeStomp).
//
// Plans that are run by WebSocket (/api/v2/run_plan) are run by the gateway itself, as
// blueapi's client runs them; frames and close codes are the server's. What differs:
//
//   - A caller that takes leave by a close frame has its plan aborted at once, which the
//     server does at the plan's next event. If its connection is lost, the plan goes on
//     ([Gateway].AbortOnLoss). One that leaves before anything was sent takes its
//     request back.
//   - If the plan was not started and it is safe to run it again, the session ends with
//     the code 1013; if nobody knows what became of it, with 1011; if the gateway is
//     closed, with 1012. The reason says so and names the task: blueapi's Python client
//     raises it as the text of a ConnectionClosedError, which is none of the exceptions
//     that make its callers run a plan again. No frame of the server's says such a thing.
//     A session is opened for that even if the server is away, since that client drops
//     what an HTTP 503 says; callers who retry by themselves get that, and pages that
//     were not let in before.
//   - Without a Broker, or with one that is known to be away when the plan is started,
//     callers are told of the plan's states and of its end alone.
//   - A page in a browser may open a session if the server lets pages of its origin read,
//     or if it is of the gateway's own host. The server lets all in if it has no list of
//     origins.
//
// As by the server, a session ends when the plan is paused, and says that the task is
// complete then: its event bears the state PAUSED.
//
// How large headers may be, how many connections there are, and how long a caller may
// take to send a request are the http.Server's business. It must not limit the time of
// an answer (WriteTimeout): to resume a plan is answered when that has ended.
package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

const (
	defaultMaxWaiting = 1000
	defaultMaxBody    = 16 << 20
	// idleTimeout is shorter than the five seconds after which uvicorn, blueapi's
	// web server, closes an idle connection.
	idleTimeout = 4 * time.Second
)

// Gateway is an http.Handler in front of one blueapi server. Its fields are set before
// it is first used; its methods may be called concurrently. It must not be copied, and
// must be closed.
type Gateway struct {
	// Upstream is the server's URL; empty means blueapi.DefaultURL. A path in it is
	// put before the callers' paths, and a user and password in it stand in for the
	// Authorization header of callers that send none.
	Upstream string
	// Transport gives settings of the connections to the server; nil means
	// net/http's defaults. It is cloned.
	Transport *http.Transport
	// Wait is how long callers wait for a server that is away; zero means as long as
	// five attempts take. It is not for callers that retry by themselves.
	Wait time.Duration
	// Broker is the server's message broker, which ServeStomp listens to, and which the
	// events of plans that are run by WebSocket come from; nil means none: callers are
	// told of states alone.
	Broker *blueapi.Broker
	// StompLogin and StompPasscode are what callers of ServeStomp must present; with
	// neither, anything will do.
	StompLogin, StompPasscode string
	// Aliases allows that a task whose start was lost, and which was withdrawn, is
	// replaced by another of the same content, which callers see under the id of
	// the first.
	Aliases bool
	// AliasStore keeps the aliases for the gateway that comes after this one; nil
	// keeps nothing.
	AliasStore AliasStore
	// ReloadStore keeps which reload is under way, for the gateway that comes after this
	// one; nil keeps nothing.
	ReloadStore ReloadStore
	// Journal keeps what becomes of the tasks that callers start, and their ends as far
	// as the gateway hears of them; nil keeps nothing.
	Journal blueapi.Journal
	// Unsettled are the starts that an earlier gateway did not live to settle: no
	// request to start one of these tasks is sent again.
	Unsettled []blueapi.Attachment
	// StartOf looks for a start of a task that another gateway with the same journal has
	// begun since, and of which nobody knows what it did: that one may have died, as when
	// a new gateway is there before the old one has gone. The start is not Owned while
	// another that lives has it in hand; else this gateway owns it from then on, and
	// settles it. It is asked before each start, and again when the
	// Journal says [blueapi.ErrOtherStart], as it has to if several such gateways live;
	// nil finds none.
	StartOf func(ctx context.Context, taskID string) (*EarlierStart, error)
	// Begun are the plans that an earlier gateway has started, and whose end the journal
	// does not have: who has listened to that gateway may still wait for it. Only of
	// these does a gateway tell an end that came before its own start.
	Begun []blueapi.Attachment
	// Trace observes the calls to the server; nil means nobody does. The context of
	// each is that of the caller's request.
	Trace *retry.Trace
	// Log is given a record of each caller's request when that has been answered, or
	// its caller has gone; nil means nobody is. It is called concurrently.
	Log func(Record)
	// MaxWaiting is how many callers may wait for answers at a time; zero means
	// 1,000. Who comes beyond that is told so at once; control commands are always
	// let in. As many WebSockets may be open besides.
	MaxWaiting int
	// MaxBody is how large a caller's request may be, in bytes; zero means 16 MiB.
	MaxBody int
	// AbortOnLoss has the plan of a WebSocket aborted too if the connection to its
	// caller is lost, as the server does. Otherwise it is only if the caller takes
	// leave.
	AbortOnLoss bool

	once      sync.Once
	upstream  *url.URL
	setUpErr  error
	since     time.Time
	life      context.Context //nolint:containedctx // the gateway's: what goes on for nobody's request ends with it
	end       context.CancelFunc
	work      sync.WaitGroup // what goes on for nobody's request
	gate      retry.Gate
	trace     *retry.Trace
	client    *blueapi.Client
	wire      retryhttp.Wire      // for the paths that are known
	transport retryhttp.Transport // for all others
	single    retryhttp.Transport // for them too, if their callers retry
	proxy     httputil.ReverseProxy

	callers  atomic.Int64
	sessions atomic.Int64
	draining atomic.Bool
	drained  chan struct{} // closed when that is set
	closing  sync.Mutex
	closed   bool // guarded by closing
	counts   counts
	hold     hold
	merger   merger
	starts   starts
	unended  unended
	aliases  aliases
	worker   sighting
	hub      hub
	running  running
	origins  origins
}

func (g *Gateway) setUp() {
	g.since, g.drained = time.Now(), make(chan struct{})
	g.life, g.end = context.WithCancel(context.Background())
	g.upstream, g.setUpErr = parseUpstream(g.Upstream)
	if g.setUpErr != nil {
		return
	}
	base := g.base()
	g.trace = retry.JoinTraces(g.Trace, g.ownTrace())
	g.unended.remember(g, g.Begun)
	g.client = &blueapi.Client{
		URL: g.upstream.String(), Transport: base, Gate: &g.gate, Wait: g.Wait, Trace: g.trace,
		Header: identify, Journal: g.keeper(), RunTrace: g.hub.trace(g.starts.trace()),
	}
	g.wire.Base = base
	g.transport = retryhttp.Transport{
		Base: base, Safety: safetyOf, RequestLimit: int64(g.maxBody()),
		Policy: retry.Policy{Gate: &g.gate, Wait: g.Wait, Trace: g.trace, Silence: silenceLimit},
	}
	single := g.transport.Policy
	single.Attempts, single.Wait = 1, 0
	g.single = retryhttp.Transport{Base: base, Safety: safetyOf, RequestLimit: int64(g.maxBody()), Policy: single}
	g.proxy = httputil.ReverseProxy{
		Rewrite: g.rewrite, Transport: forward(g.pass), ModifyResponse: g.modify, ErrorHandler: g.fail,
		FlushInterval: -1, ErrorLog: silent(),
	}
	g.starts.remember(g.Unsettled)
	if g.setUpErr = g.aliases.load(g.life, g.AliasStore); g.setUpErr == nil {
		g.setUpErr = g.resumeReload()
	}
}

// base is how connections are made. Compression is between caller and server.
func (g *Gateway) base() *http.Transport {
	base := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if g.Transport != nil {
		base = g.Transport.Clone()
	}
	base.DisableCompression = true
	base.IdleConnTimeout = idleTimeout
	if base.MaxIdleConnsPerHost == 0 {
		base.MaxIdleConnsPerHost = g.maxWaiting()
	}
	return base
}

func parseUpstream(s string) (*url.URL, error) {
	if s == "" {
		s = blueapi.DefaultURL
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("gateway: the server's URL is malformed") // it may hold a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("gateway: the server's URL must begin with http:// or https:// and name a host")
	}
	u.Host = strings.TrimSuffix(u.Host, ":")
	u.RawQuery, u.Fragment = "", ""
	return u, nil
}

// maxWaiting is also how many connections are kept for later, for a short time: with
// fewer, as many callers would have one made for each request.
func (g *Gateway) maxWaiting() int {
	if g.MaxWaiting == 0 {
		return defaultMaxWaiting
	}
	return g.MaxWaiting
}

func (g *Gateway) maxBody() int {
	if g.MaxBody == 0 {
		return defaultMaxBody
	}
	return g.MaxBody
}

// ServeHTTP answers a caller.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.once.Do(g.setUp)
	g.counts.requests.Add(1)
	c := newCaller(r)
	out := &answerWriter{ResponseWriter: w}
	out.Header()["Content-Type"] = nil // or net/http would guess, where the server says nothing
	if g.Log != nil {
		defer g.log(c, r, out)
	}
	leave, refusal := g.admit(c, r)
	if refusal != nil {
		c.did(TurnedAway)
		g.origins.open(*refusal, c).write(out)
		return
	}
	defer leave()
	if refusal := g.readBody(out, r, c); refusal != nil {
		c.did(TurnedAway)
		g.origins.open(*refusal, c).write(out)
		return
	}
	ctx := context.WithValue(r.Context(), callerKey{}, c)
	if c.nested {
		ctx = retry.Within(ctx)
	}
	switch c.route.kind {
	case runPlan:
		g.serveRunPlan(out, r.WithContext(ctx))
	case other:
		g.proxy.ServeHTTP(out, r.WithContext(ctx))
	case read, submit, deleteTask, startTask, setState, reload:
		g.serveKnown(ctx, out, r, c)
	}
}

// Drain turns away callers that come from now on, and those who have opened a session
// and asked for nothing yet. Those who are here are served.
func (g *Gateway) Drain() {
	g.once.Do(g.setUp)
	if g.draining.CompareAndSwap(false, true) {
		close(g.drained)
	}
}

// Close ends everything that the gateway has started, and waits for that. Callers that
// are still here are told what is known by then.
func (g *Gateway) Close() error {
	g.Drain()
	g.closing.Lock()
	g.closed = true
	g.closing.Unlock()
	g.end()
	g.hub.close()
	g.work.Wait()
	if g.client != nil {
		g.client.Close()
	}
	g.wire.CloseIdleConnections()
	g.transport.CloseIdleConnections()
	g.single.CloseIdleConnections()
	return nil
}

// detached returns a context for what goes on after the caller of ctx has gone. It
// ends with the gateway.
func (g *Gateway) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(g.life, cancel)
	return ctx, func() { stop(); cancel() }
}
