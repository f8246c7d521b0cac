//go:build linux && realserver

package realserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/stomp"
)

// TestPromise5Flood floods one who follows a plan with 10,000 events of it a second:
// none is lost, and who stalls for a while is up to date again soon after and gives the
// memory back in which they waited. If RabbitMQ does not take so many here it gets half
// of what it takes; the whole rate comes from a broker in memory.
func TestPromise5Flood(t *testing.T) {
	const rate = 10_000
	long, stall := 5*time.Second, 2*time.Second
	if every, _, _ := choice(t); every {
		long, stall = time.Minute, 10*time.Second
	}
	s := theServer(t)
	s.clear(t)
	task := s.begin(t, plan{"nap", map[string]any{"seconds": 600}})
	rabbit := hostport(s.STOMP)
	taken := pressed(t, rabbit)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inMemory := new(stomp.Broker)
	go func() { _ = inMemory.Serve(l) }() // until it is closed
	defer inMemory.Close()
	rows := []string{
		s.flood(t, "RabbitMQ", rabbit, task, min(rate, taken/2), long, stall),
		s.flood(t, "a broker in memory", l.Addr().String(), task, rate, long, stall),
	}
	s.clear(t)
	fmt.Fprintf(os.Stdout, "\nRabbitMQ takes and delivers %d events a second here.\n\n"+
		"| broker | events | in | a second | stall | lost | gaps | last one late | heap before | at most | after |\n|---|---|---|---|---|---|---|---|---|---|---|\n%s\n\n",
		taken, strings.Join(rows, "\n"))
}

// pressed is how many events a second a broker takes and delivers.
func pressed(t *testing.T, address string) int {
	t.Helper()
	client := stomp.Client{Address: address, Login: "guest", Passcode: "guest"}
	session := client.Open(t.Context(), blueapi.DefaultDestination)
	defer session.Close()
	if err := session.Subscribed(t.Context()); err != nil {
		t.Fatal(err)
	}
	const n = 30_000
	f := tapInto(t, address, "")
	var all []byte
	for k := range n {
		all = f.event(t, all, k+1)
	}
	begin := time.Now()
	go func() { _, _ = f.conn.Write(all) }() // the reader will miss it
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range n {
		if d, err := session.Next(ctx); err != nil || d.Gap != nil {
			t.Fatalf("%+v, %v", d.Gap, err)
		}
	}
	return int(n / time.Since(begin).Seconds())
}

// flood floods one who follows the task, and says what came of it.
func (s *Server) flood(t *testing.T, name, address, task string, rate int, long, stall time.Duration) string {
	t.Helper()
	const room = 512 << 20
	f := tapInto(t, address, task)
	seen := &consumer{stall: stall, stallAt: rate * int(long.Seconds()) / 3, heard: make(chan struct{})}
	broker := &blueapi.Broker{Address: address, Login: "guest", Passcode: "guest"}
	c := &blueapi.Client{URL: s.URL, Broker: broker, RunTrace: &blueapi.RunTrace{Event: seen.event}}
	defer c.Close()
	r, err := c.Attach(t.Context(), blueapi.Attachment{TaskID: task})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() { _, _ = r.Wait(ctx) }) // it is ended before the plan
	defer following.Wait()
	defer stop()
	for ready := false; !ready; { // what is sent before the subscription is nobody's
		f.send(t, 0)
		select {
		case <-seen.heard:
			ready = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	before, most := heap(), uint64(0)
	sent, took := f.pour(t, rate, long, func() { most = max(most, heap()) })
	end := time.Now()
	for time.Since(end) < 30*time.Second && seen.at() < sent {
		time.Sleep(10 * time.Millisecond)
	}
	late := time.Since(end)
	stop()
	following.Wait()
	after := heap()
	if perSecond := float64(sent) / took.Seconds(); perSecond < 0.95*float64(rate) {
		t.Errorf("%s: %.0f events a second were taken, not %d", name, perSecond, rate)
	}
	if seen.next != sent || seen.gaps > 0 || seen.wrong > 0 {
		t.Errorf("%s: of %d events %d came in order; %d did not, and there were %d gaps", name, sent, seen.next, seen.wrong, seen.gaps)
	}
	if late > time.Second || most > before+room || after > before+room/16 {
		t.Errorf("%s: the last one was %v late; heap %d, %d, %d", name, late, before, most, after)
	}
	return fmt.Sprintf("| %s | %d | %.1f s | %.0f | %v | %d | %d | %.2f s | %d MiB | %d MiB | %d MiB |", name, sent, took.Seconds(), float64(sent)/took.Seconds(), stall,
		sent-seen.next, seen.gaps, late.Seconds(), before>>20, most>>20, after>>20)
}

// heap is how many bytes are in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// consumer takes the events of a flood.
type consumer struct {
	stall   time.Duration
	stallAt int           // the event at which it stalls
	heard   chan struct{} // closed at the first event

	mu          sync.Mutex
	next        int // the last event in order
	wrong, gaps int
	first       sync.Once
}

// at is how many events have come in order.
func (c *consumer) at() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

func (c *consumer) event(e blueapi.Event) {
	if e.Gap == nil && e.Data == nil {
		return // of the plan itself
	}
	c.first.Do(func() { close(c.heard) })
	var doc struct {
		N int `json:"seq_num"`
	}
	c.mu.Lock()
	switch {
	case e.Gap != nil:
		c.gaps++
	case json.Unmarshal(e.Data.Doc, &doc) != nil:
		c.wrong++
	case doc.N == c.next+1:
		c.next++
	case doc.N > 0:
		c.wrong++
	}
	c.mu.Unlock()
	if doc.N == c.stallAt {
		time.Sleep(c.stall)
	}
}

// tap is a connection to a broker that publishes events of a task.
type tap struct {
	conn net.Conn
	in   *bufio.Reader
	task string
}

// tapInto connects.
func tapInto(t *testing.T, address, task string) *tap {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f := &tap{conn, bufio.NewReader(conn), task}
	f.write(t, f.frame(t, nil, stomp.Frame{Command: "CONNECT", Headers: []stomp.Header{
		{Name: "accept-version", Value: "1.2"}, {Name: "host", Value: "/"}, {Name: "login", Value: "guest"}, {Name: "passcode", Value: "guest"},
	}}))
	f.answer(t)
	return f
}

func (f *tap) write(t *testing.T, b []byte) {
	t.Helper()
	if _, err := f.conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// answer waits for a frame.
func (f *tap) answer(t *testing.T) {
	t.Helper()
	if _, err := f.in.ReadBytes(0); err != nil {
		t.Fatal(err)
	}
}

func (f *tap) frame(t *testing.T, to []byte, frame stomp.Frame) []byte {
	t.Helper()
	b, err := frame.Append(to, stomp.V12)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// event appends the frame of event n, in the size of one that the server sends.
func (f *tap) event(t *testing.T, to []byte, n int, more ...stomp.Header) []byte {
	t.Helper()
	body := fmt.Sprintf(`{"name":"event","doc":{"uid":"f037197c-9d2c-462e-9456-%012d","time":1790000000.25,"data":{"stage-x":0.1,"stage-y":0.2},`+
		`"timestamps":{"stage-x":1790000000.2,"stage-y":1790000000.2},"seq_num":%d,"filled":{},"descriptor":"2936baa2-7878-4b18-b3cf-6961877cf373"},"task_id":%q}`, n, n, f.task)
	headers := append([]stomp.Header{{Name: "destination", Value: blueapi.DefaultDestination}, {Name: "JMSType", Value: "TextMessage"}}, more...)
	return f.frame(t, to, stomp.Frame{Command: "SEND", Headers: headers, Body: []byte(body)})
}

// send publishes event n and waits until the broker has taken it.
func (f *tap) send(t *testing.T, n int) {
	t.Helper()
	f.write(t, f.event(t, nil, n, stomp.Header{Name: "receipt", Value: "r"}))
	f.answer(t)
}

// pour publishes events from 1 at a rate for a time, or as fast as they are taken if
// that is slower, and calls look about twice a second. It returns how many the broker
// took, and in what time.
func (f *tap) pour(t *testing.T, rate int, long time.Duration, look func()) (sent int, took time.Duration) {
	t.Helper()
	begin, looked := time.Now(), time.Now()
	total := int(long.Seconds()) * rate
	var batch []byte
	for sent < total-1 {
		due := min(int(time.Since(begin).Seconds()*float64(rate)), total-1)
		batch = batch[:0]
		for ; sent < due; sent++ {
			batch = f.event(t, batch, sent+1)
		}
		f.write(t, batch)
		if time.Since(looked) > 500*time.Millisecond {
			look()
			looked = time.Now()
		}
		time.Sleep(10 * time.Millisecond)
	}
	sent++
	f.send(t, sent)
	return sent, time.Since(begin)
}
