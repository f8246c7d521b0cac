package retryhttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/adamant-go/adamant/retry"
)

// ConnectLimit is how long connecting may take, TLS included. Nothing was sent
// until then, so that it is safe to cut. The kernel repeats a lost SYN after one
// second; half a second is left for its answer.
const ConnectLimit = 1500 * time.Millisecond

// Headers by which a layer that retries announces itself.
const (
	// HeaderAttempt bears the number of the attempt, on resends only.
	HeaderAttempt = "Retry-Attempt"
	// HeaderLayer tells that a retrying layer stands behind a request:
	// "adamant;call=ID".
	HeaderLayer = "Retry-Layer"
	// HeaderVerdict is our gateway's answer to what became of a request:
	// not-sent, withdrawn or unknown.
	HeaderVerdict = "Adamant-Verdict"
)

// Wire makes attempts: it sends one request once, sees to it that net/http does
// not send it again by itself, and finds out whether a request that failed had
// left. Its zero value is ready; a Wire must not be copied. All methods may be
// called concurrently.
type Wire struct {
	// Base sends the requests; nil means a transport of this Wire's own with
	// net/http's defaults. An *http.Transport is cloned, so that its settings
	// count and its connections are not touched. Any other RoundTripper is
	// used as it is: then it decides about connections, and a request that
	// got one counts as sent.
	Base http.RoundTripper
	// IdleTimeout replaces the IdleConnTimeout of Base, if not zero.
	IdleTimeout time.Duration

	once sync.Once
	// pooled may speak HTTP/2. exact and fresh speak HTTP/1.1, in which it is
	// known what was written of which request; fresh keeps no connection.
	pooled, exact, fresh http.RoundTripper
	foreign              bool // Base is not an *http.Transport
}

func (w *Wire) setUp() {
	base, ok := w.Base.(*http.Transport)
	switch {
	case w.Base == nil:
		base = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConns: 100, IdleConnTimeout: 90 * time.Second,
		}
	case ok:
		base = base.Clone()
	default:
		w.pooled, w.exact, w.fresh, w.foreign = w.Base, w.Base, w.Base, true
		return
	}
	if w.IdleTimeout > 0 {
		base.IdleConnTimeout = w.IdleTimeout
	}
	if base.TLSHandshakeTimeout == 0 || base.TLSHandshakeTimeout > ConnectLimit {
		base.TLSHandshakeTimeout = ConnectLimit
	}
	countDials(base)
	exact := base.Clone()
	if p := base.Protocols; p == nil || p.HTTP1() {
		onlyHTTP1(exact)
	}
	fresh := exact.Clone()
	fresh.DisableKeepAlives = true
	w.pooled, w.exact, w.fresh = base, exact, fresh
}

// countDials has the connections of t counted, and ended with their attempts.
func countDials(t *http.Transport) {
	dial := t.DialContext
	switch {
	case dial != nil:
	case t.Dial != nil: //nolint:staticcheck // people still set it
		old := t.Dial //nolint:staticcheck // the same
		dial = func(_ context.Context, network, addr string) (net.Conn, error) { return old(network, addr) }
	default:
		dial = new(net.Dialer).DialContext
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialCounted(ctx, dial, network, addr)
	}
	if dialTLS := t.DialTLSContext; dialTLS != nil {
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, stop := withAttempt(ctx)
			defer stop()
			conn, err := dialTLS(ctx, network, addr)
			if err != nil {
				return nil, &dialError{err}
			}
			return conn, nil
		}
	}
}

// onlyHTTP1 keeps t from HTTP/2, which a clone of a transport that was prepared
// for it still offers to servers.
func onlyHTTP1(t *http.Transport) {
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	if t.TLSClientConfig != nil {
		t.TLSClientConfig.NextProtos = nil
	}
}

// watchKey finds the context of a watched attempt.
type watchKey struct{}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

func dialCounted(ctx context.Context, dial dialFunc, network, addr string) (net.Conn, error) {
	ctx, stop := withAttempt(ctx)
	defer stop()
	conn, err := dial(ctx, network, addr)
	if err != nil {
		return nil, &dialError{err}
	}
	return &countedConn{Conn: conn}, nil
}

// withAttempt bounds the context of a dial, and ends it with its attempt: net/http
// detaches the context that it dials with, so that a dial would outlive its call.
func withAttempt(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, ConnectLimit)
	attempt, ok := ctx.Value(watchKey{}).(context.Context)
	if !ok {
		attempt = retry.ContextOf(ctx)
	}
	if attempt == nil {
		return ctx, cancel
	}
	if attempt.Err() != nil {
		cancel() // at once: AfterFunc takes a goroutine
	}
	stop := context.AfterFunc(attempt, cancel)
	return ctx, func() { stop(); cancel() }
}

// dialError is a failure to connect: nothing was sent.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// CloseIdleConnections closes the connections that are kept for later.
func (w *Wire) CloseIdleConnections() {
	w.once.Do(w.setUp)
	for _, rt := range []http.RoundTripper{w.pooled, w.exact, w.fresh} {
		if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

// Send sends r as attempt a and returns the response, whatever its status, or a
// [*retry.Failure]. It uses ctx, and a body from r.GetBody if a is not the first
// attempt; r is not changed. The connection is a fresh one if a.Fresh is set. With
// watch, and on fresh connections, it is exactly known whether a request that
// failed had left; otherwise it counts as sent once it had a connection.
func (w *Wire) Send(ctx context.Context, r *http.Request, a retry.Attempt, watch bool) (*http.Response, error) {
	w.once.Do(w.setUp)
	if err := checkURL(r); err != nil {
		closeBody(r)
		return nil, &retry.Failure{Verdict: retry.Fatal, Err: err, Unsent: true}
	}
	watch = watch || mayResend(r)
	if !watch && !a.Fresh {
		out, err := prepare(r.WithContext(ctx), r, a)
		if err != nil {
			return nil, err
		}
		resp, err := w.pooled.RoundTrip(out)
		if err != nil {
			return nil, failureOf(r, err, isDial(err))
		}
		resp.Request = r
		traceOf(ctx).answered(resp)
		return resp, nil
	}
	return w.sendWatched(ctx, r, a, time.Time{})
}

// SendBefore sends as Send does with watch, unless the first byte cannot be written by
// the time latest: then nothing is written, and the failure is NotSent and no evidence
// of an outage. A zero latest is no bound. Over HTTP/2, and over connections of a
// DialTLSContext, the bound is when there is a connection; with a Base that is not an
// *http.Transport it is when the request is handed over.
func (w *Wire) SendBefore(ctx context.Context, r *http.Request, a retry.Attempt, latest time.Time) (*http.Response, error) {
	w.once.Do(w.setUp)
	if err := checkURL(r); err != nil {
		closeBody(r)
		return nil, &retry.Failure{Verdict: retry.Fatal, Err: err, Unsent: true}
	}
	if latest.IsZero() {
		return w.sendWatched(ctx, r, a, latest)
	}
	late := &retry.Failure{Verdict: retry.NotSent, Evidence: retry.NoEvidence, Err: ErrTooLate}
	if time.Now().After(latest) {
		closeBody(r)
		return nil, late
	}
	resp, err := w.sendWatched(ctx, r, a, latest)
	if f, ok := errors.AsType[*retry.Failure](err); ok && f.Verdict == retry.NotSent && errors.Is(err, ErrTooLate) {
		return nil, late
	}
	return resp, err
}

// ErrTooLate is the cause of an attempt that could not be begun in time.
var ErrTooLate = errors.New("the request could not be sent in time, and was not")

// sendWatched sends and watches the connection.
func (w *Wire) sendWatched(ctx context.Context, r *http.Request, a retry.Attempt, latest time.Time) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	ctx = context.WithValue(ctx, watchKey{}, ctx)
	watch := watcher{cancel: cancel, latest: latest}
	defer watch.stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: watch.getConn, GotConn: watch.gotConn})

	out, err := prepare(r.WithContext(ctx), r, a)
	if err != nil {
		cancel(context.Canceled)
		return nil, err
	}
	rt := w.exact
	if a.Fresh {
		rt = w.fresh
	}
	resp, err := rt.RoundTrip(out)
	if err != nil {
		limited := errors.Is(context.Cause(ctx), errConnectLimit)
		switch {
		case limited:
			err = errConnectLimit
		case errors.Is(context.Cause(ctx), ErrTooLate):
			err = ErrTooLate
		}
		f := failureOf(r, err, watch.notSent())
		f.Timeout = f.Timeout || limited
		if !w.foreign && !watch.wasAsked() && f.Verdict != retry.Fatal && ctx.Err() == nil {
			// net/http did not even look for a connection: the request is at fault.
			f = &retry.Failure{Verdict: retry.Fatal, Err: err, Unsent: true}
		}
		cancel(context.Canceled)
		return nil, f
	}
	resp.Request = r
	traceOf(ctx).answered(resp)
	if resp.Body == http.NoBody {
		cancel(context.Canceled)
	} else {
		resp.Body = onClose(resp.Body, func() { cancel(context.Canceled) })
	}
	return resp, nil
}

var errConnectLimit error = &timeoutError{"no connection within " + ConnectLimit.String()}

// errSentTwice stops net/http from sending a request again by itself.
var errSentTwice = errors.New("retryhttp: the connection died, and a resend in secret was stopped")

type timeoutError struct{ text string }

func (e *timeoutError) Error() string { return e.text }
func (e *timeoutError) Timeout() bool { return true }

// watcher sees what becomes of the connection of one attempt.
type watcher struct {
	cancel context.CancelCauseFunc
	limit  *time.Timer

	mu      sync.Mutex
	asked   int
	got     bool
	conn    *countedConn
	written int64     // before the attempt
	latest  time.Time // for the first byte; zero is no bound
}

func (w *watcher) getConn(string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked++; w.asked > 1 {
		w.cancel(errSentTwice)
		return
	}
	limit, cause := ConnectLimit, errConnectLimit
	if d := time.Until(w.latest); !w.latest.IsZero() && d < limit {
		limit, cause = d, ErrTooLate // not every connection can refuse a write that is late
	}
	w.limit = time.AfterFunc(limit, func() { w.cancel(cause) })
}

func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.limit != nil {
		w.limit.Stop()
	}
}

func (w *watcher) wasAsked() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked > 0
}

func (w *watcher) gotConn(info httptrace.GotConnInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.limit != nil {
		w.limit.Stop()
	}
	if w.asked > 1 {
		return // what counts is what the first connection saw
	}
	w.got = true
	if w.conn = counted(info.Conn); w.conn != nil {
		w.written = w.conn.begin(w.latest)
	}
}

// notSent reports whether it is certain that not one byte of the request was
// written, and makes sure that none will be. Nothing is certain of a RoundTripper
// that does not tell httptrace what it does.
func (w *watcher) notSent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.got {
		return w.asked > 0
	}
	return w.conn != nil && w.conn.seal(w.written)
}

// prepare makes out the request of attempt a of r. It consumes r's body on the
// first attempt, and a new one from GetBody later.
func prepare(out, r *http.Request, a retry.Attempt) (*http.Request, error) {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		if lacksBody(r.Method) {
			out.Body = unrepeatable{}
		}
	case a.Number > 1:
		body, err := r.GetBody()
		if err != nil {
			return nil, &retry.Failure{Verdict: retry.Fatal, Err: err, Unsent: true}
		}
		out.Body = body
	}
	if out.Body != nil && (r.ContentLength < 0 || r.ContentLength > longBody) {
		out.Body = &heardBody{out.Body, a}
	}
	out.GetBody = nil // net/http resends only what it can replay
	trace, announce := traceOf(out.Context()), a.Number > 1 || a.Nested()
	if announce || trace != nil {
		out.Header = r.Header.Clone()
		if out.Header == nil {
			out.Header = make(http.Header)
		}
	}
	if announce {
		Announce(out.Header, a)
	}
	trace.sending(out)
	return out, nil
}

// longBody is the size of a request body whose sending is a sign of life. A shorter
// one is sent well within Policy.Silence, and net/http copies it faster unwrapped.
const longBody = 1 << 20

// heardBody tells its attempt that it is being sent.
type heardBody struct {
	io.ReadCloser
	attempt retry.Attempt
}

func (b *heardBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.attempt.Heard()
	}
	return n, err
}

// Announce marks the header of a request as attempt a of a layer that retries.
func Announce(h http.Header, a retry.Attempt) {
	h.Set(HeaderLayer, "adamant;call="+a.CallID())
	if a.Number > 1 {
		h.Set(HeaderAttempt, strconv.Itoa(a.Number))
	}
}

// unrepeatable is an empty body that net/http does not know to be empty. On a
// pooled connection that turns out to be dead, net/http sends a request again
// by itself if it has no body or can get it again (net/http.Transport); that
// would be an attempt that nobody counts.
type unrepeatable struct{}

func (unrepeatable) Read([]byte) (int, error) { return 0, io.EOF }
func (unrepeatable) Close() error             { return nil }

// lacksBody names the methods for which net/http looks whether a body of unknown
// length is empty, rather than announcing one.
func lacksBody(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, "PROPFIND", "SEARCH", http.MethodDelete:
		return true
	}
	return false
}

// mayResend reports whether net/http might send r again by itself although prepare
// has taken its body's place: then it is watched.
func mayResend(r *http.Request) bool {
	return (r.Body == nil || r.Body == http.NoBody) && !lacksBody(r.Method)
}

func checkURL(r *http.Request) error {
	switch {
	case r.URL == nil || r.URL.Host == "":
		return errors.New("no host in the URL")
	case r.URL.Scheme != "http" && r.URL.Scheme != "https":
		return errors.New("unsupported scheme " + strconv.Quote(r.URL.Scheme) + " in the URL: use http or https")
	}
	return nil
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

func isDial(err error) bool {
	if _, ok := errors.AsType[*dialError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// failureOf judges an error of a round trip.
func failureOf(r *http.Request, err error, notSent bool) *retry.Failure {
	if !validHeader(r.Header) {
		return &retry.Failure{Verdict: retry.Fatal, Err: err, Unsent: true} // net/http refused it
	}
	if d, ok := errors.AsType[*dialError](err); ok {
		err = d.error
	}
	f := &retry.Failure{Verdict: retry.Ambiguous, Err: err, Unsent: notSent}
	if notSent {
		f.Verdict = retry.NotSent
	}
	if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() {
		f.Timeout = true
	}
	if isCertificate(err) {
		f.Verdict = retry.Fatal
	}
	return f
}

// validHeader reports whether net/http sends such a header (RFC 9110, 5.5).
func validHeader(h http.Header) bool {
	for key, values := range h {
		if key == "" || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c) }) {
			return false
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
				return false
			}
		}
	}
	return true
}

// isCertificate tells the errors of TLS that another attempt cannot mend.
func isCertificate(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.UnknownAuthorityError](err)
	return ok
}
