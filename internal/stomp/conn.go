package stomp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one connection to a broker; [Client.Connect] makes it. All methods may
// be called concurrently.
//
// Two goroutines belong to it, one that reads and one that sends heart-beats.
// Both have ended when Close or Disconnect returns.
type Conn struct {
	nc      net.Conn
	queue   func() *queue
	timeout time.Duration // for answers and writes
	version Version
	server  string        // what the broker calls itself; it need not say
	send    time.Duration // how often we are to be heard; 0: never
	in      heard
	dec     *Decoder

	writing chan struct{} // holds a token while someone writes; not a mutex, so that a wait for it can end
	buf     []byte        // guarded by writing
	written time.Time     // guarded by writing

	mu       sync.Mutex
	ids      int
	waiting  map[string]waiter        // by receipt
	subs     map[string]*Subscription // by id
	err      error                    // why it ended
	done     chan struct{}            // closed when it has ended
	routines sync.WaitGroup
}

// waiter waits for a RECEIPT.
type waiter struct {
	command  string
	received chan struct{}
	then     func(time.Time) // called by the reader, before it reads on; may be nil
}

// heard reads, and remembers when something was read. Every read must bring
// something within patience, unless that is zero.
type heard struct {
	nc       net.Conn
	patience time.Duration
	began    time.Time
	after    atomic.Int64 // began, in nanoseconds: so the monotonic clock's reading is kept
}

func (h *heard) Read(b []byte) (int, error) {
	if h.patience > 0 {
		if err := h.nc.SetReadDeadline(time.Now().Add(h.patience)); err != nil {
			return 0, err
		}
	}
	n, err := h.nc.Read(b)
	if n > 0 {
		h.after.Store(int64(time.Since(h.began)))
	}
	return n, err
}

func newConn(c *Client, nc net.Conn) *Conn {
	conn := &Conn{
		nc: nc, queue: c.queue, timeout: c.answerTimeout(),
		writing: make(chan struct{}, 1), waiting: make(map[string]waiter), subs: make(map[string]*Subscription),
		done: make(chan struct{}),
	}
	conn.in.nc, conn.in.began = nc, time.Now()
	conn.dec = NewDecoder(&conn.in, c.Limits)
	return conn
}

// handshake sends CONNECT and waits for the answer.
func (c *Conn) handshake(client *Client) error {
	if err := c.nc.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	if err := c.writeFrame(client.connectFrame()); err != nil {
		return err
	}
	f, err := c.dec.Decode()
	if _, large := errors.AsType[*LimitError](err); large && f != nil {
		err = nil // the reason for a refusal, without the essay
	}
	if err != nil {
		return err
	}
	if f.Command == "ERROR" {
		return errorOf(f, "CONNECT")
	}
	if f.Command != "CONNECTED" {
		return malformed("CONNECT was answered by %s", f.Command)
	}
	c.version, c.server = Version(f.Get("version")), f.Get("server")
	if c.version != V11 && c.version != V12 { // no version at all means 1.0
		return ErrVersion
	}
	c.dec.Version = c.version
	send, receive, err := negotiated(client.heartBeat(), f.Get("heart-beat"))
	if err != nil {
		return err
	}
	c.send, c.in.patience = send, 2*receive
	return c.nc.SetDeadline(time.Time{})
}

func (c *Conn) start(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	c.routines.Go(func() {
		defer stop()
		c.fail(c.read())
	})
	if c.send > 0 {
		c.routines.Go(c.beat)
	}
}

// Version is what was agreed on.
func (c *Conn) Version() Version { return c.version }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection has ended: the context's error, ErrClosed,
// ErrSilent, an *[Error], a *[ProtocolError], or the network's error. It is nil
// until then.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Heard is when the broker was last heard, be it by a heart-beat.
func (c *Conn) Heard() time.Time { return c.in.began.Add(time.Duration(c.in.after.Load())) }

// Close ends the connection at once.
func (c *Conn) Close() error {
	c.end(ErrClosed)
	return nil
}

// end ends the connection and waits for its goroutines.
func (c *Conn) end(err error) {
	c.fail(err)
	c.routines.Wait()
}

// Disconnect tells the broker, waits for its receipt, and closes. The broker has
// then dealt with all that was sent before.
func (c *Conn) Disconnect(ctx context.Context) error {
	// At the receipt the broker closes too: that is not why the connection ended.
	err := c.request(ctx, &Frame{Command: "DISCONNECT"}, func(time.Time) { c.fail(ErrClosed) })
	return errors.Join(err, c.Close())
}

// fail ends the connection; the first reason counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	subs := c.subs
	c.subs = nil
	close(c.done)
	c.mu.Unlock()
	for _, s := range subs {
		s.ended(err)
	}
	c.close()
}

func (c *Conn) close() { closeBeneath(c.nc) }

// closeBeneath closes a connection beneath TLS: what TLS would say at a close could
// block, and DISCONNECT has said it.
func closeBeneath(nc net.Conn) {
	type beneath interface{ NetConn() net.Conn }
	if t, ok := nc.(beneath); ok {
		t.NetConn().Close()
		return
	}
	nc.Close()
}

// read deals with what comes until the connection ends. It waits for nobody but
// the broker.
func (c *Conn) read() error {
	for {
		f, err := c.dec.Decode()
		var large error
		if _, ok := errors.AsType[*LimitError](err); ok && f != nil { // only its body is missing
			large, err = err, nil
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ErrSilent
		case errors.Is(err, io.EOF):
			return fmt.Errorf("stomp: the broker closed the connection: %w", err)
		case err != nil:
			return err
		}
		switch f.Command {
		case "MESSAGE":
			c.deliver(f, large)
		case "RECEIPT":
			c.receipt(f.Get("receipt-id"))
		case "ERROR":
			return c.refused(f)
		default:
			return malformed("the broker sent %s", f.Command)
		}
	}
}

func (c *Conn) deliver(f *Frame, large error) {
	id := f.Get("subscription")
	c.mu.Lock()
	s := c.subs[id]
	c.mu.Unlock()
	if s != nil { // else it was on its way while we unsubscribed
		s.deliver(f, large)
	}
}

func (c *Conn) receipt(id string) {
	c.mu.Lock()
	w, ok := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	if !ok {
		return
	}
	close(w.received)
	if w.then != nil {
		w.then(time.Now())
	}
}

// refused finds what an ERROR is about: the frame whose receipt it names, or the
// only one that waits for an answer.
func (c *Conn) refused(f *Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, known := c.waiting[f.Get("receipt-id")]
	if !known && len(c.waiting) == 1 {
		for _, w = range c.waiting {
		}
	}
	return errorOf(f, w.command)
}

// request sends a frame with a receipt and waits for that. then, if not nil, is
// called when it comes, before anything that comes later is dealt with.
func (c *Conn) request(ctx context.Context, f *Frame, then func(time.Time)) error {
	w := waiter{command: f.Command, received: make(chan struct{}), then: then}
	c.mu.Lock()
	id := c.newID()
	c.waiting[id] = w
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	f.Headers = append(f.Headers, Header{"receipt", id})
	late := time.NewTimer(c.timeout)
	defer late.Stop()
	if err := c.write(ctx, f); err != nil {
		return err
	}
	select {
	case <-w.received:
		return nil
	case <-c.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late.C:
		return ErrNoReceipt
	}
	select {
	case <-w.received: // and then it ended, as after DISCONNECT
		return nil
	default:
		return c.Err()
	}
}

// newID is called with the lock held. Receipts and subscriptions are numbered
// together, and never twice in a connection.
func (c *Conn) newID() string {
	c.ids++
	return strconv.Itoa(c.ids)
}

// write sends a frame. A write that fails, or lasts too long, ends the
// connection, for part of the frame may have been sent.
func (c *Conn) write(ctx context.Context, f *Frame) error {
	select {
	case c.writing <- struct{}{}:
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.writing }()
	err := c.nc.SetWriteDeadline(time.Now().Add(c.timeout))
	if err == nil {
		err = c.writeFrame(f)
	}
	if err == nil {
		return nil
	}
	if unsent(err) {
		return err
	}
	c.fail(err)
	return c.Err()
}

func (c *Conn) writeFrame(f *Frame) error {
	b, err := f.Append(c.buf[:0], c.version)
	if err != nil {
		return err
	}
	if _, err = c.nc.Write(b); err != nil {
		return err
	}
	c.written = time.Now()
	if c.buf = b; cap(b) > 1<<16 { // one large frame shall not be kept for ever
		c.buf = nil
	}
	return nil
}

// beat sends a line feed whenever nothing has been sent for a while. The longest
// silence is two thirds of what was agreed on: ActiveMQ forgives no lateness.
func (c *Conn) beat() {
	pause := c.send / 3
	ticks := time.NewTicker(pause)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-c.done:
			return
		}
		select {
		case c.writing <- struct{}{}:
		default: // someone is writing at this moment
			continue
		}
		var err error
		if time.Since(c.written) >= pause {
			if err = c.nc.SetWriteDeadline(time.Now().Add(c.timeout)); err == nil {
				_, err = c.nc.Write([]byte{'\n'})
				c.written = time.Now()
			}
		}
		<-c.writing
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// Send sends a message and waits for its receipt. If that does not come the
// broker may have taken the message all the same, so a caller that sends it again
// may send it twice.
func (c *Conn) Send(ctx context.Context, destination string, body []byte, headers ...Header) error {
	f := &Frame{Command: "SEND", Headers: append([]Header{{"destination", destination}}, headers...), Body: body}
	return c.request(ctx, f, nil)
}
