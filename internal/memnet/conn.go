package memnet

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Conn is one end of a connection. It is a net.Conn.
type Conn struct {
	n             *Network
	h             *host
	local, remote address
	peer          *Conn
	in, out       *stream
	server        bool
	closed        bool
	linger        bool // Close sends a reset
	readBy        time.Time
	writeBy       time.Time
}

// stream is one direction of a connection. Bytes go from sent, where they are
// under way, to arrived, where the reader finds them.
type stream struct {
	latency time.Duration
	sent    []segment
	arrived []byte
	size    int       // bytes in sent and arrived
	end     error     // what the reader gets after arrived
	held    bool      // nothing arrives
	frozen  bool      // the reader's process is stopped
	dead    bool      // what is sent, or was under way, is lost
	silent  bool      // what is sent from now on is lost
	broken  time.Time // from then on the writer has been told that nobody reads
	cut     *cut
	gone    bool // the reader has closed, or never hears of more
	changed signal
}

// segment is some bytes, or the end of a stream, under way.
type segment struct {
	data []byte
	end  error
	due  time.Time
}

// cut ends a connection after some more bytes of one direction.
type cut struct {
	after int
	end   error // nil: silence
}

func (n *Network) pair(h *host, clientAddr, serverAddr address) (client, server *Conn) {
	up, down := &stream{latency: n.Latency}, &stream{latency: n.Latency}
	client = &Conn{n: n, h: h, local: clientAddr, remote: serverAddr, in: down, out: up}
	server = &Conn{n: n, h: h, local: serverAddr, remote: clientAddr, in: up, out: down, server: true, peer: client}
	client.peer = server
	return client, server
}

// arrive moves what is due to where the reader finds it.
func (s *stream) arrive(now time.Time) {
	for !s.held && !s.dead && len(s.sent) > 0 && !s.sent[0].due.After(now) {
		if s.end == nil {
			s.arrived = append(s.arrived, s.sent[0].data...)
			s.end = s.sent[0].end
		}
		s.sent = s.sent[1:]
	}
}

// apply begins and ends what a fault does to a connection that exists. It is
// called on the server's end, with the network locked.
func (c *Conn) apply(f Fault) {
	now := time.Now()
	for _, s := range []*stream{c.in, c.out} {
		s.arrive(now)
		s.held = f == BlackHole || f == Forget || f == Stall && s == c.out
		s.frozen = f == Stall && s == c.in
		s.dead = s.dead || f == Forget
		s.changed.notify()
	}
}

// abort resets the connection at both ends, with the network locked. What had
// arrived can still be read, as on Linux; what was under way is lost.
func (c *Conn) abort() {
	now := time.Now()
	for _, s := range []*stream{c.in, c.out} {
		if s.dead {
			continue // nobody hears of it
		}
		s.arrive(now)
		s.sent = nil
		s.size = len(s.arrived)
		if s.held { // nor does a reset get through
			s.sent = []segment{{end: syscall.ECONNRESET, due: now}}
		} else if s.end == nil {
			s.end = syscall.ECONNRESET
		}
		s.changed.notify()
	}
	if c.in.held || c.out.held {
		return // somebody is still to hear of it
	}
	delete(c.h.conns, c)
	delete(c.h.conns, c.peer)
}

// Reset resets the connection at once, as both ends see it.
func (c *Conn) Reset() {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.abort()
}

// CutAfter cuts the connection when this end has written n more bytes, which
// are delivered. With end io.EOF the other end then reads a clean end, with
// syscall.ECONNRESET both are reset, and with nil what follows is lost in
// silence.
func (c *Conn) CutAfter(n int, end error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.out.cut = &cut{after: n, end: end}
}

// SetLatency sets how long the bytes that this end writes are under way.
func (c *Conn) SetLatency(d time.Duration) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.out.latency = d
}

// SetLinger with 0 makes Close reset the connection, as net.TCPConn's does.
func (c *Conn) SetLinger(sec int) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.linger = sec == 0
	return nil
}

// LocalAddr is this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the other end's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

func (c *Conn) error(op string, err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		err = os.NewSyscallError(op, no)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Read reads what has arrived, and waits for it until the read deadline.
func (c *Conn) Read(b []byte) (int, error) {
	c.n.mu.Lock()
	s := c.in
	for {
		now := time.Now()
		s.arrive(now)
		n, err := 0, error(nil)
		switch {
		case c.closed:
			err = net.ErrClosed
		case expired(c.readBy, now):
			err = os.ErrDeadlineExceeded
		case len(b) == 0:
			c.n.mu.Unlock()
			return 0, nil
		case s.frozen:
		case len(s.arrived) > 0:
			n = copy(b, s.arrived)
			s.arrived = s.arrived[n:]
			s.size -= n
			s.changed.notify()
		default:
			err = s.end
		}
		if n > 0 || err != nil {
			c.n.mu.Unlock()
			if err != nil {
				err = c.error("read", err)
			}
			return n, err
		}
		until := c.readBy
		if len(s.sent) > 0 && !s.held && !s.dead && !s.frozen && (until.IsZero() || s.sent[0].due.Before(until)) {
			until = s.sent[0].due
		}
		changed := s.changed.wait()
		c.n.mu.Unlock()
		await(changed, until)
		c.n.mu.Lock()
	}
}

func expired(deadline, now time.Time) bool { return !deadline.IsZero() && !deadline.After(now) }

// Write puts b into the buffer, and waits for room until the write deadline.
func (c *Conn) Write(b []byte) (int, error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	s := c.out
	done := 0
	for {
		now := time.Now()
		c.in.arrive(now)
		switch {
		case c.closed:
			return done, c.error("write", net.ErrClosed)
		case expired(c.writeBy, now):
			return done, c.error("write", os.ErrDeadlineExceeded)
		case errors.Is(c.in.end, syscall.ECONNRESET) || s.end != nil && !s.gone:
			return done, c.error("write", syscall.ECONNRESET)
		case expired(s.broken, now):
			return done, c.error("write", syscall.EPIPE)
		}
		done += c.send(b[done:], now)
		if done == len(b) {
			return done, nil
		}
		until := c.writeBy
		changed := s.changed.wait()
		c.n.mu.Unlock()
		await(changed, until)
		c.n.mu.Lock()
	}
}

// send takes what there is room for, and does what was asked for at a cut.
func (c *Conn) send(b []byte, now time.Time) int {
	s := c.out
	if s.silent {
		return len(b)
	}
	if s.gone { // closed there: the bytes are answered by a reset, if they get there
		if !s.held && !s.dead && s.broken.IsZero() {
			s.broken = now.Add(2 * s.latency)
		}
		return len(b)
	}
	buffer := c.n.Buffer
	if buffer <= 0 {
		buffer = DefaultBuffer
	}
	n := min(len(b), buffer-s.size)
	if s.cut != nil {
		n = min(n, s.cut.after)
	}
	if n > 0 {
		s.sent = append(s.sent, segment{data: append([]byte(nil), b[:n]...), due: now.Add(s.latency)})
		s.size += n
		s.changed.notify()
	}
	if s.cut == nil {
		return n
	}
	if s.cut.after -= n; s.cut.after > 0 {
		return n
	}
	// Cut as soon as the last byte is sent, whether or not more follows.
	end := s.cut.end
	s.cut = nil
	s.changed.notify()
	if end == nil {
		s.silent = true
		return len(b)
	}
	s.sent = append(s.sent, segment{end: end, due: now.Add(s.latency)})
	s.broken = now.Add(2 * s.latency)
	s.gone = true // nobody reads what follows
	if !errors.Is(end, io.EOF) {
		c.in.sent = append(c.in.sent, segment{end: end, due: now.Add(c.in.latency)})
		c.in.changed.notify()
	}
	return len(b)
}

// SetDeadline sets both deadlines. Calls that wait heed it.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets when Read stops waiting; zero means never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.closed {
		return c.error("set", net.ErrClosed)
	}
	c.readBy = t
	c.in.changed.notify()
	return nil
}

// SetWriteDeadline sets when Write stops waiting; zero means never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.closed {
		return c.error("set", net.ErrClosed)
	}
	c.writeBy = t
	c.out.changed.notify()
	return nil
}

// Close closes this end. What was written is still delivered, and then an end;
// or a reset, if bytes that had arrived were never read, as on Linux.
func (c *Conn) Close() error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.closed {
		return c.error("close", net.ErrClosed)
	}
	now := time.Now()
	c.closed = true
	c.in.arrive(now)
	end := io.EOF
	if c.linger || len(c.in.arrived) > 0 {
		end = syscall.ECONNRESET
	}
	if c.linger && c.out.held {
		c.out.sent = nil // SO_LINGER 0 throws away what is not acknowledged
	}
	if c.out.end == nil && !c.out.silent {
		c.out.sent = append(c.out.sent, segment{end: end, due: now.Add(c.out.latency)})
	}
	c.in.gone = true
	c.in.sent, c.in.arrived, c.in.size = nil, nil, 0
	c.in.changed.notify()
	c.out.changed.notify()
	if c.peer.closed {
		delete(c.h.conns, c)
		delete(c.h.conns, c.peer)
	}
	return nil
}
