package gateway

import (
	"context"
	"sync"

	"github.com/coder/websocket"
)

// maxBehind is how many bytes of events may wait for a caller that is slow to take them:
// some 90,000 of the documents of a scan.
const maxBehind = 64 << 20

// outbox is what a caller is still to be sent, so that one that is slow holds up
// nobody, and least of all the plan, which the server itself would let wait (1.21.1).
// Its zero value is empty.
type outbox struct {
	mu     sync.Mutex
	frames [][]byte
	size   int
	end    *ending // after the frames; nil while there are more to come
	once   sync.Once
	more   chan struct{}
}

func (o *outbox) signal() chan struct{} {
	o.once.Do(func() { o.more = make(chan struct{}, 1) })
	return o.more
}

func (o *outbox) wake() {
	select {
	case o.signal() <- struct{}{}:
	default:
	}
}

// push adds a frame, unless the end was told. It is false if too many wait.
func (o *outbox) push(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.end != nil:
		return true
	case o.size+len(frame) > maxBehind:
		return false
	}
	o.frames = append(o.frames, frame)
	o.size += len(frame)
	o.wake()
	return true
}

// finish tells how it ends. Only the first end counts.
func (o *outbox) finish(e ending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil {
		return
	}
	if o.end = &e; e.frame != nil {
		o.frames = append(o.frames, e.frame)
		o.size += len(e.frame)
	}
	o.wake()
}

// drop forgets what waits.
func (o *outbox) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames, o.size = nil, 0
}

// finished reports whether the end was told.
func (o *outbox) finished() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end != nil
}

// next takes what comes next: a frame or the end, or neither if there is nothing.
func (o *outbox) next() (frame []byte, end *ending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.frames) == 0 {
		return nil, o.end
	}
	frame, o.frames = o.frames[0], o.frames[1:]
	o.size -= len(frame)
	return frame, nil
}

// send sends what comes until its end, or that of the connection. When gone is closed it
// waits for nothing more.
func (o *outbox) send(ctx context.Context, conn *websocket.Conn, gone <-chan struct{}) {
	for {
		frame, end := o.next()
		switch {
		case frame != nil:
			if conn.Write(ctx, websocket.MessageText, frame) != nil {
				return
			}
		case end != nil:
			_ = conn.Close(end.code, end.reason) // if the caller has not gone
			return
		default:
			select {
			case <-o.signal():
			case <-gone:
				if !o.finished() {
					return
				}
			}
		}
	}
}
