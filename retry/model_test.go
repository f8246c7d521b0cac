package retry

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model drives the gate's state machine in a world of its own: callers, a
// server, and an outage. Nothing in it is a copy of the engine but the loop of a
// call, which Call runs for real callers.
type model struct {
	gate    Gate
	rng     *rand.Rand
	now     time.Duration
	events  eventHeap
	seq     int
	next    time.Time // of the gate
	calls   map[*Ticket]*modelCall
	arrived []time.Duration // requests and connection attempts at the server
	answers []time.Duration // answers that reached the callers
	failed  int
	done    []time.Duration // ends of the calls
	slowest time.Duration

	// The world.
	kind    faultKind
	from    time.Duration
	to      time.Duration
	rtt     time.Duration
	service time.Duration
	refused time.Duration // when the server last lost what was in flight
}

type faultKind int

const (
	refuse faultKind = iota
	reset
	blackHole // packets are lost; connections live on
	deadHole  // and connections that existed are dead
	stall     // accepted, answered when it is over
	swallow   // accepted, never answered
	proxy503
	numFaultKinds
)

func (k faultKind) String() string {
	return [...]string{"refused", "reset", "black hole", "black hole that kills", "stalled", "swallowed", "503"}[k]
}

const (
	connectTimeout = 1500 * time.Millisecond
	responseLimit  = 10 * time.Second
	forever        = time.Duration(1) << 60
)

type modelCall struct {
	ticket   *Ticket
	start    time.Duration
	failures int
	sends    int
	over     bool
	flight   int // identifies the send under way
	copies   map[*Ticket]bool
	safety   Safety
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}
type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].at, h[j].at), cmp.Compare(h[i].seq, h[j].seq)) < 0
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newModel(seed uint64) *model {
	m := &model{
		rng: rand.New(rand.NewPCG(seed, 1)), calls: map[*Ticket]*modelCall{},
		rtt: 2 * time.Millisecond, service: 5 * time.Millisecond, from: forever, to: forever, refused: -1,
	}
	m.gate.Rand = m.rng.Float64
	return m
}

func (m *model) at(d time.Duration, do func()) {
	m.seq++
	heap.Push(&m.events, event{max(d, m.now), m.seq, do})
}

func (m *model) clock() time.Time { return epoch.Add(m.now) }

// run plays until nothing happens any more.
func (m *model) run() {
	for {
		gate := forever
		if !m.next.IsZero() {
			gate = m.next.Sub(epoch)
		}
		if len(m.events) == 0 && gate == forever {
			return
		}
		if len(m.events) == 0 || gate < m.events[0].at {
			m.now = max(gate, m.now)
			m.pump()
			continue
		}
		e := heap.Pop(&m.events).(event)
		m.now = e.at
		e.do()
	}
}

func (m *model) pump() {
	d := m.gate.PumpAt(m.clock())
	m.next = d.Next
	for _, t := range d.Overdue {
		m.failedAt(t, false, true)
	}
	for _, t := range d.GiveUp {
		m.end(m.calls[t], true)
	}
	for _, t := range d.Go {
		m.send(t)
	}
}

func (m *model) call(start time.Duration, safety Safety) {
	t := &Ticket{Op: "op", Policy: &Policy{Safety: safety, Copies: true, Silence: responseLimit}}
	c := &modelCall{ticket: t, start: start, copies: map[*Ticket]bool{}, safety: safety}
	m.calls[t] = c
	m.at(start, func() { m.ask(c) })
}

func (m *model) ask(c *modelCall) {
	if c.over {
		return
	}
	if m.gate.AskAt(m.clock(), c.ticket) {
		m.send(c.ticket)
	}
	m.pump()
}

func (m *model) callOf(t *Ticket) *modelCall {
	if t.Of != nil {
		t = t.Of
	}
	return m.calls[t]
}

// send plays what becomes of a request that the gate let go now.
func (m *model) send(t *Ticket) {
	c := m.callOf(t)
	if c.over || (t.Of != nil && c.sends >= DefaultAttempts) {
		m.gate.LeaveAt(t)
		return
	}
	c.sends++
	flight := 0
	if t.Of == nil {
		c.flight++
		flight = c.flight
	} else {
		c.copies[t] = true
	}
	m.arrived = append(m.arrived, m.now)
	sent := t.sentAt
	m.reply(t, func(do func()) {
		if c.over || (t.Of == nil && c.flight != flight) || t.sentAt != sent || t.state != sending {
			return
		}
		do()
	}, m.now)
}

// reply decides when and how a send of now ends.
func (m *model) reply(t *Ticket, current func(func()), now time.Duration) {
	ok := func(at time.Duration) { m.at(at, func() { current(func() { m.answered(t) }) }) }
	fail := func(at time.Duration, notSent, timeout bool) {
		m.at(at, func() { current(func() { m.failedAt(t, notSent, timeout) }) })
	}
	end := now + m.rtt + m.service
	out := now >= m.from && now < m.to
	switch {
	case !out && (end < m.from || now >= m.to):
		ok(end)
	case !out: // under way when the outage begins
		switch m.kind {
		case refuse, reset, proxy503:
			fail(m.from, false, false)
		case blackHole, stall:
			if m.to < forever {
				ok(m.to + m.rtt + m.service)
			}
		case deadHole, swallow: // silent until someone gives it up
		}
	default:
		switch m.kind {
		case refuse:
			fail(now+m.rtt, true, false)
		case reset, proxy503:
			fail(now+m.rtt, false, false)
		case blackHole, deadHole: // the kernel resends its SYN after 1 s
			if again := now + time.Second; again >= m.to {
				ok(again + m.rtt + m.service)
			} else {
				fail(now+connectTimeout, true, true)
			}
		case stall:
			if m.to < forever {
				ok(m.to + m.rtt + m.service)
			}
		case swallow:
		}
	}
}

func (m *model) answered(t *Ticket) {
	m.answers = append(m.answers, m.now)
	m.gate.AnsweredAt(m.clock(), t)
	m.end(m.callOf(t), false)
	m.pump()
}

var errModel = errors.New("down")

func (m *model) failedAt(t *Ticket, notSent, timeout bool) {
	c := m.callOf(t)
	giveUp := m.gate.FailedAt(m.clock(), t, errModel, notSent, timeout)
	if t.Of != nil {
		delete(c.copies, t)
		m.pump()
		return
	}
	switch {
	case giveUp, c.sends >= DefaultAttempts, c.safety == Once && !notSent:
		m.end(c, true)
	default:
		d := Backoff{}.Delay(c.failures, m.rng.Float64())
		c.failures++
		m.at(m.now+d, func() { m.ask(c) })
	}
	m.pump()
}

func (m *model) end(c *modelCall, failed bool) {
	if c.over {
		return
	}
	c.over = true
	m.gate.LeaveAt(c.ticket)
	for t := range c.copies {
		m.gate.LeaveAt(t)
	}
	if failed {
		m.failed++
	}
	m.done = append(m.done, m.now)
	m.slowest = max(m.slowest, m.now-c.start)
	delete(m.calls, c.ticket)
}

// breaches counts the seconds in which the server got more than promise 2
// allows: five, and three for each answer that the process got in that second or
// one round trip before.
func (m *model) breaches(from, to time.Duration) (n, most int) {
	slices.Sort(m.arrived)
	slices.Sort(m.answers)
	for i, start := range m.arrived {
		if start < from || start >= to {
			continue
		}
		j, _ := slices.BinarySearch(m.arrived, start+time.Second)
		a, _ := slices.BinarySearch(m.answers, start-m.rtt)
		b, _ := slices.BinarySearch(m.answers, start+time.Second)
		if j-i > 5+3*(b-a) {
			n++
		}
		if a == b {
			most = max(most, j-i)
		}
	}
	return n, most
}

// TestPromise1Model sweeps the start of an outage of one second over the life of
// a call and beyond, in steps of a millisecond, for every kind of fault, with
// one caller and with a crowd. No call fails.
func TestPromise1Model(t *testing.T) {
	for kind := range numFaultKinds {
		if kind == swallow {
			continue // not an outage that ends: see TestGivesUpModel
		}
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			cases, slowest := 0, time.Duration(0)
			for callers := 1; callers <= 30; callers *= 5 {
				step := time.Duration(callers) * time.Millisecond
				for start := -1100 * time.Millisecond; start <= 20*time.Millisecond; start += step {
					for _, length := range []time.Duration{50, 300, 700, 1000} {
						m := newModel(uint64(start) ^ uint64(length))
						m.kind, m.from, m.to = kind, start, start+length*time.Millisecond
						m.now = -2 * time.Second
						for i := range callers {
							m.call(time.Duration(i)*time.Millisecond, Safe)
						}
						m.run()
						cases++
						slowest = max(slowest, m.slowest)
						if m.failed > 0 {
							t.Fatalf("outage of %v ms from %v, %d callers: %d failed", int(length), start, callers, m.failed)
						}
					}
				}
			}
			t.Logf("%d cases, slowest call %v", cases, slowest)
		})
	}
}

// TestPromise2Model counts what reaches the server in any second of an outage.
func TestPromise2Model(t *testing.T) {
	for kind := range numFaultKinds {
		for _, callers := range []int{1, 20, 1000, 10000} {
			for _, length := range []time.Duration{time.Second, 10 * time.Second, forever} {
				if kind == swallow && length != forever || testing.Short() && callers > 1000 {
					continue
				}
				t.Run(fmt.Sprintf("%v/%d/%v", kind, callers, length), func(t *testing.T) {
					t.Parallel()
					m := newModel(uint64(callers))
					m.kind, m.from, m.to = kind, 500*time.Millisecond, forever
					if length != forever {
						m.to = m.from + length
					}
					for i := range callers { // arriving over two seconds
						safety := Safe
						if i%7 == 3 {
							safety = Once
						}
						m.call(time.Duration(i)*2*time.Second/time.Duration(callers), safety)
					}
					m.run()
					if len(m.done) != callers {
						t.Errorf("%d of %d calls ended", len(m.done), callers)
					}
					if n, most := m.breaches(m.from, m.to); n > 0 {
						t.Errorf("%d breaches; at most %d in a second without an answer", n, most)
					}
				})
			}
		}
	}
}

// TestGivesUpModel bounds the end of calls in an outage that does not end.
func TestGivesUpModel(t *testing.T) {
	limits := map[faultKind]time.Duration{ // of design and simulation, for calls of a crowd
		refuse: 3700, reset: 3700, proxy503: 3700, blackHole: 6500, deadHole: 6500, stall: 32000, swallow: 32000,
	}
	for kind := range numFaultKinds {
		for _, callers := range []int{1, 100} {
			var slowest time.Duration
			for seed := range uint64(50) {
				m := newModel(seed)
				m.kind, m.from = kind, 0
				for i := range callers {
					m.call(time.Duration(i)*time.Millisecond, Safe)
				}
				m.run()
				if m.failed != callers {
					t.Fatalf("%v: %d of %d calls failed", kind, m.failed, callers)
				}
				slowest = max(slowest, m.slowest)
			}
			t.Logf("%v, %d callers: gave up within %v", kind, callers, slowest)
			if slowest > limits[kind]*time.Millisecond {
				t.Errorf("%v: gave up after %v", kind, slowest)
			}
		}
	}
}
