package retry

import "time"

// GateStatus is what a gate knows of its destination at one moment. It tells what
// the latest sends have shown: while nobody asks anything, it stays as it is.
type GateStatus struct {
	// Down is when the outage that is going on began; zero if none is known.
	Down time.Time
	// Cause is the latest failure since the destination last answered; nil if
	// there was none. A failure need not be an outage.
	Cause error
	// Waiting is how many calls and copies wait at the gate.
	Waiting int
	// Unproven is how many sends were let go since the latest proof that the
	// destination is up. Those under way to a destination that answers count.
	Unproven int
}

// Status returns what the gate knows now. It costs one lock, however many wait.
func (g *Gate) Status() GateStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.StatusAt(time.Now())
}

// StatusAt is Status for simulations.
func (g *Gate) StatusAt(now time.Time) GateStatus {
	s := GateStatus{Down: g.down, Cause: g.cause, Waiting: g.waiting.length, Unproven: g.sent}
	if s.Down.After(now) {
		s.Down = now // it asked for time, from the end of which patience counts
	}
	return s
}
