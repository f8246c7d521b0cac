package retryhttp

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// errSealed is what a connection says to a write that came after the attempt
// was judged as not sent.
var errSealed = errors.New("retryhttp: the attempt was given up before anything was written")

// countedConn counts what is written, so that it is known whether a request
// that failed had left at all.
type countedConn struct {
	net.Conn

	mu      sync.Mutex
	written int64
	writing int
	sealed  bool
	latest  time.Time // for the next byte; zero is no bound
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if c.sealed {
		c.mu.Unlock()
		return 0, errSealed
	}
	if !c.latest.IsZero() {
		if time.Now().After(c.latest) {
			c.sealed = true
			c.mu.Unlock()
			return 0, ErrTooLate
		}
		c.latest = time.Time{}
	}
	c.writing++
	c.mu.Unlock()

	n, err := c.Conn.Write(b)

	c.mu.Lock()
	c.writing--
	c.written += int64(n)
	c.mu.Unlock()
	return n, err
}

// begin returns what has been written before a request whose first byte is to be
// written by latest, or never.
func (c *countedConn) begin(latest time.Time) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest = latest
	return c.written
}

// seal reports whether nothing has been written since the count was since. If
// so, nothing will be: net/http may still be about to write a request that was
// cancelled.
func (c *countedConn) seal(since int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing > 0 || c.written != since {
		return false
	}
	c.sealed = true
	return true
}

// counted finds the countedConn beneath TLS. There is none for HTTP/2, whose
// connections bear many requests.
func counted(conn net.Conn) *countedConn {
	if t, ok := conn.(*tls.Conn); ok {
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		conn = t.NetConn()
	}
	c, _ := conn.(*countedConn)
	return c
}
