package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/stomp"
)

const topic = blueapi.DefaultDestination

// inStomp runs a test in a world whose gateway listens to the server's broker and
// serves callers.
func inStomp(t *testing.T, set func(*world), test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.gateway.Broker = &blueapi.Broker{Address: "broker.sim:61613", Dial: w.DialBroker}
			if set != nil {
				set(w)
			}
		})
		serveStomp(t, w, w.gateway.ServeStomp)
		time.Sleep(time.Second)
		test(t, w)
	})
}

const (
	stompAddr = "gateway.example:61613"
	subscribe = "SUBSCRIBE\nack:auto\ndestination:" + topic + "\nid:0\n\n\x00"
)

// serveStomp has a gateway listen for callers.
func serveStomp(t *testing.T, w *world, serve func(net.Listener) error) {
	t.Helper()
	l, err := w.front.Listen(stompAddr)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		if err := serve(l); err != nil {
			t.Errorf("ServeStomp: %v", err)
		}
	})
	t.Cleanup(func() {
		l.Close()
		served.Wait()
	})
}

// ear is a caller that listens by STOMP, as stomp.py does.
type ear struct {
	t    *testing.T
	conn net.Conn
	done chan struct{}

	mu     sync.Mutex
	raw    []string // frames as they came, without their NUL
	frames []*stomp.Frame
}

// dialEar connects, and waits for CONNECTED.
func dialEar(w *world) *ear {
	w.Helper()
	e := connectEar(w)
	go e.listen()
	e.t.Cleanup(func() {
		e.conn.Close()
		<-e.done
	})
	time.Sleep(10 * time.Millisecond)
	return e
}

// connectEar connects without waiting for anything. It is to be closed, and hears nothing
// until it listens.
func connectEar(w *world) *ear {
	w.Helper()
	conn, err := w.front.DialContext(context.Background(), "tcp", stompAddr)
	if err != nil {
		w.Fatal(err)
	}
	e := &ear{t: w.T, conn: conn, done: make(chan struct{})}
	e.send("STOMP\naccept-version:1.1\nlogin:guest\npasscode:guest\n\n\x00")
	return e
}

// newEar is one that is subscribed.
func newEar(w *world) *ear {
	w.Helper()
	e := dialEar(w)
	e.subscribe()
	return e
}

func (e *ear) send(frame string) {
	e.t.Helper()
	if _, err := e.conn.Write([]byte(frame)); err != nil {
		e.t.Errorf("a caller cannot send: %v", err)
	}
}

func (e *ear) subscribe() {
	e.t.Helper()
	e.send(subscribe)
	time.Sleep(10 * time.Millisecond)
}

func (e *ear) leave() {
	e.t.Helper()
	e.send("UNSUBSCRIBE\nid:0\n\n\x00DISCONNECT\nreceipt:bye\n\n\x00")
	<-e.done
}

func (e *ear) listen() {
	defer close(e.done)
	r := bufio.NewReader(e.conn)
	for {
		raw, err := r.ReadString(0)
		if err != nil {
			return
		}
		f, err := stomp.NewDecoder(strings.NewReader(raw), stomp.Limits{}).Decode()
		if err != nil {
			e.t.Errorf("the gateway sent %q: %v", raw, err)
			return
		}
		e.mu.Lock()
		e.raw, e.frames = append(e.raw, raw), append(e.frames, f)
		e.mu.Unlock()
	}
}

// heard are the messages that came.
func (e *ear) heard() (events []heard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.frames {
		if f.Command != "MESSAGE" {
			continue
		}
		h := heard{task: f.Get("correlation-id"), body: f.Body}
		if err := json.Unmarshal(f.Body, &h.event); err != nil {
			e.t.Errorf("%s: %v", f.Body, err)
		}
		events = append(events, h)
	}
	return events
}

// heard is one message.
type heard struct {
	task  string
	body  []byte
	event struct {
		State string `json:"state"`
		Task  *struct {
			ID     string `json:"task_id"`
			Result *struct {
				Kind    string `json:"outcome"`
				Type    string `json:"type"`
				Message string `json:"message"`
			} `json:"result"`
			Complete bool `json:"task_complete"`
			Failed   bool `json:"task_failed"`
		} `json:"task_status"`
		Name   string          `json:"name"`
		Doc    json.RawMessage `json:"doc"`
		TaskID string          `json:"task_id"`
	}
}

// String is short: a state with its task's completeness, or a document's name.
func (h heard) String() string {
	switch s := h.event.Task; {
	case h.event.Name != "":
		return h.event.Name
	case s == nil:
		return h.event.State
	case s.Complete && s.Failed:
		return h.event.State + " failed"
	case s.Complete:
		return h.event.State + " complete"
	}
	return h.event.State
}

// ends are the last words about a task.
func ends(events []heard, id string) (ends []heard) {
	for _, h := range events {
		if h.event.State == "IDLE" && h.event.Task != nil && h.event.Task.Complete && h.event.Task.ID == id {
			ends = append(ends, h)
		}
	}
	return ends
}

// words are events in short, of one task if id is not empty.
func words(events []heard, id string) string {
	var words []string
	for _, h := range events {
		if id == "" || h.task == id || h.event.Name != "" {
			words = append(words, fmt.Sprint(h))
		}
	}
	return strings.Join(words, ", ")
}

// endOf waits for the end of a task, and reports whether it was told.
func (e *ear) endOf(id string, within time.Duration) bool {
	seen := 0
	for limit := time.Now().Add(within); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		e.mu.Lock()
		n := len(e.frames)
		e.mu.Unlock()
		if n > seen && len(ends(e.heard(), id)) > 0 {
			return true
		}
		seen = n
	}
	return false
}

// sendsEnd matches the end events that the broker sends.
func sendsEnd(p *stomp.Passage) bool {
	return p.Sent && p.Frame != nil && p.Frame.Command == "MESSAGE" &&
		bytes.Contains(p.Frame.Body, []byte(`"state":"IDLE"`)) && bytes.Contains(p.Frame.Body, []byte(`"task_complete":true`))
}
