package retryhttp

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/adamant-go/adamant/retry"
)

// exchange is one call of a Transport. It is one allocation together with the
// call.
type exchange struct {
	call      retry.Call
	transport *Transport
	policy    *retry.Policy
	request   *http.Request

	mu    sync.Mutex
	first *http.Response
	slow  *slowExchange
}

// slowExchange is what a call needs that does not succeed at once.
type slowExchange struct {
	more  map[int]*http.Response // by number of attempt, from 2 on
	last  *http.Response         // of the last attempt that failed with one
	lastN int
}

// others is to be called with the exchange locked.
func (x *exchange) others() *slowExchange {
	if x.slow == nil {
		x.slow = &slowExchange{more: make(map[int]*http.Response)}
	}
	return x.slow
}

func (x *exchange) run() (*http.Response, error) {
	a, err := x.call.Run(x.request.Context(), x.policy, x)
	if err == nil {
		resp := x.take(a.Number)
		x.discard()
		if _, buffered := resp.Body.(*bytesBody); buffered || resp.Body == http.NoBody {
			a.Release()
		} else {
			resp.Body = onClose(resp.Body, a.Release)
		}
		return resp, nil
	}
	a.Release()
	e, ok := errors.AsType[*retry.Error](err)
	if ok && x.lastWord(e) {
		resp := x.slow.last
		x.slow.last = nil
		x.discard()
		return resp, nil
	}
	x.discard()
	if ok {
		e.Op = opOf(x.request)
		if e.Attempts == 0 {
			closeBody(x.request)
		}
	}
	return nil, err
}

// lastWord reports whether a response was what became of the last attempt, so that
// it is what became of the call.
func (x *exchange) lastWord(e *retry.Error) bool {
	if x.slow == nil || x.slow.last == nil || e.Reason == retry.Cancelled || e.Reason == retry.Deadline || len(e.Records) == 0 {
		return false
	}
	return e.Records[len(e.Records)-1].Number == x.slow.lastN
}

// Try implements retry.Tryer.
func (x *exchange) Try(ctx context.Context, a retry.Attempt) error {
	resp, err := x.transport.wire.Send(ctx, x.request, a, x.policy.Safety == retry.Once)
	if err != nil {
		return err
	}
	if f := Judge(resp); f != nil {
		if resp.Body != nil && resp.Body != http.NoBody {
			_ = buffer(resp, retry.Attempt{}, failedLimit) // a cut 503 is a 503 still, and one that drips is no life
		}
		x.keepLast(resp, a)
		return f
	}
	if x.policy.Safety == retry.Safe && whole(resp, defaultLimit) {
		a.Heard()
		if err := buffer(resp, a, defaultLimit); err != nil {
			return &retry.Failure{Verdict: retry.Ambiguous, Err: err}
		}
	}
	if a.Number == 1 {
		x.first = resp // read when all attempts have ended
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.others().more[a.Number] = resp
	return nil
}

// keepLast keeps the latest response that is no answer, in place of an older
// one.
func (x *exchange) keepLast(resp *http.Response, a retry.Attempt) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.others()
	if a.Number < s.lastN {
		_ = resp.Body.Close()
		return
	}
	if s.last != nil {
		_ = s.last.Body.Close()
	}
	s.last, s.lastN = resp, a.Number
}

// take returns the response of an attempt, so that discard leaves it alone. It
// and discard are called when all attempts have ended.
func (x *exchange) take(number int) *http.Response {
	if number == 1 {
		resp := x.first
		x.first = nil
		return resp
	}
	resp := x.slow.more[number]
	delete(x.slow.more, number)
	return resp
}

// discard closes the responses that nobody will read.
func (x *exchange) discard() {
	if x.first != nil {
		_ = x.first.Body.Close()
	}
	if x.slow == nil {
		return
	}
	if x.slow.last != nil {
		_ = x.slow.last.Body.Close()
	}
	for _, resp := range x.slow.more {
		_ = resp.Body.Close()
	}
}
