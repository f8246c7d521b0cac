package stomp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Client says how to reach a broker and how to behave there. Address is all that
// a Client needs. It may be used concurrently, and must not be changed while it
// is in use.
type Client struct {
	// Address is the broker's host:port.
	Address string
	// Dial connects; nil means a zero net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS secures the connection; nil means plain TCP. Without a ServerName the
	// certificate must be for the host of Address.
	TLS *tls.Config

	// Login and Passcode are sent if Login is not empty.
	Login, Passcode string
	// Host is the virtual host; empty means "/", which is RabbitMQ's default and
	// means nothing to ActiveMQ.
	Host string

	// HeartBeat is how often each side shall be heard. A broker that is silent for
	// twice as long is taken for dead. Zero means 5 s, negative means no
	// heart-beats: then only TCP notices that a broker is gone. The broker may ask
	// for longer intervals, and may refuse to send any.
	HeartBeat time.Duration
	// DialTimeout bounds connecting, TLS included; zero means 1.5 s, since the
	// kernel resends a lost SYN at 1 s.
	DialTimeout time.Duration
	// AnswerTimeout bounds the wait for CONNECTED and for a RECEIPT, and each
	// write; zero means 10 s.
	AnswerTimeout time.Duration
	// Queue is how many bytes of messages may wait for their consumer, headers and
	// Go's own share included; zero means 128 MiB. See [Gap] for what happens
	// beyond.
	Queue int
	// Limits bound what the broker may send. A message with a larger body is
	// dropped, which is told as a [Gap]; other frames beyond them end the
	// connection.
	Limits Limits

	// Delay is how long a [Session] waits after its k-th failure in a row, counted
	// from 0, before it tries to connect again; nil means 250 ms x 1.5 up to
	// 843.75 ms, each lengthened by 0 to 50 %. From the fifth failure on it is 2 s
	// at least, whatever Delay says.
	Delay func(k int) time.Duration
}

const (
	defaultHeartBeat     = 5 * time.Second
	defaultDialTimeout   = 1500 * time.Millisecond
	defaultAnswerTimeout = 10 * time.Second
	defaultQueue         = 128 << 20
)

func (c *Client) heartBeat() time.Duration {
	if c.HeartBeat == 0 {
		return defaultHeartBeat
	}
	return max(c.HeartBeat, 0)
}

func (c *Client) answerTimeout() time.Duration {
	if c.AnswerTimeout == 0 {
		return defaultAnswerTimeout
	}
	return c.AnswerTimeout
}

func (c *Client) queue() *queue {
	if c.Queue == 0 {
		return newQueue(defaultQueue)
	}
	return newQueue(c.Queue)
}

// Connect makes one connection. It lasts until ctx ends, Close or Disconnect is
// called, or it is lost. A broker that refuses it, as with a wrong passcode,
// makes an *[Error] of the command CONNECT.
func (c *Client) Connect(ctx context.Context) (*Conn, error) { return c.connect(ctx, ctx) }

// connect makes a connection while ctx lasts, which then lasts as long as life.
func (c *Client) connect(ctx, life context.Context) (*Conn, error) {
	nc, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("stomp: connect to %s: %w", c.Address, err)
	}
	conn := newConn(c, nc)
	stop := context.AfterFunc(ctx, conn.close)
	err = conn.handshake(c)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.close()
		return nil, fmt.Errorf("stomp: connect to %s: %w", c.Address, err)
	}
	conn.start(life)
	return conn, nil
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	limit := c.DialTimeout
	if limit == 0 {
		limit = defaultDialTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", c.Address)
	if err != nil || c.TLS == nil {
		return nc, err
	}
	conf := c.TLS
	if conf.ServerName == "" && !conf.InsecureSkipVerify {
		conf = conf.Clone()
		if conf.ServerName, _, err = net.SplitHostPort(c.Address); err != nil {
			nc.Close()
			return nil, err
		}
	}
	tc := tls.Client(nc, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

// connectFrame is CONNECT rather than STOMP, which older brokers do not know. It
// does not offer 1.0, which has no heart-beats and cannot tell subscriptions apart.
func (c *Client) connectFrame() *Frame {
	host := c.Host
	if host == "" {
		host = "/"
	}
	ms := strconv.FormatInt(c.heartBeat().Milliseconds(), 10)
	f := &Frame{Command: "CONNECT", Headers: []Header{
		{"accept-version", "1.1,1.2"}, {"host", host}, {"heart-beat", ms + "," + ms},
	}}
	if c.Login != "" {
		f.Headers = append(f.Headers, Header{"login", c.Login}, Header{"passcode", c.Passcode})
	}
	return f
}

// ErrVersion is why a broker cannot be used that agrees to neither STOMP 1.1 nor
// 1.2.
var ErrVersion = errors.New("stomp: the broker speaks neither STOMP 1.1 nor 1.2")

// maxHeartBeat is a month, in milliseconds: more is nonsense, and would overflow.
const maxHeartBeat = 31 * 24 * 3600 * 1000

// negotiated returns how often each side has agreed to be heard at least; zero
// means never. It follows "Heart-beating" in the specification: each direction
// takes the longer of what one side can do and the other wants.
func negotiated(own time.Duration, header string) (send, receive time.Duration, err error) {
	can, want := time.Duration(0), time.Duration(0)
	if header != "" {
		x, y, ok := strings.Cut(header, ",")
		a, err1 := contentLength(x)
		b, err2 := contentLength(y)
		if !ok || err1 != nil || err2 != nil || a > maxHeartBeat || b > maxHeartBeat {
			return 0, 0, malformed("heart-beat of CONNECTED is not two numbers")
		}
		can, want = time.Duration(a)*time.Millisecond, time.Duration(b)*time.Millisecond
	}
	if own > 0 && want > 0 {
		send = max(own, want)
	}
	if own > 0 && can > 0 {
		receive = max(own, can)
	}
	return send, receive, nil
}
