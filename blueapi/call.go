package blueapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

const (
	// silenceLimit is how long an answer may show no sign of life. Other
	// callers' plan starts keep the server's one worker busy for up to 5 s.
	silenceLimit = 10 * time.Second
	// startSilenceLimit is the same for the start of a plan, which the server
	// itself lets take 5 s, behind other calls that take as long.
	startSilenceLimit = 15 * time.Second
	// bodyLimit bounds what is read of an answer.
	bodyLimit = 256 << 20
)

// operation is one kind of request.
type operation struct {
	name   string // such as "GET /plans/{name}"
	method string
	path   string // bare, such as "/plans/count"
	in     any    // body, nil for none
	safety retry.Safety
	// attempts, wait and silence override the policy's, if not zero; a silence
	// below zero may last for ever.
	attempts int
	wait     time.Duration
	silence  time.Duration
	fresh    bool
	// root is set for paths that have no versioned form.
	root bool
	// free operations are not held back by a reload.
	free   bool
	urgent bool
	// notBegunAfter is when it is too late to begin sending; zero means never.
	notBegunAfter time.Time
	// check tells whether a successful answer is what blueapi would say to
	// this; nil believes anything. It may be called concurrently, for copies.
	check func(answer []byte) bool
	// key is one that blueapi's answer has. It is looked for in answers without
	// blueapi's header, which may be another server's JSON; "" believes any.
	key string
}

// foreign is the verdict on an answer that did not come from a blueapi server. In
// mid-run it is waited for that such answers go away: a gateway that is being
// reconfigured, or an identity provider that is away, must not cost a plan.
func (op *operation) foreign(status int, detail string) *retry.Failure {
	e := &Error{Op: op.name, Status: status, Foreign: true, Detail: detail}
	return &retry.Failure{Verdict: op.hopeless(), Evidence: retry.NoEvidence, Err: e}
}

// hopeless is the verdict on what another attempt cannot mend, unless the call is
// one of a run that has sent its request to start the plan.
func (op *operation) hopeless() retry.Verdict {
	if op.wait > 0 {
		return retry.Ambiguous
	}
	return retry.Fatal
}

func (c *Client) policy(op *operation) retry.Policy {
	p := retry.Policy{
		Op: op.name, Safety: op.safety, Attempts: op.attempts, Silence: silenceLimit,
		Copies: op.method == http.MethodGet, Gate: c.gate, Trace: c.Trace, Reopened: c.wire.CloseIdleConnections,
		Urgent: op.urgent,
	}
	if op.silence != 0 {
		p.Silence = max(0, op.silence)
	}
	if op.attempts != 1 { // what must not be repeated is not repeated by waiting either
		p.Wait = max(c.Wait, op.wait)
	}
	return p
}

// do makes a call and decodes the answer into out, unless that is nil; a *[]byte gets
// it as it is.
func (c *Client) do(ctx context.Context, op operation, out any) error {
	c.once.Do(c.setUp)
	if c.baseErr != nil {
		return c.baseErr
	}
	if !op.free {
		if err := c.pass(ctx, op.name); err != nil {
			return err
		}
		defer c.hold.leave()
	}
	var body []byte
	if op.in != nil {
		var err error
		if body, err = json.Marshal(op.in); err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
	}
	answer, err := c.call(ctx, &op, body)
	if !op.root && c.mustFallBack(err) {
		answer, err = c.call(ctx, &op, body)
	}
	if err != nil || out == nil {
		return err
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = answer
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return unexpected(op.name, answer)
	}
	return nil
}

// call makes a call. Refusals of the server come as an *Error alone, unless other
// attempts went before.
func (c *Client) call(ctx context.Context, op *operation, body []byte) ([]byte, error) {
	answer, err := retry.Do(ctx, c.policy(op), func(ctx context.Context, a retry.Attempt) ([]byte, error) {
		return c.attempt(ctx, op, body, a)
	})
	if e, ok := errors.AsType[*retry.Error](err); ok && e.Reason == retry.Hopeless && len(e.Records) == 1 {
		if refusal, ok := errors.AsType[*Error](e.Err); ok {
			return nil, refusal
		}
	}
	return answer, err
}

// mustFallBack reports whether a server that has not yet answered a versioned
// path does not know them, and remembers that.
func (c *Client) mustFallBack(err error) bool {
	e := refusalOf(err)
	if e == nil || e.Status != http.StatusNotFound || e.Detail != "Not Found" || e.Foreign {
		return false
	}
	return c.paths.CompareAndSwap(pathsUnknown, pathsBare)
}

func (c *Client) url(op *operation) string {
	path, prefix := op.path, "/api/v1"
	if op.root || c.paths.Load() == pathsBare {
		prefix = ""
	}
	u := *c.base
	u.User = nil // see request
	path, query, _ := strings.Cut(path, "?")
	raw := strings.TrimRight(u.EscapedPath(), "/") + prefix + path
	u.RawQuery = query
	u.Path, _ = url.PathUnescape(raw)
	u.RawPath = raw
	return u.String()
}

// attempt sends the request once and judges what came of it.
func (c *Client) attempt(ctx context.Context, op *operation, body []byte, a retry.Attempt) ([]byte, error) {
	r, err := c.request(ctx, op, body, a)
	if err != nil {
		return nil, &retry.Failure{Verdict: op.hopeless(), Evidence: retry.NoEvidence, Err: err, Unsent: true}
	}
	a.Fresh = a.Fresh || op.fresh
	resp, err := c.wire.SendBefore(ctx, r, a, op.notBegunAfter)
	if err != nil {
		return nil, err
	}
	a.Heard()
	answer, err := retryhttp.ReadBody(resp.Body, a, bodyLimit)
	_ = resp.Body.Close()
	return c.judge(op, resp, answer, err)
}

func (c *Client) request(ctx context.Context, op *operation, body []byte, a retry.Attempt) (*http.Request, error) {
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, op.method, c.url(op), in)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "adamant")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if user := c.base.User; user != nil {
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
	}
	if c.Token != nil {
		token, err := c.Token(ctx)
		if err != nil {
			return nil, fmt.Errorf("getting a token: %w", err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	}
	retryhttp.Announce(r.Header, a)
	if c.Header != nil {
		c.Header(ctx, r.Header)
	}
	if r.Header.Get("Traceparent") == "" {
		r.Header.Set("Traceparent", traceparent(a))
	}
	return r, nil
}

// traceparent makes a trace of the call, with a span for the attempt (W3C Trace
// Context), so that the server's own traces tell the attempts apart.
func traceparent(a retry.Attempt) string {
	var span [8]byte
	_, _ = rand.Read(span[:]) // never fails (crypto/rand)
	return "00-" + a.CallID() + a.CallID() + "-" + hex.EncodeToString(span[:]) + "-01"
}

// judge says what a response means. bodyErr is what ended the reading of answer,
// the body.
func (c *Client) judge(op *operation, resp *http.Response, answer []byte, bodyErr error) ([]byte, error) {
	ours := resp.Header.Get("X-Blueapi-Version") != ""
	if ours {
		c.version.Store(&Version{Server: resp.Header.Get("X-Blueapi-Version"), API: resp.Header.Get("X-Api-Version")})
	}
	if f := retryhttp.Judge(resp); f != nil {
		return nil, f
	}
	success := resp.StatusCode/100 == 2
	if bodyErr != nil && success && op.safety == retry.Safe {
		return nil, &retry.Failure{Verdict: retry.Ambiguous, Err: fmt.Errorf("the answer was cut off: %w", bodyErr)}
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusInternalServerError && kind == "text/plain":
		// blueapi's own, though without its headers: the worker did not do
		// what was asked in time, or not at all.
		return nil, &retry.Failure{Verdict: retry.Ambiguous, Evidence: retry.Proof, Err: errorOf(op.name, resp.StatusCode, answer)}
	case !ours && kind != "application/json" && resp.StatusCode != http.StatusNoContent:
		// A login page, a proxy's error page: it says nothing about the server.
		detail := excerpt(answer)
		if to := resp.Header.Get("Location"); to != "" {
			detail = "redirected to " + withoutQuery(to)
		}
		return nil, op.foreign(resp.StatusCode, detail)
	case success && !ours && !hasKey(answer, op.key), success && op.check != nil && bodyErr == nil && !op.check(answer):
		return nil, op.foreign(resp.StatusCode, "unexpected answer: "+excerpt(answer))
	case success:
		if !op.root {
			c.paths.CompareAndSwap(pathsUnknown, pathsVersioned)
		}
		return answer, nil
	case resp.StatusCode >= http.StatusInternalServerError:
		return nil, &retry.Failure{Verdict: retry.Ambiguous, Evidence: retry.Proof, Err: errorOf(op.name, resp.StatusCode, answer)}
	}
	e := errorOf(op.name, resp.StatusCode, answer)
	f := &retry.Failure{Verdict: retry.Fatal, Evidence: retry.Proof, Err: e}
	switch {
	case !ours && e.Fields == nil && !e.hasDetail:
		return nil, op.foreign(resp.StatusCode, excerpt(answer)) // somebody else's JSON
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		// So answers a server whose identity provider is away (1.19).
		f.Verdict = op.hopeless()
	}
	return nil, f
}

// nullable is the one key that blueapi answers null to.
const nullable = "task_id"

func hasKey(answer []byte, key string) bool {
	var o map[string]json.RawMessage
	switch {
	case key == "":
		return true
	case json.Unmarshal(answer, &o) != nil || o[key] == nil:
		return false
	}
	return key == nullable || string(o[key]) != "null"
}

// withoutQuery cuts what may hold a secret off a URL.
func withoutQuery(s string) string {
	s, _, _ = strings.Cut(s, "?")
	return s
}
