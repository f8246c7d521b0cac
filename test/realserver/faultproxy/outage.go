//go:build linux

package faultproxy

import (
	"net"
	"slices"
	"time"
)

// Kind is a way for a service to be away.
type Kind int

// The kinds. Whatever the moment, connections that exist when the outage begins
// are part of it.
const (
	// Refused: nobody listens; existing connections are reset.
	Refused Kind = iota + 1
	// Reset: every connection is accepted and reset, existing ones too.
	Reset
	// BlackHole: new connections get no answer (a full backlog drops the SYN),
	// and what existing ones send is held, both ways, and delivered at the end.
	BlackHole
	// BlackHoleKill is BlackHole, but the connections that existed stay silent
	// for ever, as when a firewall has lost its table. New ones work afterwards.
	BlackHoleKill
	// Dropped is a black hole in the kernel: packets to and from the client are
	// dropped, so that its resends decide what happens at the end. It needs root
	// and nft; see CanDrop.
	Dropped
	// Stalled: connections are accepted, and nothing is done until the end, when
	// all that was sent is processed: a server that is stopped (SIGSTOP).
	Stalled
	// BadGateway: an ingress answers 502 in the server's place.
	BadGateway
	// Unavailable: an ingress answers 503 in the server's place.
	Unavailable
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{Refused, Reset, BlackHole, BlackHoleKill, Dropped, Stalled, BadGateway, Unavailable}
}

// String names the kind as the tables do.
func (k Kind) String() string {
	names := [...]string{"none", "refused", "reset", "black-hole", "black-hole-kill", "dropped", "stalled", "502", "503"}
	if k < 0 || int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// Forever is the duration of an outage that does not end by itself.
const Forever time.Duration = -1

// Outage says what breaks, when and for how long. Its moment is Request if that
// is set, else Delay. With neither the outage begins at once, and its duration
// runs from the first connection attempt (or, where those cannot be seen, from
// now): no client is quick enough to miss it.
type Outage struct {
	Kind Kind
	For  time.Duration // Forever, or how long

	// Request begins it at that request of the client, counted from 1, among
	// those that Method and Path select: before the server sees it, or, if
	// Answered, when the server has answered and the client does not know yet.
	Request  int
	Answered bool
	// Method and Path, the end of a path, select requests; empty selects all.
	Method, Path string

	// Delay begins it that long after Arm.
	Delay time.Duration
}

// outage is an Outage that was armed.
type outage struct {
	Outage
	seen    int      // requests that count so far
	trigger *Request // the one that it waits for, once seen
	waiting bool     // in force, its duration not begun
	begun   time.Time
	ended   time.Time     // zero if in force
	over    chan struct{} // closed at the end
}

// counts reports whether r is the request that o waits for.
func (o *outage) counts(r *Request) bool {
	if o.Request == 0 || o.trigger != nil || !match(r, o.Method, o.Path) {
		return false
	}
	if o.seen++; o.seen < o.Request {
		return false
	}
	o.trigger = r
	return true
}

// Arm sets an outage up. Several can be armed; one whose moment comes while
// another is in force is skipped.
func (p *Proxy) Arm(spec Outage) {
	o := &outage{Outage: spec, over: make(chan struct{})}
	p.mu.Lock()
	p.armed = append(p.armed, o)
	switch {
	case o.Request > 0:
	case o.Delay > 0:
		p.timers = append(p.timers, time.AfterFunc(o.Delay, func() { p.begin(o) }))
	default:
		o.waiting = true
	}
	p.mu.Unlock()
	if o.waiting {
		p.begin(o)
	}
}

// End ends the outage in force, if there is one.
func (p *Proxy) End() {
	p.mu.Lock()
	o := p.inForce
	p.mu.Unlock()
	if o != nil {
		p.end(o)
	}
}

// Span is when an outage was in force. End is zero while it is.
type Span struct {
	Kind       Kind
	Begin, End time.Time
}

// Outages lists those that began, the first one first.
func (p *Proxy) Outages() []Span {
	p.mu.Lock()
	defer p.mu.Unlock()
	spans := make([]Span, len(p.past))
	for i, o := range p.past {
		spans[i] = Span{Kind: o.Kind, Begin: o.begun, End: o.ended}
	}
	return spans
}

// attempted starts the clock of an outage that waits for the first attempt.
func (p *Proxy) attempted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.inForce; o != nil && o.waiting {
		o.waiting = false
		p.schedule(o)
	}
}

// schedule is called with mu held.
func (p *Proxy) schedule(o *outage) {
	if o.For >= 0 {
		p.timers = append(p.timers, time.AfterFunc(o.For, func() { p.end(o) }))
	}
}

func (p *Proxy) begin(o *outage) {
	p.turning.Lock()
	defer p.turning.Unlock()
	p.mu.Lock()
	p.armed = slices.DeleteFunc(p.armed, func(a *outage) bool { return a == o })
	if p.closed || p.inForce != nil {
		p.mu.Unlock()
		return
	}
	o.begun = time.Now()
	p.inForce = o
	p.past = append(p.past, o)
	open := p.openConns()
	if o.Kind == BlackHoleKill {
		for _, c := range open {
			c.dead = true
		}
	}
	if o.waiting && !p.seesAttempts(o.Kind) {
		o.waiting = false
	}
	if !o.waiting {
		p.schedule(o)
	}
	p.mu.Unlock()

	switch o.Kind {
	case Refused:
		p.stopAccepting()
		p.note(p.listener.Close())
		p.listener = nil
	case BlackHole, BlackHoleKill:
		p.stopAccepting()
		p.note(p.fillBacklog())
	case Dropped:
		p.note(dropPackets(p.addr.Port))
	}
	if o.Kind == Refused || o.Kind == Reset {
		for _, c := range open {
			c.reset()
		}
	}
}

// seesAttempts reports whether a connection attempt is noticed when it is made,
// not at the end of the outage or never.
func (p *Proxy) seesAttempts(k Kind) bool {
	return p.tap != nil || k == Reset || k == Stalled || k == BadGateway || k == Unavailable
}

func (p *Proxy) end(o *outage) {
	p.turning.Lock()
	defer p.turning.Unlock()
	p.mu.Lock()
	if p.closed || p.inForce != o {
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.openDoors(o)
	if p.accepting == nil && p.listener != nil {
		p.startAccepting()
	}
}

// openDoors undoes what begin did, with turning held. What is sent from now on
// is sent after the outage.
func (p *Proxy) openDoors(o *outage) {
	p.mu.Lock()
	o.ended = time.Now()
	p.mu.Unlock()
	switch o.Kind {
	case Refused:
		p.listenAgain()
	case BlackHole, BlackHoleKill:
		p.note(p.emptyBacklog(o.Kind == BlackHoleKill))
	case Dropped:
		p.note(deliverPackets(p.addr.Port))
	}
	p.mu.Lock()
	p.inForce = nil
	p.mu.Unlock()
	close(o.over)
}

// listenAgain takes the port back. Only another server that picks its port at
// random can have it, and hardly for long.
func (p *Proxy) listenAgain() {
	var err error
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if p.listener, err = net.ListenTCP("tcp4", p.addr); err == nil {
			return
		}
	}
	p.listener = nil
	p.note(err)
}
