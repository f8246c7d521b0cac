package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/stomp"
)

// BenchmarkStompFanOut passes documents on to 20 callers over loopback, one of whom
// does not read, at 10,000 a second, and reports how long after a document was published
// the others had it (of the last one in each of their reads). ns/op is the time between two documents.
func BenchmarkStompFanOut(b *testing.B) {
	const callers, rate, batch = 20, 10_000, 100
	var upstream stomp.Broker
	defer upstream.Close()
	addr := listenLoopback(b, upstream.Serve)
	g := &gateway.Gateway{Upstream: "http://127.0.0.1:1", Broker: &blueapi.Broker{Address: addr}}
	defer g.Close()
	front := listenLoopback(b, g.ServeStomp)
	for upstream.Subscribers(topic) == 0 {
		time.Sleep(time.Millisecond)
	}
	published := make([]time.Time, b.N) // is written before the network carries it on
	var mu sync.Mutex
	var lags []time.Duration
	var reading sync.WaitGroup
	var conns []net.Conn
	for n := range callers {
		conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", front)
		if err != nil {
			b.Fatal(err)
		}
		conns = append(conns, conn)
		fmt.Fprintf(conn, "STOMP\naccept-version:1.1\n\n\x00SUBSCRIBE\nid:0\nreceipt:r\ndestination:%s\n\n\x00", topic)
		r := bufio.NewReaderSize(conn, 1<<20)
		for {
			frame, err := r.ReadString(0)
			if err != nil {
				b.Fatal(err)
			}
			if strings.Contains(frame, "RECEIPT") {
				break
			}
		}
		if n == 0 {
			continue // and never reads again
		}
		reading.Go(func() {
			var own []time.Duration
			block := make([]byte, 256<<10)
			for k := 0; k < b.N; {
				n, err := r.Read(block)
				if err != nil {
					b.Error(err)
					return
				}
				if k += bytes.Count(block[:n], []byte{0}); k > 0 {
					own = append(own, time.Since(published[k-1]))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			lags = append(lags, own...)
		})
	}
	pad := strings.Repeat("x", 400)
	b.ResetTimer()
	begun := time.Now()
	for n := range b.N {
		if n%batch == 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(n) * time.Second / rate)))
		}
		published[n] = time.Now()
		upstream.Publish(topic, fmt.Appendf(nil, `{"name":"event","doc":{"n":%d,"pad":"%s"}}`, n, pad))
	}
	reading.Wait()
	b.StopTimer()
	for _, c := range conns {
		c.Close()
	}
	slices.Sort(lags)
	if len(lags) > 0 {
		b.ReportMetric(float64(lags[len(lags)/2].Microseconds())/1000, "ms-lag-median")
		b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, "ms-lag-99%")
		b.ReportMetric(float64(lags[len(lags)-1].Microseconds())/1000, "ms-lag-max")
	}
}

func listenLoopback(b *testing.B, serve func(net.Listener) error) (addr string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go serve(l)
	b.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
