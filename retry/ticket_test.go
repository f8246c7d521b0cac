package retry

import "testing"

// TestAnswerOfARenewedCopy lets the reads that are like it, and have been silent for
// longer than it took, go again; those of another kind take their turns.
func TestAnswerOfARenewedCopy(t *testing.T) {
	r := newRules(t, 20)
	a, b, recent := read("x"), read("x"), read("x")
	others := []*Ticket{read("y"), read("y")}
	r.goes(0, a, b, others[0], others[1])
	_, copies := r.copies(1000)
	r.FailedAt(ms(2500), copies[0], errModel, true, true)
	_, copies = r.copies(2750)
	if len(copies) != 1 || copies[0].Of != a {
		t.Fatalf("%d copies, want the renewed one", len(copies))
	}
	r.goes(2700, recent)
	r.AnsweredAt(ms(2760), copies[0])
	of, _ := r.copies(2760)
	likes, unlike := 0, 0
	for _, o := range of {
		switch o.Op {
		case "x":
			likes++
		default:
			unlike++
		}
		if o == recent {
			t.Error("a recent one was copied")
		}
	}
	if likes != 1 || unlike != 1 {
		t.Errorf("%d like it and %d others went again, want 1 and 1", likes, unlike)
	}
}

// TestLivingReadIsNotCopiedAgain: its copy is silent, but it is not.
func TestLivingReadIsNotCopiedAgain(t *testing.T) {
	r := newRules(t, 10)
	a := read("x")
	r.goes(0, a)
	r.copies(1000)
	r.HeardAt(ms(2900), a)
	if of, _ := r.copies(3000); of != nil {
		t.Error("copied 100 ms after a sign of life")
	}
}
