package stomp

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Delivery is what a subscription brings: a message, or a gap between two.
type Delivery struct {
	// Message is a MESSAGE frame; nil if this is a gap.
	Message *Frame
	// Gap says where messages may be missing; nil if this is a message.
	Gap *Gap
}

// A Gap is a stretch of a subscription in which messages may be missing: a topic
// keeps nothing for those who are away.
type Gap struct {
	// From is when the broker was last heard, or when the first message was
	// dropped.
	From time.Time
	// Until is when the subscription was confirmed again, or when the last message
	// was dropped. It is zero as long as the connection is away: such a gap is
	// delivered once when it begins, and once more, with Until, when it is over.
	Until time.Time
	// Last is the message-id of the last message before the gap; "" if there was
	// none.
	Last string
	// Missed counts the messages that were dropped here, for lack of room or as
	// too large. What the broker sent while the connection was away nobody counts.
	Missed int
	// Attempts is how often it was tried to connect again.
	Attempts int
	// Replayed says that nothing is missing: what was sent while the connection was
	// away follows, from the stream. See [Client.OpenStream].
	Replayed bool
	// Err is why: ErrFull, a *[LimitError], a *[StreamError], or what became of the
	// connection.
	Err error

	lossy bool // it was joined to one that was not replayed
}

// ErrFull is why messages are dropped whose consumer is too slow.
var ErrFull = errors.New("stomp: messages were dropped because their consumer is too slow")

// deliverySize is what a queue counts for a gap.
const deliverySize = 256

// queue holds what a consumer has not taken yet, in order. When its limit is
// reached, what comes is dropped until half of it is free again, so that a slow
// consumer finds a few long gaps rather than many short ones.
type queue struct {
	limit int // bytes

	mu       sync.Mutex // held for moments only: a reader must never wait
	items    []item
	head     int // items before it are taken
	bytes    int
	dropping bool
	last     string // message-id of the last message that was accepted
	end      error  // what next returns after the items
	changed  chan struct{}
}

// item is what waits for a consumer.
type item struct {
	Delivery
	acks *acks // is told when it is taken; may be nil
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, changed: make(chan struct{}, 1)}
}

func (q *queue) message(f *Frame, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end != nil {
		return
	}
	n := f.size()
	if q.dropping && q.bytes <= q.limit/2 {
		q.dropping = false
	}
	if q.dropping || q.bytes+n > q.limit {
		q.dropping = true
		q.add(Gap{From: now, Until: now, Missed: 1, Err: ErrFull})
		return
	}
	q.last = f.Get("message-id")
	q.put(item{Delivery: Delivery{Message: f}}, n)
}

// offer is message for what the broker keeps: if there is no room, nothing is dropped
// and it reports false. A message that is too large for any queue is taken by one that
// is empty.
func (q *queue) offer(f *Frame, a *acks) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := f.size()
	if q.bytes+n > q.limit && q.head < len(q.items) {
		return false
	}
	if q.end == nil {
		q.last = f.Get("message-id")
		a.came(f)
		q.put(item{Delivery{Message: f}, a}, n)
	}
	return true
}

// gap puts a notice at the end.
func (q *queue) gap(g Gap) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end == nil {
		q.add(g)
	}
}

// lastID is the message-id of the last message that was accepted.
func (q *queue) lastID() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.last
}

// add joins a gap to one that is the last item, since nothing was delivered in
// between: so gaps are never more than messages.
func (q *queue) add(g Gap) {
	if g.Last == "" {
		g.Last = q.last
	}
	if len(q.items) > q.head {
		if before := q.items[len(q.items)-1].Gap; before != nil {
			if g.From.After(before.From) {
				g.From = before.From
			}
			g.lossy = before.lossy || !before.Until.IsZero() && !before.Replayed
			g.Replayed = g.Replayed && !g.lossy
			g.Missed += before.Missed
			q.items[len(q.items)-1].Gap = &g // a new one: nobody sees a Gap change
			return
		}
	}
	q.put(item{Delivery: Delivery{Gap: &g}}, deliverySize)
}

func (q *queue) put(i item, size int) {
	q.items = append(q.items, i)
	q.bytes += size
	q.wake()
}

// close ends the queue: what is in it can still be taken.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end == nil {
		q.end = err
		q.wake()
	}
}

func (q *queue) wake() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// next takes the first item, and waits for it.
func (q *queue) next(ctx context.Context) (Delivery, error) {
	for {
		if d, ok, err := q.take(); ok || err != nil {
			return d, err
		}
		select {
		case <-q.changed:
		case <-ctx.Done():
			return Delivery{}, context.Cause(ctx)
		}
	}
}

// take reports false if there is nothing, and why if there will never be.
func (q *queue) take() (Delivery, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == len(q.items) {
		if q.end != nil {
			q.wake() // for others that wait
		}
		return Delivery{}, false, q.end
	}
	i := q.items[q.head]
	q.items[q.head] = item{}
	q.head++
	if i.Message != nil {
		q.bytes -= i.Message.size()
	} else {
		q.bytes -= deliverySize
	}
	if i.acks != nil {
		i.acks.taken(i.Message)
	}
	switch {
	case q.head == len(q.items) && cap(q.items) > 1024:
		q.items, q.head = nil, 0
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
	case q.head > 1024 && q.head > len(q.items)/2: // amortised: as many are moved as were taken
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	if q.head < len(q.items) || q.end != nil {
		q.wake()
	}
	return i.Delivery, true, nil
}
