package stomp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// Peer is one connection to a [Server]. Its methods may be called concurrently.
type Peer struct {
	server *Server
	nc     net.Conn
	in     heard
	dec    *Decoder // reader
	login  string   // set before Connected
	at     time.Time
	good   bool // reader: the peer has taken leave

	mu       sync.Mutex // held for moments only
	session  string
	version  Version
	subs     []*Subscriber
	messages int // sent; they are numbered from 1
	out      []outgoing
	waiting  int           // bytes, of out and of what is being written
	replay   int           // of them, what was sent by Subscribe, at most
	joining  bool          // Subscribe is being called
	last     bool          // close the connection after out
	cut      bool          // it was too slow
	beats    time.Duration // how often to send a heart-beat; 0: never
	changed  chan struct{}

	ended chan struct{}
	once  sync.Once
}

// Subscriber is one subscription of a [Peer].
type Subscriber struct {
	// ID is the peer's name for it; Destination is what it subscribed to.
	ID, Destination string

	peer    *Peer
	written int64 // Number of the last message that was written; guarded by the peer's mu
}

// Message is what is sent to subscribers. It must not be changed once sent.
type Message struct {
	// Destination is where it was sent to.
	Destination string
	// Headers are those besides subscription, destination, message-id, redelivered and
	// content-length, which are added.
	Headers []Header
	Body    []byte
	// Number is for [Subscriber.Written]; it means nothing here.
	Number int64

	once sync.Once
	tail [2][]byte // what follows the subscriber's own headers, for 1.1 and for 1.2
}

// outgoing is a frame that waits: a message for a subscription, or any other.
type outgoing struct {
	sub     *Subscriber
	message *Message
	number  int    // in the message-id
	frame   []byte // if it is no message
}

// frameHead is what is a subscriber's own of a frame, and its place in the queue.
const frameHead = 160

func (o *outgoing) size() int {
	if o.message == nil {
		return frameHead + len(o.frame)
	}
	return o.message.Size()
}

// Size is what a message counts for in a Backlog, in bytes.
func (m *Message) Size() int {
	m.encode()
	return frameHead + len(m.tail[0])
}

// writeSize is how much is put together for one write.
const writeSize = 64 << 10

func newPeer(s *Server, nc net.Conn) *Peer {
	p := &Peer{
		server: s, nc: nc, session: "session-" + rand.Text(), at: time.Now(),
		changed: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	p.in.nc = nc
	p.dec = NewDecoder(&p.in, s.limits())
	return p
}

// Login is what the peer logged in as; "" if it did not say.
func (p *Peer) Login() string { return p.login }

// Addr is the peer's address.
func (p *Peer) Addr() net.Addr { return p.nc.RemoteAddr() }

// Since is when the peer was told that it is connected.
func (p *Peer) Since() time.Time { return p.at }

// Subscribers are the peer's subscriptions.
func (p *Peer) Subscribers() []*Subscriber {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Subscriber(nil), p.subs...)
}

// Cut reports whether the peer was cut off because it was too slow.
func (p *Peer) Cut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// Peer is whose subscription it is.
func (s *Subscriber) Peer() *Peer { return s.peer }

// Written is the Number of the last message that was handed to the network as a whole; 0
// if none was. That does not say that the peer has got it.
func (s *Subscriber) Written() int64 {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	return s.written
}

// Send has a message sent, behind those that wait. It does not wait itself; a peer for
// which too much waits is cut off.
func (s *Subscriber) Send(m *Message) {
	m.encode()
	p := s.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages++
	p.post(outgoing{sub: s, message: m, number: p.messages})
}

// encode makes once what is the same for all subscribers.
func (m *Message) encode() {
	m.once.Do(func() {
		for i, v := range []Version{V11, V12} {
			esc := escapingOf("MESSAGE", v)
			var b []byte
			for _, h := range m.Headers {
				if esc.check(h) != "" {
					continue // came from elsewhere, and cannot be said here
				}
				b = append(esc.append(b, h.Name), ':')
				b = append(esc.append(b, h.Value), '\n')
			}
			b = append(b, "content-length:"...)
			b = strconv.AppendInt(b, int64(len(m.Body)), 10)
			b = append(b, "\n\n"...)
			m.tail[i] = append(append(b, m.Body...), 0, '\n')
		}
	})
}

// append appends the frame as RabbitMQ writes it, with a line feed behind it.
func (o *outgoing) append(dst []byte, session string, v Version) []byte {
	if o.message == nil {
		return append(dst, o.frame...)
	}
	esc := escapingOf("MESSAGE", v)
	dst = append(dst, "MESSAGE\nsubscription:"...)
	dst = esc.append(dst, o.sub.ID)
	dst = append(dst, "\ndestination:"...)
	dst = esc.append(dst, o.message.Destination)
	dst = append(dst, "\nmessage-id:"...)
	dst = esc.append(dst, messageID(o.sub.ID, session, o.number))
	dst = append(dst, "\nredelivered:false\n"...)
	if v == V12 {
		return append(dst, o.message.tail[1]...)
	}
	return append(dst, o.message.tail[0]...)
}

func (p *Peer) end() {
	p.once.Do(func() {
		close(p.ended)
		closeBeneath(p.nc)
	})
}

// post queues what is to be sent, with the lock held.
func (p *Peer) post(o outgoing) {
	if p.last || p.cut {
		return
	}
	p.out = append(p.out, o)
	if p.joining {
		p.replay += o.size()
	}
	if p.waiting += o.size(); p.waiting-p.replay > p.server.backlog() {
		p.cut, p.out = true, nil
		p.end()
	}
	p.wake()
}

func (p *Peer) postFrame(f *Frame) {
	b, err := f.Append(nil, p.version)
	if err != nil { // it quotes the peer, who sent what cannot be sent back
		b, _ = errorFrame("Bad frame", "").Append(nil, p.version)
		p.post(outgoing{frame: append(b, '\n')})
		p.leave()
		return
	}
	p.post(outgoing{frame: append(b, '\n')})
}

func (p *Peer) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// leave has the connection closed when what is queued was written, with the lock held. The
// deadline ends a write to a peer that does not read, and a handshake of TLS that a write
// waits for.
func (p *Peer) leave() {
	p.last = true
	_ = p.nc.SetDeadline(time.Now().Add(lastWords)) // if it fails, so does writing
	p.wake()
}

// leaves reports whether the connection is to be closed.
func (p *Peer) leaves() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// refuse tells the peer why its connection ends.
func (p *Peer) refuse(message, detail string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.postFrame(errorFrame(message, detail))
	p.leave()
	return false
}

// read deals with the peer's frames until the connection ends.
func (p *Peer) read() {
	connected := false
	defer func() {
		if connected && p.server.Gone != nil {
			p.server.Gone(p, p.good)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.last { // else the writer does, when that is said
			p.end()
		}
	}()
	timeout := p.server.ConnectTimeout
	if timeout == 0 {
		timeout = defaultConnectTimeout
	}
	_ = p.nc.SetReadDeadline(time.Now().Add(timeout)) // if it fails, so does reading
	for {
		f, err := p.dec.Decode()
		if err != nil {
			p.complain(err)
			return
		}
		switch f.Command {
		case "CONNECT", "STOMP":
			if connected {
				p.refuse("Illegal command", "Already connected\n")
				return
			}
			if !p.connect(f) {
				return
			}
			connected = true
		default:
			if !connected {
				p.refuse("Illegal command", "You must log in using CONNECT first")
				return
			}
			if !p.handle(f) {
				return
			}
		}
	}
}

// complain answers what is no frame, or one that is too large.
func (p *Peer) complain(err error) {
	if e, ok := errors.AsType[*ProtocolError](err); ok {
		p.refuse("Bad frame", e.Problem)
	} else if e, ok := errors.AsType[*LimitError](err); ok {
		p.refuse("Frame too large", e.Error())
	}
}

func (p *Peer) connect(f *Frame) bool {
	version := highestVersion(f)
	switch {
	case version == "":
		return p.refuse("Version mismatch", "Supported versions are 1.1,1.2\n")
	case !p.server.admits(f):
		return p.refuse("Bad CONNECT", fmt.Sprintf("Access refused for user '%s'\n", f.Get("login")))
	}
	send, receive, ok := time.Duration(0), time.Duration(0), true
	if hb, given := f.Lookup("heart-beat"); given {
		send, receive, ok = serverHeartBeat(hb)
	}
	if !ok {
		return p.refuse("Invalid heart-beat header", "heart-beat must be two numbers\n")
	}
	p.dec.Version = version
	if p.in.patience = 2 * receive; receive == 0 {
		_ = p.nc.SetReadDeadline(time.Time{}) // fails only if the connection has ended
	}
	p.login = f.Get("login")
	p.at = time.Now()
	if p.server.Connected != nil {
		p.server.Connected(p)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version, p.beats = version, send
	p.postFrame(connectedFrame(p.server.Name, p.session, send, receive, version))
	return true
}

// handle deals with a frame, and reports whether there may be another.
func (p *Peer) handle(f *Frame) bool {
	switch f.Command {
	case "SUBSCRIBE":
		if !p.subscribe(f) {
			return false
		}
	case "UNSUBSCRIBE":
		s := p.take(f.Get("id"))
		if s == nil {
			return p.refuse(noSubscription(f.Get("id")))
		}
		if p.server.Unsubscribe != nil {
			p.server.Unsubscribe(s)
		}
	case "ACK", "NACK": // nothing is kept for that
	case "DISCONNECT":
		if p.good = true; p.server.Farewell != nil && !p.stay(p.server.Farewell(p)) {
			return false
		}
	default:
		return p.refuse("Not allowed", f.Command+" is not served here: who is connected can only listen\n")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if receipt, wanted := f.Lookup("receipt"); wanted {
		p.postFrame(&Frame{Command: "RECEIPT", Headers: []Header{{"receipt-id", receipt}}})
	}
	if f.Command == "DISCONNECT" {
		p.leave()
	}
	return !p.last
}

// stay waits, and reports whether the connection is still there.
func (p *Peer) stay(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ended:
		return false
	}
}

func (p *Peer) subscribe(f *Frame) bool {
	id, named := f.Lookup("id")
	if !named {
		return p.refuse("Missing header", "SUBSCRIBE must have an id\n")
	}
	s := &Subscriber{ID: id, Destination: f.Get("destination"), peer: p}
	p.mu.Lock()
	for _, other := range p.subs {
		if other.ID == id {
			p.mu.Unlock()
			return p.refuse(duplicateSubscription(id))
		}
	}
	const most = 64
	if len(p.subs) == most {
		p.mu.Unlock()
		return p.refuse("Too many subscriptions", fmt.Sprintf("there are %d already\n", most))
	}
	p.subs = append(p.subs, s)
	p.joining = p.server.Subscribe != nil
	p.mu.Unlock()
	if p.server.Subscribe == nil {
		return true
	}
	err := p.server.Subscribe(s)
	p.mu.Lock()
	p.joining = false
	p.mu.Unlock()
	if err != nil {
		p.take(id)
		return p.refuse("Unknown destination", err.Error()+"\n")
	}
	return true
}

// take takes a subscription away.
func (p *Peer) take(id string) *Subscriber {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.subs {
		if s.ID == id {
			p.subs = append(p.subs[:i:i], p.subs[i+1:]...)
			return s
		}
	}
	return nil
}

// write sends what is queued, many frames at once if they wait, and a heart-beat when
// there was nothing to send for a while.
func (p *Peer) write() {
	defer func() {
		p.end()
		p.server.forget(p)
	}()
	beat := time.NewTimer(0)
	defer beat.Stop()
	var buf []byte
	var spare []outgoing
	for {
		p.mu.Lock()
		out, last, beats, version := p.out, p.last, p.beats, p.version
		p.out = spare
		p.mu.Unlock()
		if !p.writeAll(out, &buf, version) || last {
			return
		}
		clear(out)
		if spare = out[:0]; cap(spare) > 4096 {
			spare = nil
		}
		if beats == 0 {
			beat.Stop()
		} else {
			beat.Reset(beats)
		}
		select {
		case <-p.changed:
		case <-beat.C:
			if beats > 0 {
				if _, err := p.nc.Write([]byte{'\n'}); err != nil {
					return
				}
			}
		case <-p.ended:
			return
		}
	}
}

// writeAll writes frames, and notes which of them are on their way.
func (p *Peer) writeAll(out []outgoing, scratch *[]byte, v Version) bool {
	for len(out) > 0 {
		buf, size, n := (*scratch)[:0], 0, 0
		for n < len(out) && (n == 0 || len(buf)+out[n].size() <= writeSize) {
			buf = out[n].append(buf, p.session, v)
			size += out[n].size()
			n++
		}
		if *scratch = buf; cap(buf) > 2*writeSize { // one large message shall not be kept for ever
			*scratch = nil
		}
		if p.leaves() { // who reads on, however slowly, gets it all
			_ = p.nc.SetDeadline(time.Now().Add(lastWords)) // if it fails, so does writing
		}
		if _, err := p.nc.Write(buf); err != nil {
			return false
		}
		p.mu.Lock()
		p.waiting -= size
		p.replay = min(p.replay, p.waiting)
		for _, o := range out[:n] {
			if o.message != nil {
				o.sub.written = o.message.Number
			}
		}
		p.mu.Unlock()
		out = out[n:]
	}
	return true
}
