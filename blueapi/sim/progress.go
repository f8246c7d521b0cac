package sim

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"
)

// A Motion is a movement that a plan waits for.
type Motion struct {
	Name     string
	From, To float64
	Unit     string // empty means mm
	// Takes is how long it takes. 0 means as long as the demo stage, which
	// accelerates for half a second at most, to 1 a second.
	Takes time.Duration
}

// Move waits for motions and tells of their progress, ten times a second each. A
// pause, an abort or a stop ends them where they are; when the plan is resumed they
// begin again, from there.
func Move(ctx context.Context, motions ...Motion) error {
	e := engineOf(ctx)
	if e == nil {
		return ctx.Err()
	}
	ms := make([]*motion, len(motions))
	for i, m := range motions {
		unit := m.Unit
		if unit == "" {
			unit = "mm"
		}
		ms[i] = &motion{name: m.Name, unit: unit, target: m.To, takes: m.Takes, motor: &motor{position: m.From}}
	}
	return e.do(ctx, func(ctx context.Context) error { return e.move(ctx, ms) })
}

// The demo stage.
const (
	motorAcceleration = 500 * time.Millisecond
	motorVelocity     = 1.0                    // a second
	motorPeriod       = 100 * time.Millisecond // of its updates
)

// A motor has a position, which the worker guards.
type motor struct {
	name     string
	position float64
	at       time.Time // when it got there
}

// A motion is something on its way, or a detector that takes a frame.
type motion struct {
	name, unit string
	target     float64
	takes      time.Duration
	motor      *motor
	jump       bool // in one step, at the end
	counts     bool // and has no decimals

	id      string
	view    view
	initial float64
	ramp    float64 // seconds
	top     float64 // velocity between the ramps
	total   float64 // seconds
	at      float64 // of its next update, in seconds
	due     time.Duration
	updates int
	over    bool
}

// A view is how a motion stands, in the worker's words.
type view struct {
	name      string
	known     bool // position and target
	current   float64
	initial   float64
	target    float64
	unit      string
	precision value
	done      bool
	elapsed   float64
}

func (v view) value() value {
	number := func(f float64) value {
		if !v.known {
			return value{}
		}
		return decimal(f)
	}
	percentage := value{}
	if v.done {
		percentage = decimal(1)
	}
	return dict(member{"display_name", str(v.name)}, member{"current", number(v.current)}, member{"initial", number(v.initial)},
		member{"target", number(v.target)}, member{"unit", str(v.unit)}, member{"precision", v.precision},
		member{"done", boolOf(v.done)}, member{"percentage", percentage},
		member{"time_elapsed", number(v.elapsed)}, member{"time_remaining", value{}})
}

// progress is an event's body: all that the plan waits for.
type progress struct {
	task     string
	statuses value
}

func (p *progress) wire() []byte {
	return dict(member{"task_id", str(p.task)}, member{"statuses", p.statuses}).raw()
}

func (p *progress) python() string {
	return "task_id=" + pythonRepr(p.task) + " statuses=" + p.statuses.python()
}

// plan works out when a motion is where, with the formulas of ophyd-async's demo
// motor.
func (m *motion) plan() {
	way := m.target - m.initial
	ramp := motorAcceleration.Seconds()
	top := math.Copysign(motorVelocity, way)
	total := ramp + math.Abs(way)/motorVelocity
	if math.Abs(way) <= motorVelocity*ramp {
		top = math.Copysign(math.Sqrt(way*top/ramp), way)
		ramp = 0
		if way != 0 {
			ramp = way / top
		}
		total = 2 * ramp
	}
	if m.takes > 0 && total > 0 {
		slower := m.takes.Seconds() / total
		ramp, top = ramp*slower, top/slower
	}
	if m.takes > 0 {
		total = m.takes.Seconds()
	}
	m.ramp, m.top, m.total = ramp, top, total
	m.at, m.due, m.updates = 0, 0, 0
	m.next()
}

// next goes on to its next update, or to its end.
func (m *motion) next() {
	if m.over = m.at >= m.total; m.over {
		return
	}
	period := motorPeriod.Seconds()
	m.at = period + float64(m.updates)*period
	if m.jump || m.at >= m.total-1e-9 {
		m.at = m.total
	}
	m.updates++
	m.due = time.Duration(m.at * float64(time.Second))
}

// position is where it is at its next update.
func (m *motion) position() float64 {
	switch left := m.total - m.at; {
	case left <= 0:
		return m.target
	case m.at <= m.ramp:
		return m.initial + m.at/m.ramp*m.top*m.at/2
	case left <= m.ramp:
		return m.target - left/m.ramp*m.top*left/2
	}
	return m.initial + m.ramp*m.top/2 + (m.at-m.ramp)*m.top
}

// move waits for motions that begin together.
func (e *engine) move(ctx context.Context, motions []*motion) error {
	began := time.Now()
	for _, m := range motions {
		e.w.mu.Lock()
		m.initial = m.motor.position
		e.w.mu.Unlock()
		m.id = newID()
		m.plan()
		m.view = view{name: "Unknown", unit: "units"}
	}
	waiting := slices.Clone(motions)
	for _, m := range motions {
		m.view = view{name: m.name, known: true, current: m.initial, initial: m.initial, target: m.target, unit: m.unit}
		if m.counts {
			m.view.precision = whole(0)
		}
		m.view.elapsed = time.Since(began).Seconds()
		if err := e.tell(waiting); err != nil {
			return err
		}
	}
	for len(waiting) > 0 {
		m := slices.MinFunc(waiting, (*motion).compare)
		if m.over {
			if err := e.halt(&waiting, m); err != nil {
				return err
			}
			continue
		}
		if err := e.wait(ctx, time.Until(began.Add(m.due))); err != nil {
			for len(waiting) > 0 {
				_ = e.halt(&waiting, waiting[0]) // the plan has worse to say
			}
			return err
		}
		e.w.mu.Lock()
		m.motor.position, m.motor.at = m.position(), time.Now()
		e.w.mu.Unlock()
		m.view.current, m.view.elapsed = m.motor.position, time.Since(began).Seconds()
		m.next()
		if err := e.tell(waiting); err != nil {
			return err
		}
	}
	return nil
}

// compare says which is to be told of first. The end of one comes after the last
// update of another at the same time.
func (m *motion) compare(o *motion) int {
	if c := cmp.Compare(m.due, o.due); c != 0 {
		return c
	}
	switch {
	case m.over == o.over:
		return 0
	case m.over:
		return 1
	}
	return -1
}

// halt tells of the end of a motion.
func (e *engine) halt(waiting *[]*motion, m *motion) error {
	m.view = view{name: "UNKNOWN", unit: "units", done: true}
	err := e.tell(*waiting)
	*waiting = slices.DeleteFunc(slices.Clone(*waiting), func(o *motion) bool { return o == m })
	return err
}

// tell publishes how motions stand, in the engine's loop.
func (e *engine) tell(motions []*motion) error {
	statuses := dict()
	for _, m := range motions {
		statuses.members = append(statuses.members, member{m.id, m.view.value()})
	}
	return e.inLoop(func() error {
		e.w.mu.Lock()
		ev := event{task: e.task.id, trace: e.w.trace(), body: &progress{task: e.task.id, statuses: statuses}}
		e.w.mu.Unlock()
		return e.w.publish(ev)
	})
}
