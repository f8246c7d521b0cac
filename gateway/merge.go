package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// merger makes one call of reads that are alike. An answer is for those only who had
// asked before its request was sent: what a caller has just done must show in what it
// reads. Those who came later go again, together. The zero merger is ready.
type merger struct {
	mu      sync.Mutex
	flights map[string]*flight
}

// flight is one call for all who have asked the same. Until it has landed it is guarded
// by the merger's mutex, and does not change afterwards.
type flight struct {
	cancel context.CancelFunc
	landed chan struct{}
	asked  []time.Time // when the callers asked who have joined, in that order
	gone   []int       // of them, those who do not wait any more
	// boarded is how many had joined when the latest attempt was begun.
	boarded int

	answer outcome
	err    error
	// served is how many, of those who joined first, that is for. The others have
	// their places on next, in the same order; or each goes alone.
	served int
	next   *flight
	alone  bool
}

// keyOf is what reads must have in common to be alike: all that the server is told but
// what it does not answer to.
func keyOf(op *operation) string {
	var b strings.Builder
	b.WriteString(op.method + " " + op.path + "?" + op.query)
	keys := make([]string, 0, len(op.header))
	for key := range op.header {
		switch key {
		case "Traceparent", "Tracestate", "User-Agent", "Accept-Encoding", retryhttp.HeaderAttempt, retryhttp.HeaderLayer:
		default:
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		for _, value := range op.header[key] {
			b.WriteString("\n" + key + ": " + value) // neither may have line breaks
		}
	}
	return b.String()
}

// read makes a read, or shares one that is under way. It ends with ctx; the read
// itself goes on as long as anybody waits for it.
func (g *Gateway) read(ctx context.Context, op operation) (outcome, error) {
	c := callerOf(ctx)
	f, seat, err := g.join(ctx, keyOf(&op), op)
	for err == nil {
		select {
		case <-f.landed:
		case <-ctx.Done():
			g.merger.leave(f, seat)
			return outcome{}, ctx.Err()
		}
		switch {
		case seat < f.served:
			if seat > 0 {
				c.did(Merged)
			}
			return f.answer, f.err
		case f.alone:
			return g.call(ctx, op)
		case f.next == nil:
			return outcome{}, errClosed
		}
		f, seat = f.next, seat-f.served
	}
	return outcome{}, err
}

// errClosed is the end of what the gateway does not begin any more.
var errClosed = errors.New("the gateway is closing")

// join finds the flight of a read that another has begun, or begins one.
func (g *Gateway) join(ctx context.Context, key string, op operation) (f *flight, seat int, err error) {
	g.merger.mu.Lock()
	defer g.merger.mu.Unlock()
	if f = g.merger.flights[key]; f == nil {
		f = new(flight)
		if !g.begin(ctx, key, f, op) {
			return nil, 0, errClosed
		}
	}
	f.asked = append(f.asked, time.Now())
	return f, len(f.asked) - 1, nil
}

// begin lets a flight begin, with the merger locked. It is not begun if the gateway is
// closed.
func (g *Gateway) begin(ctx context.Context, key string, f *flight, op operation) bool {
	m := &g.merger
	ctx, f.cancel = g.detached(ctx)
	f.landed = make(chan struct{})
	op.board = func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		f.boarded = len(f.asked)
		return f.boarded
	}
	if !g.goOn(func() { g.fly(ctx, key, f, op) }) {
		f.cancel()
		return false
	}
	if m.flights == nil {
		m.flights = make(map[string]*flight)
	}
	m.flights[key] = f
	return true
}

// fly makes the call of a flight, and begins the next one if there is anybody whom the
// answer is not for.
func (g *Gateway) fly(ctx context.Context, key string, f *flight, op operation) {
	defer f.cancel()
	answer, err := g.call(ctx, op)
	m := &g.merger
	m.mu.Lock()
	defer m.mu.Unlock()
	f.answer, f.err = answer, err
	f.served = max(1, answer.boarded)
	if err != nil {
		f.served = max(1, f.outlasted(time.Now(), retry.Policy{Wait: g.Wait}))
		if _, answered := lastAnswer(err); answered {
			f.served = max(f.served, f.boarded)
		}
	} else if answer.header.Get("Set-Cookie") != "" { // which is for one
		f.served, f.alone = 1, true
	}
	if m.flights[key] == f {
		delete(m.flights, key)
	}
	late := len(f.asked) - f.served
	for _, seat := range f.gone {
		if seat >= f.served {
			late--
		}
	}
	if late > 0 && !f.alone {
		next := &flight{asked: f.asked[f.served:]}
		op.since = next.asked[0]
		for _, seat := range f.gone {
			if seat >= f.served {
				next.gone = append(next.gone, seat-f.served)
			}
		}
		if g.begin(ctx, key, next, op) {
			f.next = next
		}
	}
	close(f.landed)
}

// outlasted is how many callers have waited as long as a call of their own would have:
// the others do not give up with those who came before them.
func (f *flight) outlasted(now time.Time, p retry.Policy) int {
	for n, asked := range f.asked {
		if now.Sub(asked) < p.Window() {
			return n
		}
	}
	return len(f.asked)
}

// leave gives a caller's seat up. A flight that nobody waits for is ended.
func (m *merger) leave(f *flight, seat int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for f != nil && f.served > 0 { // it has landed
		if seat < f.served {
			return
		}
		f, seat = f.next, seat-f.served
	}
	if f == nil {
		return
	}
	if f.gone = append(f.gone, seat); len(f.gone) < len(f.asked) {
		return
	}
	for key, other := range m.flights {
		if other == f {
			delete(m.flights, key)
		}
	}
	f.cancel()
}
