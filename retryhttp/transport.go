package retryhttp

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/adamant-go/adamant/retry"
)

const (
	// defaultLimit bounds the bodies that are kept in memory.
	defaultLimit = 1 << 20
	// failedLimit bounds what is read of a response that may be followed by
	// another attempt; beyond that its connection is closed.
	failedLimit = 64 << 10
	// responseLimit is how long a response may show no sign of life.
	responseLimit = 10 * time.Second
)

// Transport is an http.RoundTripper that makes another attempt where that is
// safe and may help. The zero value is ready. It may be used concurrently, and
// must not be copied or changed once in use.
//
// It keeps the contract of RoundTripper: a request is not modified, its body is
// always closed, and a response is returned without an error whatever its status.
// So a call whose last attempt was answered 503 returns that 503.
//
// Responses of a known length of up to one MiB, and JSON, are read before they
// are returned, so that one that was cut off is another attempt's business. All
// others are streamed.
type Transport struct {
	// Base sends the requests; see Wire.Base. nil means a transport of its own.
	Base http.RoundTripper
	// Policy says how calls are repeated. Its Op, Safety and Copies are set
	// for each request. If it has a Gate, all requests share that; otherwise
	// each destination has its own. Zero Silence means ten seconds.
	Policy retry.Policy
	// Key names the destination of a request; nil means its scheme, host and
	// port. Requests with the same key share a gate, so a service behind a
	// path that always fails wants a key of its own.
	Key func(*http.Request) string
	// Safety says whether a request may be sent again although it may have
	// taken effect; nil means SafetyOf.
	Safety func(*http.Request) retry.Safety
	// RequestLimit is how long a request body without GetBody may be, in
	// bytes, as it has to be kept in memory; zero means one MiB.
	RequestLimit int64

	once  sync.Once
	wire  Wire
	last  atomic.Pointer[policies] // of the latest call
	mu    sync.Mutex
	known map[destination]*policies
}

// destination is what a gate is kept for.
type destination struct{ scheme, host string }

var _ http.RoundTripper = (*Transport)(nil)

// SafetyOf says what RFC 9110 (9.2.2) says of a request's method: the idempotent
// ones, and anything with an Idempotency-Key, are Safe, all others Once.
func SafetyOf(r *http.Request) retry.Safety {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return retry.Safe
	}
	if r.Header.Get("Idempotency-Key") != "" {
		return retry.Safe
	}
	return retry.Once
}

func (t *Transport) setUp() { t.wire.Base = t.Base }

// RoundTrip implements http.RoundTripper. The error is an [*retry.Error].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.once.Do(t.setUp)
	if err := checkURL(r); err != nil {
		closeBody(r)
		return nil, err
	}
	limit := t.RequestLimit
	if limit == 0 {
		limit = defaultLimit
	}
	r, err := replayable(r, limit)
	if err != nil {
		return nil, err
	}
	x := &exchange{transport: t, request: r, policy: t.policy(r)}
	x.call.Op = r.URL.Path
	if x.policy.Trace != nil {
		x.call.Op = opOf(r)
	}
	return x.run()
}

func opOf(r *http.Request) string {
	if r.Method == "" {
		return http.MethodGet + " " + r.URL.Path
	}
	return r.Method + " " + r.URL.Path
}

func (t *Transport) safety(r *http.Request) retry.Safety {
	if t.Safety != nil {
		return t.Safety(r)
	}
	return SafetyOf(r)
}

// CloseIdleConnections closes the connections that are kept for later.
func (t *Transport) CloseIdleConnections() {
	t.once.Do(t.setUp)
	t.wire.CloseIdleConnections()
}

// policies are what the calls to one destination share.
type policies struct {
	of                 destination
	copied, safe, once retry.Policy
}

func (t *Transport) policy(r *http.Request) *retry.Policy {
	p := t.policies(r)
	switch {
	case t.safety(r) == retry.Once:
		return &p.once
	case r.Method == http.MethodGet || r.Method == "":
		return &p.copied
	}
	return &p.safe
}

func (t *Transport) policies(r *http.Request) *policies {
	d := destination{r.URL.Scheme, r.URL.Host}
	if t.Key != nil {
		d = destination{host: t.Key(r)}
	}
	p := t.last.Load()
	if p != nil && p.of == d {
		return p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p = t.known[d]; p == nil {
		p = t.newPolicies()
		p.of = d
		if t.known == nil {
			t.known = make(map[destination]*policies)
		}
		t.known[d] = p
	}
	t.last.Store(p)
	return p
}

func (t *Transport) newPolicies() *policies {
	base := t.Policy
	if base.Gate == nil {
		base.Gate = new(retry.Gate)
	}
	if base.Silence == 0 {
		base.Silence = responseLimit
	}
	if base.Reopened == nil {
		base.Reopened = t.wire.CloseIdleConnections
	}
	base.Safety, base.Copies = retry.Safe, false
	p := &policies{copied: base, safe: base, once: base}
	p.copied.Copies = true
	p.once.Safety = retry.Once
	return p
}
