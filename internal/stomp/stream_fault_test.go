package stomp_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/stomp"
)

// TestStreamThroughFaults is TestSessionThroughFaults with a stream: nothing is
// missing and nothing comes twice, whatever happens to the connections.
func TestStreamThroughFaults(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				rnd := rand.New(rand.NewPCG(seed, 2))
				l.makeStream(rnd.IntN(10) + 1)
				s := l.openStream()
				go breakThings(l, rnd)
				go func() {
					for range 12_000 { // ten minutes
						l.publish(1)
						if !l.pause(50 * time.Millisecond) {
							return
						}
					}
				}()
				gaps, whole := 0, 0
				for last := 0; last < 12_000; {
					d, err := s.Next(t.Context())
					switch {
					case err != nil:
						t.Fatal(err)
					case d.Message != nil:
						if last++; string(d.Message.Body) != strconv.Itoa(last) {
							t.Fatalf("%s instead of %d", d.Message.Body, last)
						}
					case !d.Gap.Until.IsZero():
						if gaps++; d.Gap.Replayed {
							whole++
						}
					}
				}
				if gaps < 5 || whole == 0 {
					t.Errorf("%d gaps, %d of them replayed: nothing was tested", gaps, whole)
				}
			})
		})
	}
}

// TestStreamEveryFrame puts every kind of fault at every frame of a session that reads
// a stream, once or twice in a row. Each message comes once. Messages themselves are
// not lost or forged on the way, of which no stream leaves a trace.
func TestStreamEveryFrame(t *testing.T) {
	run := func(t *testing.T, l *lab, fault stomp.Fault) {
		l.makeStream(7)
		l.broker.Inject(fault)
		s := l.openStream()
		for i := range 16 {
			l.publish(1)
			time.Sleep(second)
			if i == 7 {
				l.broker.Disconnect()
			}
		}
		time.Sleep(time.Minute)
		got, gaps, err := drain(t, s)
		synctest.Wait()
		var messages []string
		for _, word := range got {
			if word != "gap" && word != "open" {
				messages = append(messages, word)
			}
		}
		whole := true
		for _, g := range gaps {
			_, plain := errors.AsType[*stomp.StreamError](g.Err)
			_, refused := errors.AsType[*stomp.Error](g.Err)
			whole = whole && !plain && (g.Until.IsZero() || g.Replayed || refused || g.Last == "")
		}
		if err != nil || !whole || fmt.Sprint(messages) != fmt.Sprint(numbers(1, 16)) {
			t.Errorf("%v, %+v, %v", got, gaps, err)
		}
	}
	var total atomic.Int64
	inLab(t, func(t *testing.T, l *lab) {
		run(t, l, func(p *stomp.Passage, next func(*stomp.Frame)) { total.Add(1); next(p.Frame) })
	})
	if total.Load() < 40 {
		t.Fatalf("only %d passages", total.Load())
	}
	step := int64(3)
	if os.Getenv("ADAMANT_SWEEP") == "all" {
		step = 1
	}
	for name, fault := range map[string]stomp.Fault{
		"drop":       stomp.Drop,
		"twice":      stomp.Twice,
		"delay 1 s":  stomp.Delay(time.Second),
		"delay 20 s": stomp.Delay(20 * time.Second),
		"cut at 0":   stomp.Cut(0),
		"cut at 10":  stomp.Cut(10),
		"cut at NUL": func(p *stomp.Passage, next func(*stomp.Frame)) { next(p.Frame); stomp.Cut(0)(p, next) },
		"ERROR":      stomp.Refuse("no", "reason"),
	} {
		t.Run(name, func(t *testing.T) {
			for k := int64(0); k < total.Load(); k += step {
				for width := int64(1); width <= 2; width++ {
					t.Run(fmt.Sprintf("at %d (%d)", k, width), func(t *testing.T) {
						inLab(t, func(t *testing.T, l *lab) {
							var n atomic.Int64
							run(t, l, func(p *stomp.Passage, next func(*stomp.Frame)) {
								i := n.Add(1) - 1
								loses := name == "drop" || name == "ERROR" // which comes after what was queued
								if i < k || i >= k+width || loses && stomp.Sends("MESSAGE")(p) {
									next(p.Frame)
									return
								}
								fault(p, next)
							})
						})
					})
				}
			}
		})
	}
}
