package stomp_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/stomp"
)

// script is what happens in each case of the sweep: messages, a broker that
// restarts, messages. It returns what the consumer got.
func script(t *testing.T, l *lab, fault stomp.Fault) []string {
	t.Helper()
	l.broker.Inject(fault)
	s := l.client.Open(t.Context(), events)
	defer s.Close()
	time.Sleep(time.Second)
	for i := range 16 {
		l.publish(1)
		time.Sleep(time.Second)
		if i == 7 {
			l.broker.Disconnect()
		}
	}
	time.Sleep(time.Minute)
	l.broker.Inject()
	time.Sleep(30 * time.Second) // what a fault holds back is over too
	if err := s.Subscribed(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	l.publish(2)
	time.Sleep(time.Second)
	got, _, err := drain(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestEveryFrame puts every kind of fault at every frame and heart-beat of a
// session, in either direction, all single ones and all pairs of neighbours. The
// session must recover by itself, the stream must be in order, and what is missing
// must be in a gap, unless the broker itself lost a message of a connection.
func TestEveryFrame(t *testing.T) {
	faults := map[string]stomp.Fault{
		"drop":        stomp.Drop,
		"twice":       stomp.Twice,
		"delay 1 s":   stomp.Delay(time.Second),
		"delay 20 s":  stomp.Delay(20 * time.Second),
		"cut at 0":    stomp.Cut(0),
		"cut at 10":   stomp.Cut(10),
		"cut at NUL":  func(p *stomp.Passage, next func(*stomp.Frame)) { next(p.Frame); stomp.Cut(0)(p, next) },
		"ERROR":       stomp.Refuse("no", "reason"),
		"other frame": stomp.Instead(&stomp.Frame{Command: "ACK"}),
	}
	var total atomic.Int64
	inLab(t, func(t *testing.T, l *lab) {
		script(t, l, func(p *stomp.Passage, next func(*stomp.Frame)) { total.Add(1); next(p.Frame) })
	})
	if total.Load() < 30 {
		t.Fatalf("only %d passages", total.Load())
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			for k := range total.Load() {
				for width := int64(1); width <= 2; width++ {
					inLab(t, func(t *testing.T, l *lab) {
						var n atomic.Int64
						lost := false // a MESSAGE, without a trace
						got := script(t, l, func(p *stomp.Passage, next func(*stomp.Frame)) {
							if i := n.Add(1) - 1; i < k || i >= k+width {
								next(p.Frame)
								return
							}
							if stomp.Sends("MESSAGE")(p) && (name == "drop" || name == "ERROR") { // which comes after what was queued
								lost = true
							}
							fault(p, next)
						})
						judge(t, fmt.Sprintf("%s at %d (%d)", name, k, width), got, lost, name == "twice")
					})
				}
			}
		})
	}
}

func judge(t *testing.T, at string, got []string, lost, twice bool) {
	t.Helper()
	last, gap := 0, true // what was sent before the first subscription is nobody's
	for _, word := range got {
		if word == "gap" || word == "open" {
			gap = true
			continue
		}
		n := atoi(word)
		if n <= last && !(twice && n == last) || n > last+1 && !gap && !lost {
			t.Errorf("%s: %v", at, got)
			return
		}
		last, gap = n, false
	}
	if !slices.Contains(got, "18") || !slices.Contains(got, "17") {
		t.Errorf("%s: it did not recover: %v", at, got)
	}
}
