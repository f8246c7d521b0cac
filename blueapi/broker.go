package blueapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/adamant-go/adamant/internal/stomp"
)

// DefaultDestination is where blueapi publishes its events (1.21).
const DefaultDestination = "/topic/public.worker.event"

// Broker is the message broker that a server publishes its events to, by STOMP 1.1 or
// 1.2; RabbitMQ and ActiveMQ are known to work. It may be used concurrently, and must
// not be changed while it is in use.
type Broker struct {
	// Address is the broker's host:port.
	Address string
	// Login and Passcode are sent if Login is not empty.
	Login, Passcode string
	// TLS secures the connection; nil means plain TCP.
	TLS *tls.Config
	// Dial connects; nil means a zero net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Destination is subscribed to; empty means DefaultDestination.
	Destination string
	// Stream is the name of a stream that RabbitMQ keeps of Destination, see
	// [Broker.MakeStream]: an outage of the connection to the broker then costs no
	// event. Empty means none.
	Stream string
}

// backlog is how many bytes of events may wait for their consumer.
const backlog = 512 << 20

// Listener is a subscription to a server's events that outlives its connections;
// [Broker.Listen] makes it. Its methods may be called concurrently.
type Listener struct{ session *stomp.Session }

var (
	// ErrClosed is what a closed Listener returns.
	ErrClosed = errors.New("blueapi: the listener is closed")
	// ErrReplayed is the Err of a [Gap] that is over and in which no event is missing:
	// what the server published meanwhile follows.
	ErrReplayed = errors.New("blueapi: nothing is missing; what was published meanwhile follows")
)

// StreamError is why a [Broker] has no stream for us. It is in the Err of a [Gap], once:
// the listener goes on without the stream.
type StreamError = stomp.StreamError

// Listen subscribes to the server's events until ctx ends, the listener is closed, or
// the broker refuses for good, as with a wrong passcode. It returns at once.
//
// A lost connection is made again, with the delays of a call at first and every two
// seconds later; what may be missing is told as a [Gap]. Events wait for their consumer
// in up to 512 MiB of memory, which is more than 10 s of 10,000 events a second; what
// comes beyond that is dropped, and told so. The connection does not depend on the
// consumer.
//
// With a Stream nothing is dropped for lack of room, for the broker keeps what is not
// taken, and after a lost connection the listener goes on where it was. The gap is told
// all the same, when it begins, and when it is over, by ErrReplayed. Another Err then
// says that events may be missing after all: the broker may have been down, or the
// stream does not reach back so far. A stream that the broker does not have, or not for
// this login, is told as a [StreamError].
func (b *Broker) Listen(ctx context.Context) *Listener {
	if b.Stream != "" {
		return &Listener{b.client().OpenStream(ctx, b.Stream, b.destination())}
	}
	return &Listener{b.client().Open(ctx, b.destination())}
}

func (b *Broker) client() *stomp.Client {
	return &stomp.Client{Address: b.Address, Dial: b.Dial, TLS: b.TLS, Login: b.Login, Passcode: b.Passcode, Queue: backlog}
}

func (b *Broker) destination() string { return cmp.Or(b.Destination, DefaultDestination) }

// MakeStream makes the Stream, which keeps what is published from now on, unless it is
// there. It is for whoever looks after the broker: the stream stays until it is deleted,
// as with rabbitmqctl delete_queue, and should not be made while the broker starts, for
// RabbitMQ 3.10.8 can delete it then. Its login must be allowed to configure, write and
// read the stream; those who listen need only read it.
//
// The stream keeps the last maxBytes, give or take 500 MB: RabbitMQ deletes by segments
// of that size. One event needs about 700 bytes.
func (b *Broker) MakeStream(ctx context.Context, maxBytes int64) error {
	return b.client().MakeStream(ctx, b.Stream, b.destination(), maxBytes)
}

// Subscribed returns nil as soon as the broker has confirmed the subscription on the
// connection of the moment: events from then on are delivered, or told as a gap.
func (l *Listener) Subscribed(ctx context.Context) error { return closed(l.session.Subscribed(ctx)) }

// Next waits for the next event. After the listener's end what had come before is still
// returned, and then the reason: the context's error, ErrClosed, or why the broker
// refused.
func (l *Listener) Next(ctx context.Context) (Event, error) {
	d, err := l.session.Next(ctx)
	switch {
	case err != nil:
		return Event{}, closed(err)
	case d.Gap != nil:
		g := d.Gap
		if g.Replayed {
			g.Err = ErrReplayed
		}
		return Event{At: time.Now(), Gap: &Gap{From: g.From, Until: g.Until, Missed: g.Missed, Attempts: g.Attempts, Err: g.Err}}, nil
	}
	e := decodeEvent(d.Message.Body, time.Now())
	e.Headers = d.Message.Headers
	return e, nil
}

// Close takes leave of the broker, which takes a second at most.
func (l *Listener) Close() {
	_ = l.session.Close() // it has ended either way
}

func closed(err error) error {
	if errors.Is(err, stomp.ErrClosed) {
		return ErrClosed
	}
	return err
}
