package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/journal"
)

// TestClearTakesNoRisk: a task begins, or goes, in the moment in which it is to be deleted.
func TestClearTakesNoRisk(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		when    sim.Match
		nth     int
		do      string // to the task, when that request arrives
		status  status
		say     string
		deleted bool
	}{
		{"it begins before it is looked at", sim.Request(http.MethodGet, "/tasks/*"), 2, "start", statusError, "left alone: it has begun", false},
		{"it begins as it is deleted", sim.Request(http.MethodDelete, "/tasks/*"), 1, "start", statusUnknown, "the worker began it at that moment", true},
		{"it goes before it is looked at", sim.Request(http.MethodGet, "/tasks/*"), 2, "delete", statusDone, "was deleted by somebody else", true},
		{"it goes as it is deleted", sim.Request(http.MethodDelete, "/tasks/*"), 1, "delete", statusDone, "was deleted by somebody else", true},
		{"nothing happens", sim.Request(http.MethodDelete, "/tasks/*"), 9, "start", statusDone, "deleted", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, url, c := simulated(t)
			id, err := c.SubmitTask(t.Context(), blueapi.TaskRequest{
				Name: "nap", Params: json.RawMessage(`{"seconds":60}`), InstrumentSession: "cm1-1",
			})
			if err != nil {
				t.Fatal(err)
			}
			rival := &past{task: id}
			s.Inject(sim.When(tt.when, sim.Nth(tt.nth, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				s.Heal() // it is the rival who asks now
				if tt.do == "start" {
					rival.start(t, url)
				} else if err := c.DeleteTask(t.Context(), id); err != nil {
					t.Error(err)
				}
				return next()
			})))
			stdout, stderr, got := runHere(t.Context(), url, "clear", "--task", id)
			if got != tt.status || !strings.Contains(stdout, tt.say) {
				t.Errorf("exit status %d, stdout %q, stderr %q", got, stdout, stderr)
			}
			_, err = c.Task(t.Context(), id)
			if gone := err != nil; gone != tt.deleted {
				t.Errorf("deleted: %v", err)
			}
		})
	}
}

// TestClearLeavesOthersAlone: only what the journal knows is deleted unasked, and not
// while the program lives that is to start it.
func TestClearLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	s, url, c := simulated(t)
	lives, left, died := pastRunAt(t, url), pastRunAt(t, url), pastRunAt(t, url)
	other := &past{}
	for _, p := range []*past{lives, left, died, other} {
		p.store(t, c)
	}
	for _, p := range []*past{lives, left, died} {
		p.step(t, journal.Starting)
	}
	left.step(t, journal.NotSent)
	left.ended(t, journal.End{Word: journal.NotStarted, Reason: reasonText(blueapi.Unreachable)})
	left.leave(t)
	died.leave(t)
	stdout, stderr, got := runHere(t.Context(), url, "clear")
	want := []string{
		lives.task + " nap: left alone: the program that is to start it lives\n", left.task + " nap: deleted\n", died.task + " nap: deleted\n",
	}
	if got != statusDone || stdout != strings.Join(want, "") {
		t.Errorf("exit status %d, stdout %q, stderr %q", got, stdout, stderr)
	}
	tasks, err := c.Tasks(t.Context(), "")
	if err != nil || len(tasks) != 2 || tasks[0].ID != lives.task || tasks[1].ID != other.task {
		t.Errorf("left: %+v, %v", tasks, err)
	}
	if end := died.run(t).End(); end == nil || end.Word != journal.NotStarted {
		t.Errorf("recorded: %+v", end)
	}
	if n := len(left.run(t).Entries); n != 3 {
		t.Errorf("a run that had ended has %d entries", n)
	}

	// All that is pending is: what has no living program.
	stdout, stderr, got = runHere(t.Context(), url, "clear", "--all-pending", "--yes")
	if got != statusDone || !strings.Contains(stdout, other.task+" nap: deleted\n") || !strings.Contains(stdout, want[0]) {
		t.Errorf("exit status %d, stdout %q, stderr %q", got, stdout, stderr)
	}
	if len(s.Runs()) > 0 {
		t.Errorf("runs: %+v", s.Runs())
	}
}
