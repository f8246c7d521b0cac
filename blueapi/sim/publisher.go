package sim

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/stomp"
)

// A publisher is a worker's way to the broker, as that of 1.21.1 with bluesky-stomp
// and stomp.py. They go a long way round where the broker was away at the start:
// each time something is published they make a client anew, which takes its time
// and subscribes it to the worker's events once more, so that from then on each
// event is published once more often, even when the broker is back.
type publisher struct {
	server *Server
	ctx    context.Context // ends with the worker's process, or when it is closed
	cancel context.CancelFunc
	dials  turns

	mu     sync.Mutex
	copies int      // of each event
	made   bool     // there was a connection once
	conn   net.Conn // nil while there is none
}

// reconnectPeriod is bluesky-stomp's, between attempts to connect again.
const reconnectPeriod = 10 * time.Second

var errNotConnected = errors.New("not connected")

func newPublisher(ctx context.Context, s *Server) *publisher {
	p := &publisher{server: s}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p
}

// start makes the first attempt to connect, without the time it takes.
func (p *publisher) start() error {
	p.mu.Lock()
	p.copies++
	p.mu.Unlock()
	return p.dial()
}

// publish returns how many times it could not.
func (p *publisher) publish(e event) (failures int) {
	p.mu.Lock()
	copies := p.copies
	p.mu.Unlock()
	for range copies {
		if p.send(e) != nil {
			failures++
		}
	}
	return failures
}

func (p *publisher) send(e event) error {
	p.mu.Lock()
	made := p.made
	if !made {
		p.copies++
	}
	p.mu.Unlock()
	if !made {
		if err := p.connect(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return errNotConnected
	}
	if !p.server.broker.wanted() {
		return nil // which saves the trouble
	}
	_, err := p.conn.Write(e.frame())
	return err
}

// frame is the event as it is sent, with stomp.py's order of headers.
func (e event) frame() []byte {
	headers := []stomp.Header{{Name: "JMSType", Value: "TextMessage"}}
	if e.task != "" && !e.loose {
		headers = append(headers, stomp.Header{Name: "correlation-id", Value: e.task})
	}
	headers = append(headers,
		stomp.Header{Name: "destination", Value: blueapi.DefaultDestination},
		stomp.Header{Name: "traceparent", Value: "00-" + e.trace + "-" + randomHex(8) + "-03"})
	return frame("SEND", e.body.wire(), headers...)
}

// frame encodes a frame.
func frame(command string, body []byte, headers ...stomp.Header) []byte {
	f := stomp.Frame{Command: command, Headers: headers, Body: body}
	b, err := f.Append(nil, stomp.V11)
	if err != nil {
		panic(err) // nothing of ours is more than STOMP can carry
	}
	return b
}

// connect tries three times, with stomp.py's pauses after each.
func (p *publisher) connect() error {
	if err := p.dials.take(p.ctx); err != nil {
		return err
	}
	defer p.dials.give()
	p.mu.Lock()
	connected := p.conn != nil
	p.mu.Unlock()
	if connected {
		return nil
	}
	for _, pause := range []time.Duration{200 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		if p.dial() == nil {
			return nil
		}
		if err := sleep(p.ctx, pause); err != nil {
			return err
		}
	}
	return errNotConnected
}

// dial connects, and does not wait for the broker's word: it takes frames in their
// order.
func (p *publisher) dial() error {
	conn, err := p.server.broker.inside.DialContext(p.ctx, "tcp", brokerAddr)
	if err != nil {
		return err
	}
	_, err = conn.Write(frame("STOMP", nil, stomp.Header{Name: "accept-version", Value: "1.1"},
		stomp.Header{Name: "login", Value: "guest"}, stomp.Header{Name: "passcode", Value: "guest"}))
	if err != nil {
		_ = conn.Close()
		return err
	}
	p.mu.Lock()
	p.conn, p.made = conn, true
	p.mu.Unlock()
	p.server.wait.Go(func() { p.attend(conn) })
	return nil
}

// attend waits for the end of a connection and then makes another one.
func (p *publisher) attend(conn net.Conn) {
	end := context.AfterFunc(p.ctx, func() { _ = conn.Close() })
	defer end()
	d := stomp.NewDecoder(conn, stomp.Limits{})
	for {
		if _, err := d.Decode(); err != nil {
			break
		}
	}
	p.lose(conn)
	for p.ctx.Err() == nil && p.connect() != nil {
		_ = sleep(p.ctx, reconnectPeriod)
	}
}

// drop notices at once that the broker has gone.
func (p *publisher) drop() {
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	if conn != nil {
		p.lose(conn)
	}
}

// lose gives a connection up.
func (p *publisher) lose(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == conn {
		p.conn = nil
	}
}

// close takes leave of the broker, for good. If there never was a connection it
// tries to connect first, and without success nothing is closed.
func (p *publisher) close() error {
	p.mu.Lock()
	made := p.made
	p.mu.Unlock()
	if !made {
		if err := p.connect(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	if p.conn != nil {
		_, _ = p.conn.Write(frame("DISCONNECT", nil, stomp.Header{Name: "receipt", Value: newID()}))
	}
	p.mu.Unlock()
	p.cancel()
	return nil
}

// randomHex is n random bytes in hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
