package blueapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// cable is a client's way to the broker, which can be cut.
type cable struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func (c *cable) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
	}
	conn, err := c.dial(ctx, network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

// cut ends the connections, and refuses new ones for d.
func (c *cable) cut(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
	c.down = true
	time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.down = false
	})
}

// replayed tells whether one of the gaps is over and was one in which nothing is
// missing, and why there is no stream if that was told.
func (r *record) replayed() (whole bool, refused *blueapi.StreamError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if g := e.Gap; g != nil && !g.Until.IsZero() {
			whole = whole || errors.Is(g.Err, blueapi.ErrReplayed)
			if err, ok := errors.AsType[*blueapi.StreamError](g.Err); ok {
				refused = err
			}
		}
	}
	return whole, refused
}

// sequence is the seq_num of each event document that came.
func (r *record) sequence(t *testing.T) (numbers []int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Data == nil || e.Data.Name != "event" {
			continue
		}
		var doc struct {
			SeqNum int `json:"seq_num"`
		}
		if err := json.Unmarshal(e.Data.Doc, &doc); err != nil {
			t.Error(err)
		}
		numbers = append(numbers, doc.SeqNum)
	}
	return numbers
}

// TestReplay: the client is cut off from the broker for 30 s in mid-plan, and the
// broker is not. With a stream the run has had each event in the end.
func TestReplay(t *testing.T) {
	minute := request("many_events", `{"n":60,"delay":1}`)
	for _, tt := range []struct {
		name           string
		stream, made   bool
		events         int // at least
		whole, refused bool
	}{
		{"a stream", true, true, 60, true, false},
		{"no stream", false, false, 25, false, false},
		{"a stream that the broker does not have", true, false, 25, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world, r *record) {
				c := &cable{dial: w.DialBroker}
				b := w.client.Broker
				if b.Dial = c.DialContext; tt.stream {
					b.Stream = "adamant"
				}
				if tt.made {
					if err := b.MakeStream(t.Context(), 1e9); err != nil {
						t.Fatal(err)
					}
				}
				time.AfterFunc(15*time.Second, func() { c.cut(30 * time.Second) })
				result, err := w.client.Run(t.Context(), minute)
				got := r.sequence(t)
				for i, n := range got {
					if i > 0 && n <= got[i-1] || tt.whole && n != i+1 {
						t.Errorf("the numbers of the events: %v", got)
						break
					}
				}
				whole, refused := r.replayed()
				if len(got) < tt.events || len(got) > 60 || tt.whole != (len(got) == 60) || tt.whole != whole || tt.refused != (refused != nil) {
					t.Errorf("%d events of 60; replayed: %v; no stream: %v", len(got), whole, refused)
				}
				w.truth(t, "", result, err)
			})
		})
	}
}

// TestReplayForSlow: a listener with a stream that takes nothing for an hour, and
// another one beside it, get each event.
func TestReplayForSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := new(memnet.Network)
		socket, err := network.Listen("broker:61613")
		if err != nil {
			t.Fatal(err)
		}
		server := new(stomp.Broker)
		go server.Serve(socket)
		defer server.Close()
		b := &blueapi.Broker{Address: "broker:61613", Dial: network.DialContext, Destination: "/topic/t", Stream: "s"}
		if err := b.MakeStream(t.Context(), 1e9); err != nil {
			t.Fatal(err)
		}
		slow, quick := b.Listen(t.Context()), b.Listen(t.Context())
		defer slow.Close()
		defer quick.Close()
		if err := errors.Join(slow.Subscribed(t.Context()), quick.Subscribed(t.Context())); err != nil {
			t.Fatal(err)
		}
		events := recordedEvents(t)
		take := func(l *blueapi.Listener, k int) {
			e, err := l.Next(t.Context())
			if err != nil || !bytes.Equal(e.Raw, events[k%len(events)]) {
				t.Fatalf("event %d: %+v, %v", k, e, err)
			}
		}
		const hour = 3600
		for k := range hour {
			server.Publish("/topic/t", events[k%len(events)])
			take(quick, k)
			time.Sleep(time.Second)
		}
		for k := range hour {
			take(slow, k)
		}
	})
}
