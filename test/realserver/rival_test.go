//go:build linux && realserver

package realserver

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// newTask is the task of the run; "" if it is not there.
func (st *stage) newTask(t *testing.T) string {
	t.Helper()
	for _, task := range st.tasks(t) {
		if !slices.Contains(st.before, task.ID) {
			return task.ID
		}
	}
	return ""
}

// TestPromise5OtherClient has another client meddle with a run.
func TestPromise5OtherClient(t *testing.T) {
	s := theServer(t)
	broker := hostport(s.STOMP)
	atPUT, inPlan := instants()[1], instants()[2]
	deletes := func(t *testing.T, st *stage) {
		if status, answer := s.ask(t, http.MethodDelete, "/tasks/"+st.newTask(t), ""); status != http.StatusOK {
			t.Errorf("DELETE: %d %s", status, answer)
		}
	}
	asks := func(t *testing.T, state string) {
		if status, answer := s.put(t, state); status/100 != 2 {
			t.Errorf("%s: %d %s", state, status, answer)
		}
	}
	// The record of a plan that was resumed is that of one that was aborted; events tell
	// them apart.
	resumed := held{exits: []int{8}, ran: []int{1}, after: 2 * time.Second, says: "not recorded"}
	aborted := held{exits: []int{4}, ran: []int{1}, says: "was aborted"}
	stopped := held{exits: []int{4}, ran: []int{1}, says: "was stopped"}
	meddling := []struct {
		name    string
		plan    func(st *stage) plan
		at      instant
		meddle  func(t *testing.T, st *stage)
		options []string
		want    held
		long    bool
	}{
		{
			"its task is deleted between POST and PUT", quietly(3), atPUT, deletes, nil,
			held{exits: []int{8}, ran: []int{0}, says: "deleted"},
			true,
		},
		{
			"the record of its running task is deleted", quietly(5), inPlan, deletes, nil,
			held{exits: []int{8}, ran: []int{1}, says: "deleted"},
			true,
		},
		{"another plan is started between POST and PUT", quietly(3), atPUT, func(t *testing.T, _ *stage) {
			s.begin(t, plan{"nap", map[string]any{"seconds": 3}})
		}, nil, held{exits: []int{5}, ran: []int{0}, says: "busy"}, false},
		{"another plan is started between POST and PUT, and it waits for that", quietly(3), atPUT, func(t *testing.T, _ *stage) {
			s.begin(t, plan{"nap", map[string]any{"seconds": 3}})
		}, []string{"--wait-idle"}, once(), false},
		{"it is paused, and resumed after 3 s", quietly(5), inPlan, func(t *testing.T, _ *stage) {
			asks(t, "PAUSED")
			time.Sleep(3 * time.Second)
			asks(t, "RUNNING")
		}, nil, resumed, false},
		{"it is paused, and resumed after 3 s, and then takes 75 s", quietly(77), inPlan, func(t *testing.T, st *stage) {
			asks(t, "PAUSED")
			time.Sleep(3 * time.Second)
			s.put(t, "RUNNING") // it is answered when the plan has ended, and nobody else before
			for end := time.Now().Add(2 * time.Minute); st.planEnd(t).IsZero() && time.Now().Before(end); {
				time.Sleep(100 * time.Millisecond)
			}
		}, nil, resumed, true},
		{"it is paused, and aborted after 3 s", quietly(5), inPlan, func(t *testing.T, _ *stage) {
			asks(t, "PAUSED")
			time.Sleep(3 * time.Second)
			asks(t, "ABORTING")
		}, nil, aborted, false},
		{"it sends documents, is paused, and resumed after 3 s", documents, inPlan, func(t *testing.T, _ *stage) {
			asks(t, "PAUSED")
			time.Sleep(3 * time.Second)
			s.put(t, "RUNNING") // a text 500: it aborts the plan
		}, nil, resumed, false},
		{"it is aborted", quietly(5), inPlan, func(t *testing.T, _ *stage) { asks(t, "ABORTING") }, nil, aborted, false},
		{"it is stopped", documents, inPlan, func(t *testing.T, _ *stage) { asks(t, "STOPPING") }, nil, stopped, false},
	}
	var all []scenario
	for _, m := range meddling {
		all = append(all, scenario{m.name, m.long, func(t *testing.T, st *stage) {
			meddled := make(chan struct{})
			m.at.at(t, st, func() { defer close(meddled); m.meddle(t, st) })
			p := m.plan(st)
			run := st.program(t, st.config(t, broker, "guest"), append(append([]string{"run", "-i", "cm12345-1"}, m.options...), p.name, p.json())...)
			run.wait(patience)
			from(t, meddled)
			st.judge(t, run, m.want)
		}})
	}
	all = append(all, scenario{"its abort is lost, and another plan is started before that is sent again", false, func(t *testing.T, st *stage) {
		task := s.begin(t, st.quiet(30))
		st.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Reset, For: 500 * time.Millisecond, Request: 1, Method: http.MethodPut, Path: "/worker/state"})
		abort := st.program(t, "", "abort", "--task", task)
		for len(st.proxy.Outages()) == 0 {
			time.Sleep(time.Millisecond)
		}
		asks(t, "ABORTING")
		s.reaches(t, "IDLE")
		theirs := s.begin(t, plan{"nap", map[string]any{"seconds": 5}})
		st.judge(t, abort, held{exits: []int{0, 1, 8}, ran: []int{1}})
		if s.record(t, theirs).interrupted() {
			t.Error("the other plan was aborted")
		}
	}})
	perform(t, s, all, 10)
}

func quietly(seconds float64) func(*stage) plan {
	return func(st *stage) plan { return st.quiet(seconds) }
}

func documents(*stage) plan { return lasting()[0] }
