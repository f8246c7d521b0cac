package stomp

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Broker is a message broker in memory that behaves as RabbitMQ 3.10 does, as far
// as blueapi and its clients can tell, and fails when told to. The zero value
// accepts every login; Serve runs it. It runs in virtual time as well as in real
// time.
//
// All destinations are topics: who is subscribed gets what is sent. What is sent to a
// topic that has a stream is kept there as well, for ever. There are no other queues,
// no wildcards and no transactions, and only the messages of streams are acknowledged.
//
// Methods may be called concurrently. The fields are set before the first use.
type Broker struct {
	// Login and Passcode are the only ones accepted; empty means all are.
	Login, Passcode string
	// Mute says that the broker neither sends heart-beats nor wants any.
	Mute bool
	// Server is what the broker calls itself; empty means RabbitMQ/3.10.8.
	Server string

	mu        sync.Mutex // never held while anything waits
	closed    bool
	faults    []Fault
	listeners map[net.Listener]bool
	conns     map[*brokerConn]bool
	streams   map[string]*brokerStream
	accepted  int
	routines  sync.WaitGroup
}

// backlog is how many bytes may wait for a client that does not read, before the
// broker closes its connection.
const backlog = 256 << 20

// Serve accepts connections until the listener or the broker is closed, and
// returns nil then.
func (b *Broker) Serve(l net.Listener) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		l.Close()
		return nil
	}
	if b.listeners == nil {
		b.listeners, b.conns = make(map[net.Listener]bool), make(map[*brokerConn]bool)
	}
	b.listeners[l] = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, l)
	}()
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		b.accept(nc)
	}
}

func (b *Broker) accept(nc net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		nc.Close()
		return
	}
	b.accepted++
	c := newBrokerConn(b, nc, b.accepted)
	b.conns[c] = true
	b.routines.Go(c.read)
	b.routines.Go(c.write)
}

// Close stops listening, closes all connections, and returns when nothing runs
// any more.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closed = true
	for l := range b.listeners {
		l.Close()
	}
	b.mu.Unlock()
	b.Disconnect()
	b.routines.Wait()
	return nil
}

// Disconnect closes all connections, as a broker does that shuts down: what waits
// to be sent is lost.
func (b *Broker) Disconnect() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		c.end()
	}
}

// Inject puts faults before the broker; frames get to the first one first, and to
// those injected earlier last. Without an argument it removes them all.
func (b *Broker) Inject(faults ...Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(faults) == 0 {
		b.faults = nil
		return
	}
	b.faults = slices.Concat(faults, b.faults)
}

// pass leads a frame through the faults.
func (b *Broker) pass(p *Passage, next func(*Frame)) {
	b.mu.Lock()
	faults := b.faults
	b.mu.Unlock()
	for _, f := range slices.Backward(faults) {
		after := next
		next = func(frame *Frame) {
			through := *p
			through.Frame = frame
			f(&through, after)
		}
	}
	next(p.Frame)
}

// Accepted is how many connections the broker has accepted so far.
func (b *Broker) Accepted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted
}

// Subscribers is how many get what is sent to a destination: its subscriptions, and
// its streams.
func (b *Broker) Subscribers(destination string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for c := range b.conns {
		for _, s := range c.subs {
			if s.destination == destination {
				n++
			}
		}
	}
	for _, s := range b.streams {
		if s.destination == destination {
			n++
		}
	}
	return n
}

// Publish sends a message to all who are subscribed to a destination, as if a
// client had sent it.
func (b *Broker) Publish(destination string, body []byte, headers ...Header) {
	b.mu.Lock()
	defer b.mu.Unlock()
	tail := messageHeaders(headers, len(body))
	for c := range b.conns {
		for _, s := range c.subs {
			if s.destination == destination {
				id := c.nextID(s)
				c.post(&Frame{Command: "MESSAGE", Body: body, Headers: append([]Header{
					{"subscription", s.id}, {"destination", destination}, {"message-id", id}, {"redelivered", "false"},
				}, tail...)})
			}
		}
	}
	for _, s := range b.streams {
		if s.destination == destination {
			s.messages = append(s.messages, streamMessage{body, tail})
		}
	}
	b.sendStreams()
}

// messageHeaders are those of a SEND as RabbitMQ passes them on: the client's own
// in reverse, the first of each name, and then those it knows, in its own order.
func messageHeaders(sent []Header, length int) []Header {
	known := []string{"reply-to", "correlation-id", "priority", "persistent", "content-type"}
	dropped := []string{"destination", "content-length"}
	values := make(map[string]string)
	var headers []Header
	for _, h := range sent {
		if _, again := values[h.Name]; again || slices.Contains(dropped, h.Name) {
			continue
		}
		values[h.Name] = h.Value
		if !slices.Contains(known, h.Name) {
			headers = append(headers, h)
		}
	}
	slices.Reverse(headers)
	for _, name := range known {
		if v, ok := values[name]; ok {
			headers = append(headers, Header{name, v})
		}
	}
	return append(headers, Header{"content-length", strconv.Itoa(length)})
}

// destinationKinds are those of RabbitMQ, as its own error lists them.
func destinationKinds() []string {
	return []string{"/temp-queue", "/exchange", "/topic", "/queue", "/amq/queue", "/reply-queue/"}
}

func validDestination(d string) bool {
	return slices.ContainsFunc(destinationKinds(), func(kind string) bool {
		rest, ok := strings.CutPrefix(d, strings.TrimSuffix(kind, "/")+"/")
		return ok && rest != ""
	})
}
