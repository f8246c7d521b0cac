package stomp

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// brokerConn is the broker's end of a connection. Its fields are guarded by the
// broker's lock, except those of the goroutine named.
type brokerConn struct {
	b      *Broker
	nc     net.Conn
	number int
	in     heard
	dec    *Decoder // reader

	session  string
	version  Version
	subs     []*brokerSubscription
	messages int       // sent; they are numbered from 1
	unacked  []unacked // in order
	out      []*Frame  // what waits to be sent
	outBytes int
	last     bool          // close the connection after out
	beats    time.Duration // how often to send a heart-beat; 0: never
	changed  chan struct{}

	ended chan struct{}
	once  sync.Once
}

type brokerSubscription struct {
	id, destination string
	*streamReader   // nil for a topic
}

// nextID is the id of a message that is about to be sent; its number is behind the
// last "@@".
func (c *brokerConn) nextID(s *brokerSubscription) string {
	c.messages++
	return messageID(s.id, c.session, c.messages)
}

func newBrokerConn(b *Broker, nc net.Conn, number int) *brokerConn {
	c := &brokerConn{
		b: b, nc: nc, number: number, session: fmt.Sprintf("session-%d", number),
		changed: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	c.in.nc = nc
	c.dec = NewDecoder(&c.in, Limits{})
	return c
}

func (c *brokerConn) end() {
	c.once.Do(func() {
		close(c.ended)
		c.nc.Close()
	})
}

// post queues a frame for the writer, with the lock held.
func (c *brokerConn) post(f *Frame) {
	if c.last {
		return
	}
	c.out = append(c.out, f)
	if c.outBytes += f.size(); c.outBytes > backlog {
		c.end()
	}
	c.wake()
}

func (c *brokerConn) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// read deals with the client's frames until the connection ends. RabbitMQ gives
// up a client that it has not heard for two heart-beats.
func (c *brokerConn) read() {
	defer func() {
		c.b.mu.Lock()
		defer c.b.mu.Unlock()
		delete(c.b.conns, c)
		c.subs = nil
		if !c.last {
			c.end()
		}
	}()
	for {
		f, err := c.dec.Decode()
		if err != nil {
			if pe, ok := errors.AsType[*ProtocolError](err); ok {
				c.refuse("Bad frame", pe.Problem)
			}
			return
		}
		goOn := true
		c.b.pass(&Passage{Conn: c.number, Frame: f, conn: c}, func(f *Frame) { goOn = c.handle(f) && goOn })
		if !goOn {
			return
		}
	}
}

func (c *brokerConn) refuse(message, detail string) bool {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.post(errorFrame(message, detail))
	c.last = true
	return false
}

// handle deals with a frame, and reports whether there may be another.
func (c *brokerConn) handle(f *Frame) bool {
	if f.Command == "CONNECT" || f.Command == "STOMP" {
		return c.connect(f)
	}
	c.b.mu.Lock()
	connected, id, destination := c.version != "", f.Get("id"), f.Get("destination")
	at := -1
	for i, s := range c.subs {
		if s.id == id {
			at = i
		}
	}
	c.b.mu.Unlock()
	if !connected {
		return c.refuse("Illegal command", "You must log in using CONNECT first")
	}
	switch f.Command {
	case "SUBSCRIBE", "SEND":
		if !validDestination(destination) {
			return c.refuse("Unknown destination", fmt.Sprintf("'%s' is not a valid destination.\nValid destination types are: %s.\n",
				destination, strings.Join(destinationKinds(), ", ")))
		}
	}
	switch f.Command {
	case "SUBSCRIBE":
		if at >= 0 {
			return c.refuse(duplicateSubscription(id))
		}
		if !c.subscribe(f, &brokerSubscription{id: id, destination: destination}) {
			return false
		}
	case "ACK":
		if !c.acknowledge(f.Get("id")) {
			return c.refuse("precondition_failed", "PRECONDITION_FAILED - unknown delivery tag")
		}
	case "UNSUBSCRIBE":
		if at < 0 {
			return c.refuse(noSubscription(id))
		}
		c.b.mu.Lock()
		c.subs = append(c.subs[:at:at], c.subs[at+1:]...)
		c.b.mu.Unlock()
	case "SEND":
		c.b.Publish(destination, f.Body, f.Headers...)
	case "DISCONNECT":
	default:
		return c.refuse("Bad command", fmt.Sprintf("Could not interpret command %q\n", f.Command))
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if receipt, wanted := f.Lookup("receipt"); wanted {
		c.post(&Frame{Command: "RECEIPT", Headers: []Header{{"receipt-id", receipt}}})
	}
	if f.Command == "DISCONNECT" {
		c.last = true
		c.wake()
	}
	return f.Command != "DISCONNECT"
}

func (c *brokerConn) connect(f *Frame) bool {
	version := highestVersion(f)
	if version == "" {
		return c.refuse("Version mismatch", "Supported versions are 1.1,1.2\n")
	}
	if c.b.Login != "" && (f.Get("login") != c.b.Login || f.Get("passcode") != c.b.Passcode) {
		return c.refuse("Bad CONNECT", fmt.Sprintf("Access refused for user '%s'\n", f.Get("login")))
	}
	send, receive, ok := time.Duration(0), time.Duration(0), true
	if hb, given := f.Lookup("heart-beat"); given {
		send, receive, ok = serverHeartBeat(hb)
	}
	if !ok {
		return c.refuse("Invalid heart-beat header", "heart-beat must be two numbers\n")
	}
	if c.b.Mute {
		send, receive = 0, 0
	}
	c.dec.Version = version
	c.in.patience = 2 * receive
	if receive == 0 {
		_ = c.nc.SetReadDeadline(time.Time{}) // only if the connection has ended
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.version, c.beats = version, send
	c.post(connectedFrame(cmp.Or(c.b.Server, "RabbitMQ/3.10.8"), c.session, send, receive, version))
	return true
}

// write sends what is queued, and a heart-beat when there was nothing to send for
// a while.
func (c *brokerConn) write() {
	defer c.end()
	beat := time.NewTimer(0)
	defer beat.Stop()
	for {
		c.b.mu.Lock()
		out, last, beats := c.out, c.last, c.beats
		c.out, c.outBytes = nil, 0
		c.b.mu.Unlock()
		for _, f := range out {
			c.b.pass(&Passage{Conn: c.number, Sent: true, Frame: f, conn: c}, c.transmit)
		}
		if last {
			return
		}
		if beats == 0 {
			beat.Stop()
		} else {
			beat.Reset(beats)
		}
		select {
		case <-c.changed:
		case <-beat.C:
			if beats > 0 {
				c.b.pass(&Passage{Conn: c.number, Sent: true, conn: c}, c.transmit)
			}
		case <-c.ended:
			return
		}
	}
}

// transmit writes a frame, or a heart-beat if f is nil. RabbitMQ sends a line
// feed after each frame.
func (c *brokerConn) transmit(f *Frame) {
	var b []byte
	if f != nil {
		var err error
		if b, err = c.encode(f); err != nil {
			c.end()
			return
		}
	}
	if _, err := c.nc.Write(append(b, '\n')); err != nil {
		c.end()
	}
}

func (c *brokerConn) encode(f *Frame) ([]byte, error) {
	c.b.mu.Lock()
	v := c.version
	c.b.mu.Unlock()
	return f.Append(nil, v)
}
