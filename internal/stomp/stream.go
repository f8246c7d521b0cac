package stomp

import (
	"context"
	"errors"
	"hash/maphash"
	"strconv"
	"strings"
	"time"
)

const (
	// window is how many messages of a stream the broker may send ahead of those that
	// the consumer has taken. RabbitMQ (3.10) goes beyond it by a chunk, which is what
	// it wrote to its disk at once.
	window = 1000
	// emptyLimit is how long the last message of a stream is waited for before the
	// stream is taken for an empty one.
	emptyLimit = time.Second
	// placeLimit is how long the message that was read last is waited for before it is
	// taken for gone.
	placeLimit = 5 * time.Second
)

// OpenStream is Open for a destination of which the broker keeps a stream, as RabbitMQ
// can since 3.9; see [Client.MakeStream]. After a lost connection the session goes on
// behind the last message that it has read: none is missing and none comes twice,
// which the gap says as Replayed. It does not say so if the stream was deleted
// meanwhile or has dropped messages for lack of room, or if the broker may have been
// down: what was sent to it then is nowhere, and RabbitMQ 3.10.8 drops what comes in
// the first moments after its start. A consumer that is slow loses nothing: the broker
// sends no more than about a thousand messages ahead. Messages that come before
// Subscribed first returns nil are left out; to be sure that there are none takes a
// second, if the stream is empty. A stream may be read by many at a time.
//
// A broker that is not RabbitMQ, or refuses the stream twice in a row, or ten times if
// it could be read before, is subscribed to the destination alone, for as long as the
// session lasts; the next gap says so by a *[StreamError].
func (c *Client) OpenStream(ctx context.Context, name, destination string) *Session {
	return c.open(ctx, &Session{destination: destination, stream: &stream{name: name, seed: maphash.MakeSeed(), place: place{at: -1}}})
}

// MakeStream makes a stream of what is sent to a topic from now on, unless there is a
// queue of that name already, which is left as it is. RabbitMQ keeps the last maxBytes,
// give or take a segment, which has 500 MB: 3.10.8 takes no other size over STOMP, nor
// an age. The stream stays until somebody deletes it, as with rabbitmqctl delete_queue.
//
// It is to be called once, and not while the broker starts. What makes a stream over
// STOMP in RabbitMQ 3.10.8 deletes it too, if the stream exists and cannot be read at
// this moment. So the broker must say twice, a second apart, that there is none.
func (c *Client) MakeStream(ctx context.Context, name, topic string, maxBytes int64) error {
	read := reads(1, "next")
	pause := time.NewTimer(0)
	defer pause.Stop()
	for range 2 {
		select {
		case <-pause.C:
			pause.Reset(time.Second)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// The message is the name of a reply code of AMQP.
		err := c.tryStream(ctx, name, queueOf(name), read)
		if e, ok := errors.AsType[*Error](err); !ok || e.Command != "SUBSCRIBE" || e.Message != "not_found" {
			return err
		}
	}
	return c.tryStream(ctx, name, topic, append(read,
		Header{"x-queue-name", name}, Header{"x-queue-type", "stream"}, Header{"durable", "true"}, Header{"auto-delete", "false"},
		Header{"x-max-length-bytes", strconv.FormatInt(maxBytes, 10)}))
}

// tryStream subscribes and leaves.
func (c *Client) tryStream(ctx context.Context, name, destination string, headers []Header) error {
	conn, err := c.connectStream(ctx)
	if errors.Is(err, errNotRabbitMQ) {
		return &StreamError{Stream: name, Err: err}
	}
	if err != nil {
		return err
	}
	defer conn.end(ErrClosed)
	err = conn.subscribe(ctx, &Subscription{queue: c.queue()}, destination, "client", headers)
	switch {
	case refusedStream(err):
		return &StreamError{Stream: name, Err: err}
	case err != nil:
		return err
	}
	return conn.Disconnect(ctx)
}

// connectStream connects to a broker that knows streams.
func (c *Client) connectStream(ctx context.Context) (*Conn, error) {
	conn, err := c.Connect(ctx)
	if err == nil && !conn.hasStreams() {
		conn.end(ErrClosed)
		err = errNotRabbitMQ
	}
	return conn, err
}

// hasStreams reports whether the broker may know streams. Others may take the name of
// one for something of their own, and never say that there is nothing in it.
func (c *Conn) hasStreams() bool {
	return strings.HasPrefix(c.server, "RabbitMQ/") && c.version == V12
}

// queueOf is the destination that reads a queue and neither makes nor deletes it.
func queueOf(name string) string { return "/amq/queue/" + strings.ReplaceAll(name, "/", "%2F") }

// refusedStream reports whether the broker does not let us read a stream.
func refusedStream(err error) bool {
	e, refused := errors.AsType[*Error](err)
	return refused && e.Command == "SUBSCRIBE" || errors.Is(err, errNoOffset)
}

// stream is what a session knows of the stream that it reads. One goroutine at a time
// has it: the session's, or the reader of its connection.
type stream struct {
	name string
	seed maphash.Seed

	place
	whole bool // nothing is missing between what the session has had and what comes next
}

// place is where a stream was left: the last message that was dealt with.
type place struct {
	at  int    // its offset; -1 if there is none
	sum uint64 // of its body
}

// subscribe reads on where the stream was left, and returns when that is confirmed. An
// empty stream is read from its end on.
func (st *stream) subscribe(ctx context.Context, conn *Conn, s *Session) error {
	r := &reading{stream: st, conn: conn, queue: s.queue, confirmed: s.confirmed, found: make(chan struct{})}
	sub := &Subscription{reading: r}
	offset := "offset=" + strconv.Itoa(st.at)
	if st.at < 0 {
		offset, sub.confirmed = "next", r.confirm
	}
	r.acks.ready = make(chan struct{}, 1)
	conn.routines.Go(func() { r.acks.run(conn) })
	if err := conn.subscribe(ctx, sub, queueOf(st.name), "client", reads(window, offset)); err != nil {
		return err
	}
	found, err := r.wait(ctx, placeLimit)
	if !found && err == nil { // an offset behind the end is accepted, and waited for
		return ErrStreamLost
	}
	return err
}

// locate finds the last message of a stream, if it has one, on a connection of its own.
// "last" brings the last chunk and, with a prefetch-count of 1, nothing else.
func (st *stream) locate(ctx context.Context, c *Client) error {
	conn, err := c.connectStream(ctx)
	if err != nil {
		return err
	}
	defer conn.end(ErrClosed)
	r := &reading{stream: st, conn: conn, locates: true, found: make(chan struct{})}
	if err := conn.subscribe(ctx, &Subscription{reading: r}, queueOf(st.name), "client", reads(1, "last")); err != nil {
		return err
	}
	if _, err := r.wait(ctx, emptyLimit); err != nil {
		return err
	}
	// A chunk may be long. RabbitMQ (3.10) has put all of it behind what it answers now,
	// and so before what it answers then. To unsubscribe instead would make the rest of
	// the chunk an ERROR.
	for range 2 {
		if err := conn.subscribe(ctx, &Subscription{queue: c.queue()}, queueOf(st.name), "client", reads(1, "next")); err != nil {
			return err
		}
	}
	if st.whole = false; r.end.Load() != nil {
		st.place = *r.end.Load()
	}
	return conn.Disconnect(ctx)
}

func reads(ahead int, offset string) []Header {
	return []Header{{"prefetch-count", strconv.Itoa(ahead)}, {"x-stream-offset", offset}}
}

// placeOf is the place of a message. It fails if the message is not a stream's.
func (st *stream) placeOf(f *Frame) (place, error) {
	at, err := contentLength(f.Get("x-stream-offset"))
	if err != nil {
		return place{}, errNoOffset
	}
	return place{at, maphash.Bytes(st.seed, f.Body)}, nil
}
