package stomp

import (
	"fmt"
	"strconv"
	"strings"
)

// chunk is how many messages of a stream are read at once. RabbitMQ's chunks are as
// long as what it wrote to its disk at once.
const chunk = 4

// brokerStream keeps what is sent to its destination.
type brokerStream struct {
	name, destination string
	first             int // offset of the first message that it still has
	messages          []streamMessage
}

type streamMessage struct {
	body    []byte
	headers []Header
}

func (s *brokerStream) end() int { return s.first + len(s.messages) }

// streamReader is a subscription's place in a stream.
type streamReader struct {
	stream *brokerStream
	next   int // offset
	from   int // what is before is not sent
	credit int // below zero after a chunk that was longer
}

// unacked is a message that was sent and not acknowledged.
type unacked struct {
	number int
	reader *streamReader
}

// DeleteStream deletes a stream, and cancels its subscriptions.
func (b *Broker) DeleteStream(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.streams[name]
	delete(b.streams, name)
	for c := range b.conns {
		for _, sub := range c.subs {
			if sub.streamReader != nil && sub.stream == s {
				c.post(errorFrame("Server cancelled subscription", "The server has canceled a subscription.\n"))
			}
		}
	}
}

// Forget drops all but the last n messages of a stream, as RabbitMQ does for lack of
// room.
func (b *Broker) Forget(stream string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.streams[stream]; s != nil && len(s.messages) > n {
		s.first = s.end() - n
		s.messages = s.messages[len(s.messages)-n:]
	}
}

// subscribe subscribes to a topic or a stream, or makes a stream. It reports whether
// the connection goes on.
func (c *brokerConn) subscribe(f *Frame, s *brokerSubscription) bool {
	code, detail := c.b.openStream(f, s)
	if code != "" {
		return c.refuse(code, detail)
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.subs = append(c.subs, s)
	c.b.sendStreams()
	return true
}

// openStream gives a subscription its stream, if it is for one, or says why not.
func (b *Broker) openStream(f *Frame, s *brokerSubscription) (code, detail string) {
	name, reads := strings.CutPrefix(s.destination, "/amq/queue/")
	name = strings.ReplaceAll(name, "%2F", "/")
	makes := f.Get("x-queue-type") == "stream"
	if !reads && !makes {
		return "", ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if makes {
		name = f.Get("x-queue-name")
		if b.streams[name] == nil {
			if b.streams == nil {
				b.streams = make(map[string]*brokerStream)
			}
			b.streams[name] = &brokerStream{name: name, destination: s.destination}
		}
	}
	stream := b.streams[name]
	ahead, _ := strconv.Atoi(f.Get("prefetch-count"))
	switch {
	case stream == nil:
		return "not_found", fmt.Sprintf("NOT_FOUND - no queue '%s' in vhost '/'", name)
	case ahead == 0:
		return "precondition_failed", "PRECONDITION_FAILED - consumer prefetch count is not set"
	case f.Get("ack") != "client":
		return "not_implemented", "NOT_IMPLEMENTED - automatic acknowledgement not supported by stream queues"
	}
	s.destination = ""
	s.streamReader = &streamReader{stream: stream, next: stream.end(), credit: ahead}
	offset := f.Get("x-stream-offset")
	at, err := strconv.Atoi(strings.TrimPrefix(offset, "offset="))
	switch {
	case offset == "first":
		s.next = stream.first
	case offset == "last" && s.next > stream.first:
		s.next = max((s.next-1)/chunk*chunk, stream.first)
	case err == nil:
		s.next, s.from = min(max(at, stream.first), s.next), at
	}
	return "", ""
}

// sendStreams sends what there is and may be sent. It is called with the lock held.
func (b *Broker) sendStreams() {
	for c := range b.conns {
		for _, s := range c.subs {
			if s.streamReader != nil {
				c.sendStream(s)
			}
		}
	}
}

func (c *brokerConn) sendStream(s *brokerSubscription) {
	s.next = max(s.next, s.stream.first)
	for s.credit > 0 && s.next < s.stream.end() {
		for end := min((s.next/chunk+1)*chunk, s.stream.end()); s.next < end; s.next++ {
			if s.next < s.from {
				continue
			}
			m, id := s.stream.messages[s.next-s.stream.first], c.nextID(s)
			c.post(&Frame{Command: "MESSAGE", Body: m.body, Headers: append([]Header{
				{"subscription", s.id},
				{"destination", s.stream.destination},
				{"message-id", id},
				{"redelivered", "false"},
				{"ack", id},
				{"x-stream-offset", strconv.Itoa(s.next)},
			}, m.headers...)})
			c.unacked = append(c.unacked, unacked{c.messages, s.streamReader})
			s.credit--
		}
	}
}

// acknowledge takes a message and all before it for dealt with, and reports whether
// there was such a message.
func (c *brokerConn) acknowledge(id string) bool {
	number, err := strconv.Atoi(id[strings.LastIndex(id, "@")+1:])
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	for i, u := range c.unacked {
		if u.number == number && err == nil {
			for _, u := range c.unacked[:i+1] {
				u.reader.credit++
			}
			c.unacked = c.unacked[i+1:]
			c.b.sendStreams()
			return true
		}
	}
	return false
}
