package blueapi

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestSocketKeep: events that nobody takes wait, in order, and what there is no room for
// is told as a gap.
func TestSocketKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &socket{events: make(chan Event)}
		updates := make(chan []byte)
		go func() {
			defer close(s.events)
			s.keep(t.Context(), updates, 30)
		}()
		put := func(from, to int) {
			for n := from; n <= to; n++ {
				updates <- fmt.Appendf(nil, `{"state":%02d}`, n) // 12 bytes
				time.Sleep(time.Second)
			}
		}
		take := func() string {
			e, ok := <-s.events
			switch {
			case !ok:
				return "end"
			case e.Gap != nil:
				return fmt.Sprint("gap of ", e.Gap.Missed, " in ", e.Gap.Until.Sub(e.Gap.From))
			}
			return string(e.Raw[9:11])
		}
		put(1, 6) // one is in the consumer's hand, two are kept
		for _, want := range []string{"01", "02"} {
			if got := take(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		put(7, 8)
		close(updates)
		for _, want := range []string{"03", "gap of 3 in 2s", "07", "08", "end"} {
			if got := take(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // one is always kept
		s := &socket{events: make(chan Event)}
		updates := make(chan []byte)
		go s.keep(t.Context(), updates, 1)
		updates <- []byte(`{"state":1}`)
		updates <- []byte(`{"state":2}`)
		updates <- []byte(`{"state":3}`)
		if a, b, c := <-s.events, <-s.events, <-s.events; a.Raw == nil || b.Raw == nil || c.Gap == nil || c.Gap.Missed != 1 {
			t.Errorf("%s, %s, %+v", a.Raw, b.Raw, c.Gap)
		}
		close(updates)
	})
}
