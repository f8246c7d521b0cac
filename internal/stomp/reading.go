package stomp

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// reading is a stream as one connection reads it.
type reading struct {
	stream    *stream
	conn      *Conn
	queue     *queue
	acks      acks
	confirmed func(now time.Time, replayed bool)
	found     chan struct{} // closed when the stream's place is found

	locates bool                  // messages tell where the stream ends, and nothing else
	end     atomic.Pointer[place] // then; nil before the first message
}

// wait waits for the place, and no longer than limit.
func (r *reading) wait(ctx context.Context, limit time.Duration) (found bool, err error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-r.found:
		return true, nil
	case <-r.conn.done:
		return false, r.conn.Err()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-late.C:
		return false, nil
	}
}

func (r *reading) isFound() bool {
	select {
	case <-r.found:
		return true
	default:
		return false
	}
}

// confirm says that the place is found, and all that comes from now on is handed over.
func (r *reading) confirm(now time.Time) {
	r.confirmed(now, r.stream.whole)
	r.stream.whole = true
	close(r.found)
}

// deliver is called by the connection's reader. The first message must be the one that
// was read last: then it is the same stream and nothing is missing. Offsets grow, and
// may have holes.
func (r *reading) deliver(f *Frame, now time.Time, large error) {
	st := r.stream
	p, err := st.placeOf(f)
	if err != nil {
		r.conn.fail(err)
		return
	}
	if r.locates {
		if r.end.Swap(&p) == nil {
			close(r.found)
		}
		return
	}
	if !r.isFound() {
		switch {
		case p.at == st.at && p.sum != st.sum:
			r.conn.fail(ErrStreamLost)
			return
		case p.at > st.at: // those between were dropped
			st.whole = false
			r.confirm(now)
		case p.at == st.at:
			r.confirm(now)
		}
	}
	again := p.at <= st.at
	switch {
	case again || large != nil:
		r.acks.passed(f)
	case !r.queue.offer(f, &r.acks):
		r.conn.fail(fmt.Errorf("stomp: %d messages of a stream have no room: %w", window, ErrFull))
		return
	}
	if again {
		return
	}
	if st.place = p; large != nil {
		r.queue.gap(Gap{From: now, Until: now, Missed: 1, Err: large})
	}
}
