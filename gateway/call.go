package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

const (
	// silenceLimit is how long an answer may show no sign of life, as for blueapi's
	// client.
	silenceLimit = 10 * time.Second
	// startSilenceLimit is the same for the start of a plan, which the server itself
	// lets take 5 s, behind other calls that take as long.
	startSilenceLimit = 15 * time.Second
	// answerLimit bounds what is read of an answer.
	answerLimit = 256 << 20
)

// operation is a request to the server whose answer is read as a whole.
type operation struct {
	name   string // such as "GET /tasks/{id}"
	method string
	path   string // at the server, escaped, without what the URL of the server begins with
	query  string
	header http.Header
	body   []byte
	safety retry.Safety
	// free operations are not held back by a reload.
	free, urgent, fresh bool
	// single operations are tried once: their callers retry.
	single  bool
	silence time.Duration // zero means silenceLimit
	since   time.Time     // when its caller began to wait; zero means now
	latest  time.Time     // it is not begun after that; zero means that it may be
	// board is called before each attempt, and returns how many callers it is for;
	// nil if there is but one.
	board func() int
}

// operation is what a caller asks for.
func (c *caller) operation(r *http.Request) operation {
	path := url.URL{Path: c.route.prefix + c.route.bare}
	op := operation{
		name: c.route.name, method: r.Method, path: path.EscapedPath(), query: r.URL.RawQuery,
		header: c.header, body: c.body, free: c.route.free, single: c.nested, fresh: c.resent,
	}
	if c.route.kind == read {
		op.body = nil
	}
	return op
}

// reading is a read on behalf of a caller who asked for something else.
func (c *caller) reading(name, path string) operation {
	h := http.Header{"Accept": {"application/json"}}
	for key, values := range c.header {
		if !ofRequest(key) {
			h[key] = values
		}
	}
	return operation{name: name, method: http.MethodGet, path: c.route.prefix + path, header: h}
}

// outcome is what became of a call.
type outcome struct {
	reply
	// sent is when the attempt that was answered was begun.
	sent time.Time
	// boarded is how many callers it is for.
	boarded int
	// doubtful tells that an attempt before that may have had an effect.
	doubtful bool
}

// call makes a call. The error is a [*retry.Error], or the context's.
func (g *Gateway) call(ctx context.Context, op operation) (outcome, error) {
	if !op.free {
		if err := g.hold.enter(ctx); err != nil {
			return outcome{}, err
		}
		defer g.hold.leave()
	}
	policy := retry.Policy{
		Op: op.name, Safety: op.safety, Silence: op.silence, Wait: g.Wait, Since: op.since, Copies: op.method == http.MethodGet,
		Urgent: op.urgent, Gate: &g.gate, Trace: g.trace, Reopened: g.wire.CloseIdleConnections,
	}
	if policy.Silence == 0 {
		policy.Silence = silenceLimit
	}
	if op.single {
		policy.Attempts, policy.Wait = 1, 0
	}
	var doubtful atomic.Bool
	return retry.Do(ctx, policy, func(ctx context.Context, a retry.Attempt) (outcome, error) {
		out := outcome{sent: time.Now(), doubtful: doubtful.Load()}
		if op.board != nil {
			out.boarded = op.board()
		}
		var err error
		out.reply, err = g.attempt(ctx, &op, a)
		if retry.VerdictOf(err) == retry.Ambiguous {
			doubtful.Store(true)
		}
		return out, err
	})
}

// attempt sends the request once and judges what came of it.
func (g *Gateway) attempt(ctx context.Context, op *operation, a retry.Attempt) (reply, error) {
	r, err := g.request(ctx, op, a)
	if err != nil {
		return reply{}, &retry.Failure{Verdict: retry.Fatal, Err: err, Unsent: true}
	}
	a.Fresh = a.Fresh || op.fresh
	resp, err := g.wire.SendBefore(ctx, r, a, op.latest)
	if errors.Is(err, retryhttp.ErrTooLate) { // and so it will be later
		return reply{}, &retry.Failure{Verdict: retry.Fatal, Evidence: retry.NoEvidence, Err: retryhttp.ErrTooLate, Unsent: true}
	}
	if err != nil {
		return reply{}, err
	}
	a.Heard()
	g.origins.learn(op.header.Get("Origin"), resp.Header)
	body, err := retryhttp.ReadBody(resp.Body, a, answerLimit)
	_ = resp.Body.Close()
	return judge(resp, body, err)
}

func (g *Gateway) request(ctx context.Context, op *operation, a retry.Attempt) (*http.Request, error) {
	u := *g.upstream
	u.User = nil
	raw := strings.TrimRight(u.EscapedPath(), "/") + op.path
	u.Path, _ = url.PathUnescape(raw)
	u.RawPath, u.RawQuery = raw, op.query
	var body io.Reader
	if len(op.body) > 0 {
		body = bytes.NewReader(op.body)
	}
	r, err := http.NewRequestWithContext(ctx, op.method, "", body)
	if err != nil {
		return nil, err
	}
	r.URL, r.Host = &u, u.Host
	r.Header = make(http.Header, len(op.header)+2)
	maps.Copy(r.Header, op.header)
	r.Header.Del("Accept-Encoding") // the answer is read here
	g.introduce(r)
	retryhttp.Announce(r.Header, a)
	return r, nil
}

// introduce tells the server who asks, if the caller does not and the server's URL
// does.
func (g *Gateway) introduce(r *http.Request) {
	if user := g.upstream.User; user != nil && r.Header.Get("Authorization") == "" {
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
	}
}

// judge says what a response means: the application's answers, refusals included, are
// what the caller gets; all else is a failed attempt, as in blueapi's client.
func judge(resp *http.Response, body []byte, bodyErr error) (reply, error) {
	got := reply{status: resp.StatusCode, header: resp.Header, body: body}
	ours := resp.Header.Get("X-Blueapi-Version") != ""
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if f := retryhttp.Judge(resp); f != nil {
		if ours || resp.StatusCode == http.StatusTooManyRequests || resp.Header.Get(retryhttp.HeaderVerdict) != "" {
			f.Err = &answerError{got, f.Err}
		}
		return reply{}, f
	}
	switch {
	case bodyErr != nil:
		return reply{}, &retry.Failure{Verdict: retry.Ambiguous, Err: fmt.Errorf("the answer was cut off: %w", bodyErr)}
	case resp.StatusCode >= http.StatusInternalServerError && (ours || kind == "text/plain" || kind == "application/json"):
		err := &answerError{got, &retryhttp.StatusError{Status: resp.StatusCode}}
		return reply{}, &retry.Failure{Verdict: retry.Ambiguous, Evidence: retry.Proof, Err: err}
	case !ours && kind != "application/json" && resp.StatusCode != http.StatusNoContent:
		// A login page, say: the caller may know what to do with it, and it says
		// nothing about the server.
		err := &answerError{got, &retryhttp.StatusError{Status: resp.StatusCode}}
		return reply{}, &retry.Failure{Verdict: retry.Fatal, Evidence: retry.NoEvidence, Err: err}
	}
	return got, nil
}

// answerError is the cause of an attempt that failed by an answer which, if there is no
// better one, is the caller's.
type answerError struct {
	reply reply
	err   error
}

func (e *answerError) Error() string { return e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

// lastAnswer returns the answer by which the last attempt failed, if it is for the
// caller.
func lastAnswer(err error) (reply, bool) {
	tries, ok := errors.AsType[*retry.Error](err)
	if !ok || tries.Reason == retry.Cancelled || tries.Reason == retry.Deadline {
		return reply{}, false
	}
	e, ok := tries.Err.(*answerError) //nolint:errorlint // of the last attempt itself
	if !ok {
		return reply{}, false
	}
	return e.reply, true
}
