package stomp_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/internal/stomp"
)

// TestSlowConsumer: a consumer that takes nothing costs neither heart-beats nor
// the connection, and another one of the same connection nothing at all.
func TestSlowConsumer(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.client.Queue = 100 << 10
		c := l.connect()
		slow, quick := l.subscribe(c), l.subscribe(c)
		start := time.Now()
		for range 1000 {
			l.publish(1)
			time.Sleep(second)
			if got, _, _ := drain(t, quick); len(got) != 1 {
				t.Fatalf("the quick consumer got %v", got)
			}
		}
		if c.Err() != nil {
			t.Fatal(c.Err())
		}
		got, gaps, _ := drain(t, slow)
		if len(gaps) != 1 || got[len(got)-1] != "gap" || gaps[0].Err != stomp.ErrFull {
			t.Fatalf("got %v, %+v", got, gaps)
		}
		taken := len(got) - 1
		g := gaps[0]
		first := start.Add(time.Duration(taken)*second + time.Millisecond)
		if taken < 100 || taken+g.Missed != 1000 || !g.From.Equal(first) || !g.Until.Equal(start.Add(999*second+time.Millisecond)) || !strings.HasPrefix(g.Last, "T_1@@") {
			t.Errorf("%d taken; gap %+v from %v", taken, g, g.From.Sub(start))
		}
		l.publish(1) // it goes on
		time.Sleep(second)
		want(t, slow, "1001")
	})
}

// TestOverflowIsNotChopped: a consumer that is a bit too slow gets long stretches
// with few gaps, and all that is missing is in a gap.
func TestOverflowIsNotChopped(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.client.Queue = 50 << 10
		s := l.subscribe(l.connect())
		go func() {
			for range 10_000 {
				l.publish(1)
				if !l.pause(time.Millisecond) {
					return
				}
			}
		}()
		got, gaps, missed, last := 0, 0, 0, 0
		for got+missed < 10_000 {
			d, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d.Gap != nil {
				gaps, missed = gaps+1, missed+d.Gap.Missed
				continue
			}
			n := atoi(string(d.Message.Body))
			if got++; n <= last || n != got+missed {
				t.Fatalf("%d after %d, with %d missed", n, last, missed)
			}
			last = n
			time.Sleep(1500 * time.Microsecond)
		}
		if gaps == 0 || gaps > 100 {
			t.Errorf("%d messages, %d missed in %d gaps", got, missed, gaps)
		}
	})
}

// TestLargeMessage: one that is too large for the limits or the queue is missed,
// and nothing else.
func TestLargeMessage(t *testing.T) {
	for name, set := range map[string]func(*stomp.Client){
		"limit": func(c *stomp.Client) { c.Limits.Body = 1000 },
		"queue": func(c *stomp.Client) { c.Queue = 4000 },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				set(l.client)
				s := l.subscribe(l.connect())
				l.publish(1)
				l.broker.Publish(events, make([]byte, 10_000))
				l.publish(1)
				time.Sleep(second)
				gaps := want(t, s, "1", "gap", "2")
				_, limit := errors.AsType[*stomp.LimitError](gaps[0].Err)
				if gaps[0].Missed != 1 || limit != (name == "limit") {
					t.Errorf("gap %+v", gaps[0])
				}
			})
		})
	}
}
