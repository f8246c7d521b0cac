package gateway

import (
	"context"
	"sync"
)

// hold keeps back what is passed on while the environment is reloaded, as blueapi's
// client does with its own calls: a request that arrives while the old worker is being
// stopped can make the server hang for good (measured on 1.21.1). The zero hold holds
// nobody.
type hold struct {
	mu      sync.Mutex
	calls   int           // under way
	drained chan struct{} // not nil while a reload waits for calls to end
	over    chan struct{} // closed when the reload is over; nil while there is none
}

// enter waits until no reload is under way, and counts a call in.
func (h *hold) enter(ctx context.Context) error {
	for {
		h.mu.Lock()
		over := h.over
		if over == nil {
			h.calls++
			h.mu.Unlock()
			return nil
		}
		h.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *hold) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls--; h.calls == 0 && h.drained != nil {
		close(h.drained)
		h.drained = nil
	}
}

// begin holds new calls back. It returns false if that is done already; otherwise
// drained is closed when those under way have ended.
func (h *hold) begin() (drained <-chan struct{}, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over != nil {
		return nil, false
	}
	h.over = make(chan struct{})
	h.drained = make(chan struct{})
	done := h.drained
	if h.calls == 0 {
		close(done)
		h.drained = nil
	}
	return done, true
}

// end lets calls go.
func (h *hold) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.over)
	h.over, h.drained = nil, nil
}

// active reports whether a reload is under way.
func (h *hold) active() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over != nil
}
