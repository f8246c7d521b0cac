package stomp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// Session is a subscription that outlives its connections; [Client.Open] makes
// it. When the connection is lost it connects and subscribes again, and the
// stream that Next returns says from when until when messages may be missing. All
// methods may be called concurrently.
type Session struct {
	client      *Client
	destination string
	headers     []Header
	stream      *stream // nil if it is not used, or no longer
	queue       *queue
	opened      time.Time
	leave       context.CancelCauseFunc
	done        chan struct{} // closed when all has ended

	mu         sync.Mutex
	subscribed chan struct{} // closed while the subscription is confirmed
	attempts   int           // to connect, since it was confirmed last
	away       *Gap          // nil before the first failure, and while it is confirmed
	notice     error         // is told in the next gap
	err        error         // why the session has ended
}

const (
	// From the fifth failure on, no more than one attempt in two seconds.
	slowAfter, slowDelay = 5, 2 * time.Second
	// A connection that lasted as long was a good one: the next attempt is made at
	// once, and what fails then is a first failure.
	steady = 5 * time.Second
	// A refusal may come from a broker that is starting or shutting down: it is
	// believed when said for the second time, or the fifth if the broker accepted
	// the same before.
	refusalsAtFirst, refusalsLater = 2, 5
	// RabbitMQ 3.10.8 takes connections when it has started, and says for some tenths
	// of a second more that there is no such stream.
	refusalsOfStream = 10
	// farewell bounds the wait for the receipt of DISCONNECT.
	farewell = time.Second
)

// Open subscribes to a destination and keeps it subscribed until ctx ends, Close
// is called, or the broker refuses for good. It returns at once; Subscribed waits
// for the broker.
//
// Headers are sent with each SUBSCRIBE. After a lost connection the first attempt
// to connect is made at once, others follow as [Client.Delay] says. To refuse for
// good is to answer CONNECT or SUBSCRIBE with an ERROR, to speak no version that
// we do, or to show a certificate that does not hold, twice in a row; or five
// times, if all was well before.
func (c *Client) Open(ctx context.Context, destination string, headers ...Header) *Session {
	return c.open(ctx, &Session{destination: destination, headers: headers})
}

func (c *Client) open(ctx context.Context, s *Session) *Session {
	s.client, s.queue = c, c.queue()
	s.opened, s.done, s.subscribed = time.Now(), make(chan struct{}), make(chan struct{})
	leaving, leave := context.WithCancelCause(ctx)
	s.leave = leave
	go func() {
		err := s.supervise(leaving, ctx)
		leave(nil)
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		s.queue.close(err)
		close(s.done)
	}()
	return s
}

// Next returns what comes next, a message or a gap, and waits for it. After the
// session's end what had come before is still returned, and then the reason: the
// context's error, ErrClosed, or why the broker refused. If ctx ends, nothing is
// lost.
func (s *Session) Next(ctx context.Context) (Delivery, error) { return s.queue.next(ctx) }

// Subscribed returns nil as soon as the broker has confirmed the subscription on
// the connection of the moment: what is sent from then on is delivered, or told
// as a gap. It fails when the session has ended, or when ctx ends first; then the
// error wraps the last failure to connect too.
func (s *Session) Subscribed(ctx context.Context) error {
	s.mu.Lock()
	subscribed := s.subscribed
	s.mu.Unlock()
	var err error
	select {
	case <-subscribed:
	case <-s.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case err != nil && s.away != nil:
		return fmt.Errorf("%w: %w", err, s.away.Err)
	}
	return err
}

// Close takes leave of the broker, waiting a second at most for its receipt, and
// ends the session. Its goroutines have ended when Close returns.
func (s *Session) Close() error {
	s.leave(ErrClosed)
	<-s.done
	return nil
}

// supervise connects again and again, and returns why it stopped. A connection
// lasts as long as life; when leaving ends it is closed in good order.
func (s *Session) supervise(leaving, life context.Context) error {
	failures, refusals, patience := 0, 0, refusalsAtFirst
	for {
		began := time.Now()
		conn, heard, err := s.connect(leaving, life)
		switch {
		case conn != nil:
			began, refusals, patience = time.Now(), 0, refusalsLater
			if s.stream != nil {
				patience = refusalsOfStream
			}
			heard, err = s.stay(leaving, life, conn)
		case refused(err):
			refusals++
		default: // a broker that was shutting down is starting next
			refusals = 0
		}
		switch {
		case leaving.Err() != nil:
			return context.Cause(leaving)
		case refusals >= patience && s.stream != nil && refusedStream(err):
			s.giveUpStream(err)
			refusals, patience = 0, refusalsAtFirst
			s.lost(heard, err)
			continue
		case refusals >= patience:
			return err
		}
		s.lost(heard, err)
		if conn != nil && time.Since(began) >= steady {
			failures = 0
			continue
		}
		s.wait(leaving, failures)
		failures++
	}
}

// connect connects and subscribes. If it fails it returns when the broker was
// heard last, as far as this session knows.
func (s *Session) connect(leaving, life context.Context) (*Conn, time.Time, error) {
	s.mu.Lock()
	s.attempts++
	s.mu.Unlock()
	if s.stream != nil && s.stream.at < 0 {
		switch err := s.stream.locate(leaving, s.client); {
		case errors.Is(err, errNotRabbitMQ):
			s.giveUpStream(err)
		case err != nil:
			return nil, s.opened, err
		}
	}
	conn, err := s.client.connect(leaving, life)
	if err != nil {
		return nil, s.opened, err
	}
	if s.stream != nil {
		err = s.stream.subscribe(leaving, conn, s)
	} else {
		sub := &Subscription{queue: s.queue, confirmed: func(now time.Time) { s.confirmed(now, false) }}
		err = conn.subscribe(leaving, sub, s.destination, "auto", s.headers)
	}
	if err != nil {
		conn.end(err)
		if errors.Is(err, ErrStreamLost) {
			s.stream.at = -1
		}
		return nil, conn.Heard(), err
	}
	return conn, time.Time{}, nil
}

// giveUpStream goes on with the plain destination.
func (s *Session) giveUpStream(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice = &StreamError{Stream: s.stream.name, Err: err}
	s.stream = nil
}

// stay returns when the broker was heard last and why the connection ended. All
// that it brought is in the queue then.
func (s *Session) stay(leaving, life context.Context, conn *Conn) (time.Time, error) {
	select {
	case <-conn.Done():
		conn.routines.Wait()
		return conn.Heard(), conn.Err()
	case <-leaving.Done():
	}
	ctx, cancel := context.WithTimeout(life, farewell)
	defer cancel()
	return conn.Heard(), conn.Disconnect(ctx)
}

// confirmed is called by a connection's reader: whatever it brings next comes
// after the gap, and is all that was sent since if it was replayed.
func (s *Session) confirmed(now time.Time, replayed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away == nil && s.notice != nil {
		s.away = &Gap{From: now}
	}
	if g := s.away; g != nil {
		g.Until, g.Attempts, g.Replayed = now, s.attempts, replayed
		if s.notice != nil {
			g.Err = s.notice
		}
		s.queue.gap(*g)
	}
	s.away, s.notice, s.attempts = nil, nil, 0
	close(s.subscribed)
}

// lost notes that there is no connection; if there was one, it was good until from.
func (s *Session) lost(from time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil && (refusedStream(err) || errors.Is(err, syscall.ECONNREFUSED)) {
		s.stream.whole = false // the broker may have been down
	}
	if s.away != nil {
		s.away.Err = err
		return
	}
	select {
	case <-s.subscribed:
		s.subscribed = make(chan struct{})
	default:
	}
	s.away = &Gap{From: from, Last: s.queue.lastID(), Attempts: s.attempts, Err: err}
	s.queue.gap(*s.away)
}

// wait waits after the k-th failure, counted from 0.
func (s *Session) wait(ctx context.Context, k int) {
	delay := s.client.Delay
	if delay == nil {
		delay = defaultDelay
	}
	d := delay(k)
	if k+1 >= slowAfter {
		d = max(d, slowDelay)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func defaultDelay(k int) time.Duration {
	d, most := 250*time.Millisecond, 843750*time.Microsecond
	for range min(k, 3) {
		d += d / 2
	}
	d = min(d, most)
	return d + time.Duration(rand.Int64N(int64(d/2)))
}

// refused reports whether the broker has said that it wants none of us, or we
// cannot even ask, as opposed to the broker not being there.
func refused(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Command == "CONNECT" || e.Command == "SUBSCRIBE"
	}
	if errors.Is(err, errNoOffset) {
		return true
	}
	_, bad := errors.AsType[*tls.CertificateVerificationError](err)
	return bad || errors.Is(err, ErrVersion) || unsent(err)
}
