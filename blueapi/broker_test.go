package blueapi_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// recordedEvents are bodies that 1.21.1 published, 400 bytes on average, and at the
// end one of 64 KiB.
func recordedEvents(t testing.TB) [][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/stomp/*.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	var events [][]byte
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(raw) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				events = append(events, line)
			}
		}
	}
	if len(events) < 100 {
		t.Fatalf("%d events", len(events))
	}
	var array bytes.Buffer
	array.WriteString(`{"name":"event","doc":{"uid":"f037197c-9d2c-462e-9456-dc52c9dd6407","data":{"image":[0`)
	for array.Len() < 64<<10 {
		array.WriteString(`,1.25`)
	}
	array.WriteString(`]}},"task_id":"141a4b88-bc2d-4867-bf6d-cb15148cc2d9"}`)
	return append(events, array.Bytes())
}

// message is an event as RabbitMQ sends it.
func message(body []byte, k int) []byte {
	f := stomp.Frame{Command: "MESSAGE", Body: body, Headers: []stomp.Header{
		{Name: "subscription", Value: "1"},
		{Name: "destination", Value: blueapi.DefaultDestination},
		{Name: "message-id", Value: "T_1@@session-CVD3yxAFrjD7kmFKGyoa8g@@" + strconv.Itoa(k)},
		{Name: "redelivered", Value: "false"},
		{Name: "traceparent", Value: "00-8a7fc16b610c57abb9f3c103d12b0d6f-1d4d32bf5378fde8-03"},
		{Name: "JMSType", Value: "TextMessage"},
		{Name: "correlation-id", Value: "2936baa2-7878-4b18-b3cf-6961877cf373"},
		{Name: "content-length", Value: strconv.Itoa(len(body))},
	}}
	b, err := f.Append(nil, stomp.V12)
	if err != nil {
		panic(err)
	}
	return append(b, '\n')
}

// sender is a broker over loopback that does nothing but send n thousand recorded
// events, as fast as they are read. Every thousandth has 64 KiB.
func sender(t testing.TB, n int) *blueapi.Broker {
	t.Helper()
	events := recordedEvents(t)
	var block []byte
	for k := range 999 {
		block = append(block, message(events[k%(len(events)-1)], k)...)
	}
	block = append(block, message(events[len(events)-1], 999)...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		d := stomp.NewDecoder(c, stomp.Limits{})
		for _, answer := range []stomp.Frame{
			{Command: "CONNECTED", Headers: []stomp.Header{{Name: "version", Value: "1.2"}}},
			{Command: "RECEIPT", Headers: []stomp.Header{{Name: "receipt-id", Value: "2"}}},
		} {
			if _, err := d.Decode(); err != nil {
				return
			}
			b, err := answer.Append(nil, stomp.V12)
			if err != nil {
				panic(err)
			}
			if _, err := c.Write(b); err != nil {
				return
			}
		}
		for range n {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
		_, _ = c.Read(make([]byte, 1)) // until the listener leaves
	}()
	return &blueapi.Broker{Address: l.Addr().String()}
}

// BenchmarkListener is what a thousand events cost from the socket to the consumer.
func BenchmarkListener(b *testing.B) {
	l := sender(b, b.N).Listen(b.Context())
	defer l.Close()
	if err := l.Subscribed(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	size := 0
	for range b.N * 1000 {
		e, err := l.Next(b.Context())
		if err != nil || e.Gap != nil {
			b.Fatalf("%+v, %v", e.Gap, err)
		}
		size += len(e.Raw)
	}
	b.SetBytes(int64(size / b.N))
}

// load is a number of recorded events that a broker publishes at an even rate, and a
// consumer that takes nothing for a while when it has a third of them.
type load struct {
	perSecond, seconds int
	stall              time.Duration
}

// through publishes the events, and returns by how much the last one was late. Each
// of them must come, in order, and nothing else.
func (l load) through(t *testing.T, broker *stomp.Broker, listener *blueapi.Listener) (late time.Duration) {
	t.Helper()
	events := recordedEvents(t)
	body := func(k int) []byte {
		if k%1000 == 999 {
			return events[len(events)-1]
		}
		return events[k%(len(events)-1)]
	}
	total := l.perSecond * l.seconds
	begin := time.Now()
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for sent := 0; sent < total; {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
			for due := int(time.Since(begin).Seconds() * float64(l.perSecond)); sent < min(due, total); sent++ {
				broker.Publish(blueapi.DefaultDestination, body(sent))
			}
		}
	}()
	for k := range total {
		e, err := listener.Next(t.Context())
		if err != nil || !bytes.Equal(e.Raw, body(k)) {
			t.Fatalf("event %d of %d: %+v, %v", k, total, e, err)
		}
		if e.Worker == nil && e.Progress == nil && e.Data == nil {
			t.Fatalf("event %d is of no kind: %s", k, e.Raw)
		}
		if k == total/3 {
			time.Sleep(l.stall)
		}
	}
	return time.Since(begin) - time.Duration(l.seconds)*time.Second
}

// TestListenerLoad: 10,000 events a second, and a consumer that stalls for 10 s. None
// is lost, and the last is not late.
func TestListenerLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := &memnet.Network{Latency: time.Millisecond}
		socket, err := network.Listen("broker:61613")
		if err != nil {
			t.Fatal(err)
		}
		broker := new(stomp.Broker)
		go broker.Serve(socket)
		defer broker.Close()
		listener := (&blueapi.Broker{Address: "broker:61613", Dial: network.DialContext}).Listen(t.Context())
		defer listener.Close()
		if err := listener.Subscribed(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := load{10_000, 15, 10 * time.Second}
		if !everything() {
			l = load{2000, 15, 10 * time.Second}
		}
		if late := l.through(t, broker, listener); late > 100*time.Millisecond {
			t.Errorf("the last event was %v late", late)
		}
	})
}

// TestListenerLoadLoopback is TestListenerLoad in real time over TCP, for a minute,
// and says what it costs.
func TestListenerLoadLoopback(t *testing.T) {
	if !everything() {
		t.Skip("takes a minute; ADAMANT_SWEEP=all")
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broker := new(stomp.Broker)
	go broker.Serve(socket)
	defer broker.Close()
	listener := (&blueapi.Broker{Address: socket.Addr().String()}).Listen(t.Context())
	defer listener.Close()
	if err := listener.Subscribed(t.Context()); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	before := heap()
	var most atomic.Uint64
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ; t.Context().Err() == nil; <-tick.C {
			most.Store(max(most.Load(), heap()))
		}
	}()
	var begin, end syscall.Rusage
	var first, last runtime.MemStats
	runtime.ReadMemStats(&first)
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &begin); err != nil {
		t.Fatal(err)
	}
	l := load{10_000, 60, 10 * time.Second}
	late := l.through(t, broker, listener)
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &end); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&last)
	runtime.GC()
	after := heap()
	n := float64(l.perSecond * l.seconds)
	cpu := end.Utime.Nano() - begin.Utime.Nano() + end.Stime.Nano() - begin.Stime.Nano()
	t.Logf("heap %d MB before, %d MB at most, %d MB after; %.1f allocations and %.1f us of CPU per event, the broker's included; the last was %v late",
		before>>20, most.Load()>>20, after>>20, float64(last.Mallocs-first.Mallocs)/n, float64(cpu)/n/1000, late)
	if late > time.Second || most.Load() > 400<<20 || after > before+4<<20 {
		t.Errorf("the last event was %v late, the heap had %d MB at most and grew by %d kB", late, most.Load()>>20, (int64(after)-int64(before))>>10)
	}
}

// heap is how many bytes objects occupy that are in use or not swept yet.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
