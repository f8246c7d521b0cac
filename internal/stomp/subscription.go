package stomp

import (
	"context"
	"sync/atomic"
	"time"
)

// Subscription is one subscription of a connection, with a queue of its own;
// [Conn.Subscribe] makes it.
type Subscription struct {
	conn    *Conn
	id      string
	headers []Header
	queue   *queue
	// confirmed is called once, by the reader: when the receipt comes, or before
	// that the first message, which proves the same. It may be nil.
	confirmed func(time.Time)
	proven    atomic.Bool
	// reading deals with the messages, if they are a stream's.
	reading *reading
	// ends says whether the queue ends with the connection.
	ends bool
}

// Subscribe subscribes to a destination and returns when the broker's receipt has
// come: what is sent to the destination from then on is delivered. Further
// headers are sent as they are. A broker that refuses makes an *[Error] of the
// command SUBSCRIBE, and ends the connection. After any other error the broker
// may have subscribed us or not, and the connection is best closed.
func (c *Conn) Subscribe(ctx context.Context, destination string, headers ...Header) (*Subscription, error) {
	s := &Subscription{queue: c.queue(), ends: true}
	if err := c.subscribe(ctx, s, destination, "auto", headers); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Conn) subscribe(ctx context.Context, s *Subscription, destination, ack string, headers []Header) error {
	s.conn, s.headers = c, headers
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	s.id = c.newID()
	c.subs[s.id] = s
	c.mu.Unlock()
	f := &Frame{Command: "SUBSCRIBE", Headers: append([]Header{{"id", s.id}, {"destination", destination}, {"ack", ack}}, headers...)}
	err := c.request(ctx, f, s.prove)
	if err != nil {
		s.forget()
	}
	return err
}

func (s *Subscription) prove(now time.Time) {
	if s.proven.CompareAndSwap(false, true) && s.confirmed != nil {
		s.confirmed(now)
	}
}

func (s *Subscription) deliver(f *Frame, large error) {
	now := time.Now()
	s.prove(now)
	if s.reading != nil {
		s.reading.deliver(f, now, large)
		return
	}
	if large != nil {
		s.queue.gap(Gap{From: now, Until: now, Missed: 1, Err: large})
		return
	}
	s.queue.message(f, now)
}

func (s *Subscription) ended(err error) {
	if s.ends {
		s.queue.close(err)
	}
}

// forget ends deliveries.
func (s *Subscription) forget() {
	s.conn.mu.Lock()
	delete(s.conn.subs, s.id)
	s.conn.mu.Unlock()
}

// Next returns what comes next, and waits for it. When the connection has ended,
// what had come before is still returned, and then the reason for the end. If ctx
// ends, nothing is lost.
func (s *Subscription) Next(ctx context.Context) (Delivery, error) { return s.queue.next(ctx) }

// Unsubscribe ends the subscription, waits for the broker's receipt, and has Next
// return ErrClosed after what had come before.
func (s *Subscription) Unsubscribe(ctx context.Context) error {
	f := &Frame{Command: "UNSUBSCRIBE", Headers: []Header{{"id", s.id}}}
	for _, h := range s.headers {
		if h.Name == "durable" || h.Name == "auto-delete" { // RabbitMQ wants both again
			f.Headers = append(f.Headers, h)
		}
	}
	err := s.conn.request(ctx, f, nil)
	s.forget()
	s.queue.close(ErrClosed)
	return err
}
