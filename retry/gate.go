package retry

import (
	"math/rand/v2"
	"sync"
	"time"
)

// DefaultUnproven is how many sends a gate lets go between one proof that the
// destination is up and the next. With two paced sends a second, a destination
// that answers nothing gets at most five in any second (blueapi issue #1159).
const DefaultUnproven = 3

const (
	pacedPerSecond = 2           // sends beyond the unproven ones, in any second
	silence        = time.Second // after which a read is copied
	// copySilence is the silence of a copy after which another is made: the
	// first may have been sent while its path was still dead. A slow server
	// gets no third.
	copySilence = 2 * time.Second
	maxCopies   = 2
)

// Gate is what the callers of one destination know of it together, and the
// place where they wait while it is away. It counts the sends since the last
// proof that the destination is up, as TCP counts what is not acknowledged:
// while few are unproven, calls pass at once; beyond that they pass one at a
// time, paced by the schedule, until an answer lets three more go.
//
// The zero value is ready. A Gate must not be copied. Its fields must not be
// changed once it is in use; all methods may be called concurrently.
//
// [Do] uses a gate by itself. The methods whose names end in At are the state
// machine alone, for simulations in which time is an argument: they neither
// block nor start timers, and must not be mixed with Do on one Gate.
type Gate struct {
	// Unproven is the number of sends allowed since the last proof; zero means
	// DefaultUnproven. A slow service that is used concurrently may want more;
	// then at most Unproven+2 sends a second reach a silent destination.
	Unproven int
	// Backoff is the schedule of the paced sends.
	Backoff Backoff
	// Rand returns numbers in [0, 1) for jitter; nil means math/rand/v2. It is
	// called with the gate locked.
	Rand func() float64

	mu sync.Mutex
	// sent counts sends since the last proof, k the paced ones among them.
	sent, k int
	// notBefore is the earliest time of the next paced send.
	notBefore time.Time
	// paced are the times of the latest paced sends, oldest first. They
	// outlive a proof: an answer allows three sends, not five.
	paced [pacedPerSecond]time.Time
	// lastSend is the time of the latest send of any kind.
	lastSend time.Time
	// lastFailed is when the latest send that is known to have failed was sent.
	lastFailed time.Time
	// proof is the time of the latest proof.
	proof time.Time
	// down is the beginning of the outage: the first failure, since the last
	// proof, of a send newer than that proof. Zero: no outage is known.
	down time.Time
	// hinted tells that the destination has asked for time since the last proof.
	hinted bool
	// cause is the latest failure, for callers that give up without a send.
	cause error

	waiting queue
	eager   int       // waiting tickets that are not Patient
	flying  queue     // sends under way that are watched, oldest first
	gave    []*Ticket // told to give up since the last pump
	copying *Ticket   // the one copy that waits, or is not silent yet

	// The blocking half.
	timer   *time.Timer
	timerAt time.Time
}

// Decisions are what became of the tickets of a gate since the last time that
// its state machine was asked.
type Decisions struct {
	// Go may send now; those with Of set are copies to be made. GiveUp have
	// waited long enough. Overdue have been silent for too long and are to be
	// reported by FailedAt.
	Go, GiveUp, Overdue []*Ticket
	// Next is when to ask again if nothing else happens; zero means never.
	Next time.Time
}

func (g *Gate) unproven() int {
	if g.Unproven == 0 {
		return DefaultUnproven
	}
	return g.Unproven
}

func (g *Gate) delay() time.Duration {
	return g.Backoff.Delay(g.k, g.random())
}

func (g *Gate) random() float64 {
	if g.Rand != nil {
		return g.Rand()
	}
	return rand.Float64()
}

// AskAt asks for a send at now, and reports whether it may go at once. If not,
// the ticket waits until PumpAt names it. The first ask of a ticket is the
// beginning of its call.
func (g *Gate) AskAt(now time.Time, t *Ticket) bool {
	if t.joined.IsZero() {
		t.joined = now
	}
	t.overdue, t.copied = false, 0
	if t.slow != nil {
		t.slow.noCopy, t.slow.again = time.Time{}, false
	}
	if g.waiting.head == nil && g.sent < g.unproven() {
		g.let(now, t, false)
		return true
	}
	g.enqueue(t)
	return false
}

func (g *Gate) enqueue(t *Ticket) {
	t.state = queued
	if !t.patient() {
		g.eager++
	}
	if !t.Policy.Urgent {
		g.waiting.append(t)
		return
	}
	at := g.waiting.head // behind the other urgent ones
	for at != nil && at.Policy.Urgent {
		at = at.next
	}
	g.waiting.insert(t, at)
}

func (g *Gate) dequeue(t *Ticket) {
	g.waiting.remove(t)
	t.state = idle
	if !t.patient() {
		g.eager--
	}
}

// let lets t go.
func (g *Gate) let(now time.Time, t *Ticket, paced bool) {
	g.sent++
	g.lastSend = now
	t.state, t.sentAt, t.heardAt, t.isPaced = sending, now, now, paced
	switch {
	case paced:
		g.k++
		copy(g.paced[:], g.paced[1:])
		g.paced[pacedPerSecond-1] = now
		g.raise(now.Add(g.delay()))
	case g.sent == g.unproven():
		g.raise(now.Add(g.delay()))
	}
	if t.mayCopy() || t.Policy.Silence > 0 {
		g.flying.append(t)
	}
}

func (g *Gate) raise(at time.Time) {
	if at.After(g.notBefore) {
		g.notBefore = at
	}
}

// nextPaced is when the next paced send may go.
func (g *Gate) nextPaced() time.Time {
	at := g.notBefore
	if full := g.paced[0]; !full.IsZero() {
		at = later(at, full.Add(time.Second))
	}
	if g.eager == 0 {
		at = later(at, g.lastSend.Add(patientPace))
	}
	return at
}

// PumpAt decides who may go at now. It is to be called after AskAt returned
// false, after every AnsweredAt, FailedAt, LeaveAt and HintAt, and at the time
// that it returned as Next.
func (g *Gate) PumpAt(now time.Time) Decisions {
	var d Decisions
	d.GiveUp, g.gave = g.gave, nil
	g.watch(now, &d)
	g.pump(now, &d)
	return d
}

func (g *Gate) pump(now time.Time, d *Decisions) {
	for t := g.waiting.head; t != nil; t = g.waiting.head {
		paced := g.sent >= g.unproven()
		if paced {
			if at := g.nextPaced(); now.Before(at) {
				d.Next = sooner(d.Next, at)
				return
			}
			t = g.preferred()
		}
		g.dequeue(t)
		g.let(now, t, paced)
		d.Next = sooner(d.Next, sooner(t.copyAt(), t.overdueAt()))
		if t == g.copying {
			d.Next = sooner(d.Next, now.Add(copySilence))
		}
		d.Go = append(d.Go, t)
	}
}

// preferred picks who makes a paced send: an urgent call, else the first that
// may be repeated, for that one loses nothing if the send fails.
func (g *Gate) preferred() *Ticket {
	if g.waiting.head.Policy.Urgent {
		return g.waiting.head
	}
	for t := g.waiting.head; t != nil; t = t.next {
		if t.Policy.Safety != Once {
			return t
		}
	}
	return g.waiting.head
}

// watch looks for sends under way that have been silent for too long: one of
// them at a time is copied, and overdue ones are given up.
func (g *Gate) watch(now time.Time, d *Decisions) {
	if c := g.copying; c != nil && c.state == sending {
		if at := c.heardAt.Add(copySilence); now.Before(at) {
			d.Next = sooner(d.Next, at)
		} else {
			c.Of.more().again = true
			g.copying = nil
		}
	}
	for t := g.flying.head; t != nil; t = t.next {
		if at := t.overdueAt(); !at.IsZero() && !now.Before(at) {
			t.overdue = true
			d.Overdue = append(d.Overdue, t)
		}
		if at := t.copyAt(); g.copying == nil && !at.IsZero() && !now.Before(at) {
			g.copying = g.makeCopy(t)
		}
		d.Next = sooner(d.Next, t.overdueAt())
		if g.copying == nil {
			d.Next = sooner(d.Next, t.copyAt())
		}
	}
}

// makeCopy queues a second send beside t.
func (g *Gate) makeCopy(t *Ticket) *Ticket {
	c := &Ticket{Op: t.Op, Policy: t.Policy, Of: t, joined: t.joined, call: t.call}
	t.copied++
	t.more().again = false
	t.more().copies = append(t.more().copies, c)
	g.enqueue(c)
	return c
}

// land takes t out of the watched sends, together with its copies that still
// wait: its own call decides what comes next.
func (g *Gate) land(t *Ticket) {
	if t.state == sending {
		t.state = idle
	}
	g.flying.remove(t)
	if t.slow == nil {
		return
	}
	for _, c := range t.slow.copies {
		if c.state == queued {
			g.dequeue(c)
			g.forget(c)
		}
	}
	t.slow.copies = nil
}

func (g *Gate) forget(c *Ticket) {
	if g.copying == c {
		g.copying = nil
	}
}

// HeardAt notes a sign of life of a send that has not ended yet.
func (g *Gate) HeardAt(now time.Time, t *Ticket) { t.heardAt = now }

// AnsweredAt reports a response of the application itself to the latest send of
// t, whatever its status. It reports whether that ended an outage, or told that a
// silent connection is dead. Answers to requests older than the latest failure prove nothing: a
// server that shuts down answers the old ones and refuses the new.
func (g *Gate) AnsweredAt(now time.Time, t *Ticket) (reopened bool) {
	g.land(t)
	if t.sentAt.Before(g.lastFailed) {
		g.forget(t)
		return false
	}
	if t.Of != nil && t == g.copying {
		g.copyAnswered(now, t)
	}
	// A copy that is answered while the first attempt is silent tells that
	// pooled connections are dead.
	reopened = !g.down.IsZero() || t.Of != nil
	g.hinted = false
	g.sent, g.k, g.proof, g.down, g.notBefore, g.cause = 0, 0, now, time.Time{}, time.Time{}, nil
	return reopened
}

// copyAnswered lets the sends that are like the copied one, and have been silent
// for longer than its answer took, go again once: their connections are dead.
func (g *Gate) copyAnswered(now time.Time, c *Ticket) {
	g.copying = nil
	limit := silence + 2*now.Sub(c.sentAt)
	for t := g.flying.head; t != nil; t = t.next {
		if t.mayCopy() && t.copied == 0 && t.Op == c.Op && now.Sub(t.heardAt) > limit {
			g.makeCopy(t)
		}
	}
}

// FailedAt reports that the latest send of t failed: refused, reset, timed out,
// or answered by a proxy in the application's stead. cause is kept for callers
// that give up without having sent anything. notSent tells that no byte was
// written; timeout that the send failed because nothing was heard. The call of t
// is to give up if it returns true.
func (g *Gate) FailedAt(now time.Time, t *Ticket, cause error, notSent, timeout bool) (giveUp bool) {
	g.land(t)
	s := t.sentAt
	g.lastFailed = later(g.lastFailed, s)
	g.cause = cause
	if s.After(g.proof) && g.down.IsZero() {
		g.down = now
		if timeout {
			g.down = s
		}
	}
	if t.Of != nil {
		g.forget(t)
		if notSent && t.Of.state == sending {
			t.Of.copied--
			t.Of.more().again = t.Of.copied > 0
			t.Of.more().noCopy = now.Add(g.delay())
		}
	}
	if !t.isPaced || !g.proof.Before(s) {
		return false
	}
	for w := g.waiting.head; w != nil; {
		next := w.next
		if w.outlasted(g.down, s) {
			g.dequeue(w)
			if w.Of != nil {
				g.forget(w)
			} else {
				w.state = gaveUp
				g.gave = append(g.gave, w)
			}
		}
		w = next
	}
	return t.outlasted(g.down, s)
}

// outlasted reports whether a failed send of s ends the patience of t with an
// outage that began at down.
func (t *Ticket) outlasted(down, s time.Time) bool {
	return !later(t.joined, down).Add(t.Policy.Window()).After(s)
}

// LeaveAt takes t out of the queue, or ends its send without evidence: its
// caller cancelled it.
func (g *Gate) LeaveAt(t *Ticket) {
	if t.state == queued {
		g.dequeue(t)
	}
	g.land(t)
	g.forget(t)
}

// HintAt reports that the destination asked everyone to stay away for d. No send
// but those under way is made before, and the patience of the waiting counts
// from then. At most five seconds are believed.
func (g *Gate) HintAt(now time.Time, d time.Duration) {
	d = min(d, maxHint)
	d += time.Duration(float64(d) * g.Backoff.withDefaults().Jitter * g.random())
	g.sent = max(g.sent, g.unproven())
	g.raise(now.Add(d))
	if !g.hinted { // or a server that always asks for more time would hold its callers for ever
		g.hinted = true
		g.down = later(g.down, g.notBefore)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// sooner returns the earlier of two times, of which zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
