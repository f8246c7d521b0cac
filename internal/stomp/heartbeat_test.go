package stomp

import (
	"testing"
	"time"
)

// TestNegotiated is the table of "Heart-beating" in the specification.
func TestNegotiated(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		own           time.Duration
		header        string
		send, receive time.Duration
	}{
		{5 * s, "", 0, 0},
		{5 * s, "0,0", 0, 0},
		{5 * s, "0,1", 5 * s, 0},
		{5 * s, "1,0", 0, 5 * s},
		{5 * s, "20000,30000", 30 * s, 20 * s},
		{0, "20000,30000", 0, 0},
	} {
		send, receive, err := negotiated(tt.own, tt.header)
		if err != nil || send != tt.send || receive != tt.receive {
			t.Errorf("%v and %q: %v, %v, %v", tt.own, tt.header, send, receive, err)
		}
	}
}
