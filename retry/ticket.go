package retry

import "time"

// Ticket is the place of one call, or of a copy, at a gate. Do makes its own;
// simulations fill in Op and Policy and leave the rest alone.
type Ticket struct {
	// Op tells which calls are alike (rule of copies).
	Op string
	// Policy says how long the call waits, and how. It must not be nil.
	Policy *Policy
	// Of is the ticket that this one is a copy of; nil if it is none.
	Of *Ticket

	joined  time.Time // the call's first ask
	sentAt  time.Time
	heardAt time.Time // the latest sign of life
	isPaced bool
	overdue bool
	copied  int8 // copies of this send
	state   ticketState

	slow       *slowTicket
	call       *Call           // nil in simulations
	attempt    *attemptContext // nil in simulations
	prev, next *Ticket
}

// slowTicket is the part of a ticket that most calls never need.
type slowTicket struct {
	noCopy time.Time     // no copy before
	again  bool          // its copy is silent too
	copies []*Ticket     // made of this send, waiting
	ready  chan struct{} // tells a waiting call that a decision was made
}

func (t *Ticket) more() *slowTicket {
	if t.slow == nil {
		t.slow = new(slowTicket)
	}
	return t.slow
}

func (t *Ticket) patient() bool { return t.Policy.Wait > 0 }

// mayCopy tells whether sends of t are copied when they are silent.
func (t *Ticket) mayCopy() bool {
	return t.Of == nil && t.Policy.Copies && t.Policy.Safety == Safe
}

type ticketState int8

const (
	idle ticketState = iota
	queued
	sending
	gaveUp
)

// SentAt returns when the gate let the latest send go.
func (t *Ticket) SentAt() time.Time { return t.sentAt }

// GaveUp reports whether the gate told the call to give up.
func (t *Ticket) GaveUp() bool { return t.state == gaveUp }

// copyAt is when a send that stays silent is to be copied; zero means never.
func (t *Ticket) copyAt() time.Time {
	if t.copied >= maxCopies || t.overdue || !t.mayCopy() || t.copied > 0 && !t.slow.again {
		return time.Time{}
	}
	at := t.heardAt.Add(silence)
	if t.slow != nil {
		at = later(at, t.slow.noCopy)
	}
	return at
}

// overdueAt is when a send that stays silent is given up; zero means never.
func (t *Ticket) overdueAt() time.Time {
	if t.Policy.Silence == 0 || t.overdue {
		return time.Time{}
	}
	return t.heardAt.Add(t.Policy.Silence)
}
