package retry

import (
	"fmt"
	"time"
)

// DefaultAttempts is how often a call is tried if its policy does not say: the
// most that blueapi issue #1159 allows, and with the default [Backoff] two of
// them surely start after an outage of one second has ended.
const DefaultAttempts = 5

// patientPace is the least time between sends when every waiting caller chose a
// long wait (Policy.Wait).
const patientPace = 2 * time.Second

// maxHint caps what a server may ask for by Retry-After, unless MaxRetryAfter
// says what to do.
const maxHint = 5 * time.Second

// Policy says how a call is repeated. It is a plain value: copy and change it.
// The zero value makes at most five attempts over at least 2.03 s, treats the
// operation as safe, and keeps to five sends in any second.
type Policy struct {
	// Op names the operation in errors and traces, and tells which calls are
	// alike; such as "GET /plans".
	Op string
	// Safety of the operation; the zero value is Safe.
	Safety Safety
	// Attempts is the most attempts of one call; zero means DefaultAttempts.
	// A call of one attempt still waits at the gate as long as any other.
	Attempts int
	// Backoff is the call's own schedule.
	Backoff Backoff
	// Outlast is an outage that every call must survive. A policy whose
	// Window is shorter is refused by Validate and by Do. Zero states nothing.
	Outlast time.Duration
	// Wait is how long a call waits for its destination. Zero means the
	// window of the schedule; otherwise attempts are not counted, and are sent
	// no more often than every two seconds once the first have failed.
	Wait time.Duration
	// Since is when the caller began to wait, if that was before the call was
	// made, as behind another call; its time is counted from there. Zero means
	// when the call first asks its gate.
	Since time.Time
	// Silence is how long an attempt may go without a sign of life before it
	// is given up; zero means for ever.
	Silence time.Duration
	// Copies allows a second attempt beside one that has been silent for a
	// second, on a fresh connection; the first answer wins. For reads only.
	Copies bool
	// Urgent calls, such as an abort, wait at the head of the gate's queue.
	Urgent bool
	// MaxRetryAfter makes a call fail if the server asks for a longer delay.
	// Zero caps longer delays at five seconds instead.
	MaxRetryAfter time.Duration
	// Gate is shared with the other callers of the destination; nil means one
	// for this call alone.
	Gate *Gate
	// Reopened is called when an answer to this call ended an outage, or told
	// that a connection had died in silence. Pooled connections may all be
	// dead then. May be nil.
	Reopened func()
	// Trace observes the call; nil means nobody does.
	Trace *Trace
}

// Window returns the shortest outage of which it is certain that a call of this
// policy survives it, whatever the jitter.
func (p *Policy) Window() time.Duration {
	if p.Wait > 0 {
		return p.Wait
	}
	n := p.attempts()
	if n == 1 {
		n = DefaultAttempts
	}
	shortest, _ := p.Backoff.Window(n)
	return shortest
}

// Validate reports a policy that cannot outlast the outage it states.
func (p *Policy) Validate() error {
	if p.Outlast == 0 {
		return nil
	}
	if w := p.Window(); w < p.Outlast {
		return fmt.Errorf("retry: policy of %d attempts lasts %v at least and cannot outlast an outage of %v: allow more attempts or longer delays",
			p.attempts(), w, p.Outlast)
	}
	return nil
}

func (p *Policy) attempts() int {
	if p.Attempts == 0 {
		return DefaultAttempts
	}
	return p.Attempts
}
