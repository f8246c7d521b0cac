package retry

import (
	"slices"
	"testing"
	"time"
)

// rules drives the state machine by hand, without jitter unless u is set: the
// delays are 250, 375, 562.5 and 843.75 ms.
type rules struct {
	*testing.T
	Gate

	u float64
}

func newRules(t *testing.T, unproven int) *rules {
	r := &rules{T: t}
	r.Unproven = unproven
	r.Rand = func() float64 { return r.u }
	return r
}

// ms is a time of the test.
func ms(n float64) time.Time { return epoch.Add(time.Duration(n * float64(time.Millisecond))) }

func read(op string) *Ticket {
	return &Ticket{Op: op, Policy: &Policy{Copies: true, Silence: responseLimit}}
}

func plain() *Ticket { return &Ticket{Policy: new(Policy)} }

// ask reports whether t went at once.
func (r *rules) ask(at float64, t *Ticket) bool {
	return r.AskAt(ms(at), t) || slices.Contains(r.PumpAt(ms(at)).Go, t)
}

// goes asks for tickets that must go at once.
func (r *rules) goes(at float64, ts ...*Ticket) {
	r.Helper()
	for i, t := range ts {
		if !r.ask(at, t) {
			r.Fatalf("ticket %d did not go at %v ms", i, at)
		}
	}
}

// waits asks for tickets that must wait.
func (r *rules) waits(at float64, ts ...*Ticket) {
	r.Helper()
	for i, t := range ts {
		if r.ask(at, t) {
			r.Fatalf("ticket %d went at %v ms", i, at)
		}
	}
}

// pumped wants these to go, and no others, and the next look at next.
func (r *rules) pumped(at, next float64, want ...*Ticket) {
	r.Helper()
	d := r.PumpAt(ms(at))
	if !slices.Equal(d.Go, want) {
		r.Fatalf("at %v ms %d went, want %d", at, len(d.Go), len(want))
	}
	if next > 0 && !d.Next.Equal(ms(next)) {
		r.Errorf("at %v ms: next look at %v, want %v ms", at, d.Next.Sub(epoch), next)
	}
}

// copies are those that are to be made at a time, by what they are copies of.
func (r *rules) copies(at float64) (of []*Ticket, copies []*Ticket) {
	for _, t := range r.PumpAt(ms(at)).Go {
		of, copies = append(of, t.Of), append(copies, t)
	}
	return of, copies
}

func (r *rules) fails(at float64, t *Ticket) (giveUp bool) {
	return r.FailedAt(ms(at), t, errModel, false, false)
}

// TestPacedSendsAreTwoASecond: also if a proof comes in between, which allows
// three sends and not five.
func TestPacedSendsAreTwoASecond(t *testing.T) {
	r := newRules(t, 0)
	a, b, c := plain(), plain(), plain()
	r.goes(0, plain(), plain(), plain())
	r.waits(0, a, b)
	r.pumped(250, 625, a)
	r.pumped(625, 0, b)
	r.AnsweredAt(ms(630), b)
	r.goes(630, plain(), plain(), plain())
	r.waits(630, c)
	r.pumped(900, 1250)
	r.pumped(1250, 0, c)
}

// TestProofStartsTheScheduleAnew: the delays begin at 250 ms again.
func TestProofStartsTheScheduleAnew(t *testing.T) {
	r := newRules(t, 1)
	a, b := plain(), plain()
	r.goes(0, plain())
	r.waits(0, a, b)
	r.pumped(250, 625, a)
	r.LeaveAt(b)
	r.AnsweredAt(ms(2000), a)
	r.goes(2000, plain())
	r.waits(2000, b)
	r.pumped(2000, 2250)
}

// TestOldAnswersProveNothing: an answer to a request older than the latest failed
// one is none; an answer to a younger one is, though the failure came later.
func TestOldAnswersProveNothing(t *testing.T) {
	r := newRules(t, 0)
	a, b, c, d := plain(), plain(), plain(), plain()
	r.goes(0, a)
	r.goes(100, b)
	r.goes(150, c)
	r.fails(200, b)
	r.AnsweredAt(ms(210), a)
	r.waits(210, d)
	r.AnsweredAt(ms(220), c)
	r.pumped(220, 0, d)
}

// TestOldFailuresEndNoPatience: the failure of a paced send that is older than the
// last proof concerns nobody, and begins no outage.
func TestOldFailuresEndNoPatience(t *testing.T) {
	r := newRules(t, 1)
	a, b, p := plain(), plain(), plain()
	r.goes(0, p)
	r.fails(10, p)
	r.goes(3000, p)
	r.waits(3050, a)
	r.pumped(3400, 0, a)
	r.AnsweredAt(ms(3410), a)
	if r.fails(3420, p) {
		t.Error("gave up although the destination is up")
	}
	r.goes(3430, b)
	if r.AnsweredAt(ms(3440), b) {
		t.Error("an old failure began an outage")
	}
}

// TestOnlyPacedSendsEndPatience: while few sends are unproven, a failure ends its
// own attempt alone.
func TestOnlyPacedSendsEndPatience(t *testing.T) {
	r := newRules(t, 0)
	a := plain()
	r.goes(0, a)
	r.fails(10, a)
	r.goes(4000, a)
	if r.fails(4010, a) {
		t.Error("gave up after two attempts")
	}
}

// TestPatienceCounts from the first ask or from the beginning of the outage,
// whichever is later.
func TestPatienceCounts(t *testing.T) {
	r := newRules(t, 1)
	probe, old, late := plain(), plain(), plain()
	old.Policy.Safety, late.Policy.Safety = Once, Once // others go before
	r.goes(0, plain())
	r.waits(0, old)
	r.waits(0, probe)
	r.pumped(250, 0, probe)
	r.fails(2500, probe) // this begins the outage
	if old.GaveUp() {
		t.Error("gave up as the outage began")
	}
	r.goes(2999, plain())
	r.waits(3000, late)
	r.goes(4600, probe)
	r.fails(4610, probe)
	if !old.GaveUp() || late.GaveUp() {
		t.Errorf("2.1 s into the outage: gave up %v, want true; the one that came late %v, want false", old.GaveUp(), late.GaveUp())
	}
}

// TestUrgentKeepTheirOrder: urgent calls go before others, in the order of their
// asks.
func TestUrgentKeepTheirOrder(t *testing.T) {
	r := newRules(t, 1)
	a, b, c := plain(), plain(), plain()
	b.Policy.Urgent, c.Policy.Urgent = true, true
	first := plain()
	r.goes(0, first)
	r.waits(0, a, b, c)
	r.pumped(250, 0, b)
	r.pumped(625, 0, c)
}

// TestSafeGoesBeforeOnce as a paced send, which is the one that may be lost.
func TestSafeGoesBeforeOnce(t *testing.T) {
	r := newRules(t, 1)
	once, safe := plain(), plain()
	once.Policy.Safety = Once
	r.goes(0, plain())
	r.waits(0, once, safe)
	r.pumped(250, 0, safe)
	r.pumped(625, 0, once)
}

// TestPatientPaceIsForPatientOnly: one that is not patient waits no longer for
// those that are.
func TestPatientPaceIsForPatientOnly(t *testing.T) {
	r := newRules(t, 1)
	patient, eager := plain(), plain()
	patient.Policy.Wait = time.Minute
	r.goes(0, plain())
	r.waits(0, patient)
	r.pumped(0, 2000)
	r.waits(0, eager)
	r.pumped(0, 250)
	r.pumped(250, 625, patient)
	r.pumped(625, 0, eager)
}

// TestHintHoldsEverybodyBack: jitter on top, never less than an earlier one, and
// patience counts from then.
func TestHintHoldsEverybodyBack(t *testing.T) {
	r := newRules(t, 0)
	r.u = 0.5
	a, before := plain(), plain()
	r.goes(0, before)
	r.fails(1, before)
	r.HintAt(ms(10), 4*time.Second)
	r.waits(10, a)
	r.HintAt(ms(20), time.Second)
	r.pumped(20, 5010)
	r.pumped(5010, 0, a)
	if r.fails(5011, a) {
		t.Error("patience did not count from the hint")
	}
}

// TestOneCopyAtATime: the oldest silent read is copied; the end of the copy, in
// whatever way, is the next one's turn.
func TestOneCopyAtATime(t *testing.T) {
	for name, end := range map[string]func(*rules, *Ticket){
		"left":     func(r *rules, c *Ticket) { r.LeaveAt(c) },
		"failed":   func(r *rules, c *Ticket) { r.fails(1200, c) },
		"answered": func(r *rules, c *Ticket) { r.AnsweredAt(ms(1200), c) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRules(t, 10)
			a, b, once := read("x"), read("x"), read("x")
			once.Policy.Safety = Once
			r.goes(0, once)
			r.goes(100, a, b)
			r.HeardAt(ms(150), a)
			if of, _ := r.copies(1099); of != nil {
				t.Fatalf("%d copies before a second of silence", len(of))
			}
			of, copies := r.copies(1150)
			if !slices.Equal(of, []*Ticket{a}) && !slices.Equal(of, []*Ticket{b}) {
				t.Fatalf("%d copies, want one, of a read", len(of))
			}
			end(r, copies[0])
			if again, _ := r.copies(1200); len(again) != 1 || again[0] == of[0] || again[0] == once {
				t.Errorf("%d copies after the first ended, want one of the other read", len(again))
			}
		})
	}
}

// TestCopyIsRenewedIfNotSent, after a delay; one that was sent is not.
func TestCopyIsRenewedIfNotSent(t *testing.T) {
	for _, notSent := range []bool{true, false} {
		r := newRules(t, 10)
		a := read("x")
		r.goes(0, a)
		_, copies := r.copies(1000)
		if len(copies) != 1 {
			t.Fatalf("%d copies", len(copies))
		}
		r.FailedAt(ms(2500), copies[0], errModel, notSent, true)
		if of, _ := r.copies(2740); of != nil {
			t.Errorf("not sent %v: renewed at once", notSent)
		}
		if of, _ := r.copies(2750); (of != nil) != notSent {
			t.Errorf("not sent %v: renewed %v", notSent, of != nil)
		}
	}
}

// TestAnswerOfACopy lets the reads that are like it, and have been silent for
// longer than it took, go again; those of another kind take their turns.
func TestAnswerOfACopy(t *testing.T) {
	r := newRules(t, 20)
	other, a, b, recent, y := read("y"), read("x"), read("x"), read("x"), read("y")
	r.goes(0, other)
	_, first := r.copies(1000) // it keeps the others waiting
	r.goes(1000, a, b, y, read("y"))
	r.goes(2400, recent)
	r.LeaveAt(other)
	r.LeaveAt(first[0])
	_, copies := r.copies(2500)
	if len(copies) != 1 || copies[0].Of != a {
		t.Fatalf("%d copies, want one of the oldest", len(copies))
	}
	r.AnsweredAt(ms(2510), copies[0])
	if of, _ := r.copies(2510); !slices.Equal(of, []*Ticket{b, y}) {
		t.Errorf("%d went again, want the one like it, and another one in its turn", len(of))
	}
}

// TestCopyGivesUpItsPlace: a copy that waits while patience ends makes room for
// the next one.
func TestCopyGivesUpItsPlace(t *testing.T) {
	r := newRules(t, 1)
	a := read("x")
	r.goes(0, a)
	w := []*Ticket{plain(), plain(), plain(), plain(), plain(), plain()}
	r.waits(10, w...)
	r.pumped(250, 0, w[0])
	r.fails(251, w[0]) // the outage begins
	r.pumped(625, 0, w[1])
	r.pumped(1000, 1250)
	if r.copying == nil {
		t.Fatal("no copy waits")
	}
	r.pumped(1250, 0, w[2])
	r.pumped(2094, 0, w[3])
	r.pumped(2938, 0, w[4])
	r.fails(2939, w[4])
	if r.copying != nil {
		t.Error("a copy that is no more keeps the place of the next one")
	}
}

// TestSignsOfLife put off that a send is given up.
func TestSignsOfLife(t *testing.T) {
	r := newRules(t, 0)
	a := &Ticket{Policy: &Policy{Silence: responseLimit}}
	r.goes(0, a)
	r.HeardAt(ms(9000), a)
	if d := r.PumpAt(ms(18999)); d.Overdue != nil || !d.Next.Equal(ms(19000)) {
		t.Errorf("overdue %v, next look %v", d.Overdue, d.Next.Sub(epoch))
	}
	if d := r.PumpAt(ms(19000)); len(d.Overdue) != 1 {
		t.Error("not overdue after ten seconds")
	}
}
