//go:build linux && realserver

package realserver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// killing is a moment at which the program is killed.
type killing struct {
	name string
	// set prepares the moment, at which f is to be called.
	set  func(st *stage, f func())
	want held   // of attach
	word string // in the history after that
}

func killings() []killing {
	const method, path = http.MethodPut, "/worker/task"
	// when calls f as soon as the request has been read or, if that is wanted, answered.
	when := func(st *stage, answered bool, f func()) {
		there := func(r faultproxy.Request) bool { return r.Method == method && (r.Reached || !answered) }
		go func() {
			for !slices.ContainsFunc(st.proxy.Requests(), there) {
				time.Sleep(time.Millisecond)
			}
			f()
		}()
	}
	begun := held{exits: []int{0}, ran: []int{1}}
	never := held{exits: []int{7}, ran: []int{0}}
	return []killing{
		{"between POST and PUT", func(st *stage, f func()) {
			st.proxy.Before(http.MethodPost, "/tasks", func() { st.proxy.Before(http.MethodGet, "/environment", f) })
		}, never, "not started"},
		{"as the PUT is under way, which arrives", func(st *stage, f func()) { st.proxy.Before(method, path, f) }, begun, "done"},
		{"as the PUT is under way, which is lost", func(st *stage, f func()) {
			st.proxy.LoseRequest(method, path)
			when(st, false, f)
		}, never, "not started"},
		{"as the PUT is under way, which arrives 20 s later", func(st *stage, f func()) {
			st.proxy.DeliverLate(method, path, 20*time.Second)
			when(st, false, f)
		}, never, "not started"},
		{"as the PUT is answered", func(st *stage, f func()) {
			st.proxy.LoseAnswer(method, path)
			when(st, true, f)
		}, begun, "done"},
	}
}

// TestPromise5Killed kills the program with SIGKILL; attach settles what it left.
func TestPromise5Killed(t *testing.T) {
	s := theServer(t)
	inPlan := instants()[2]
	broker := hostport(s.STOMP)
	// back runs attach, and looks the run up in the history.
	back := func(t *testing.T, st *stage, want held, word string) {
		config := st.config(t, broker, "guest")
		attach := st.program(t, config, "attach")
		st.judge(t, attach, want)
		if e := st.program(t, config, "history").wait(patience); !strings.Contains(e.stdout, "  "+word+"  ") {
			t.Errorf("the history lacks the word %q\n%v", word, e)
		}
	}
	var all []scenario
	for _, k := range killings() {
		all = append(all, scenario{"killed " + k.name + ": attach", false, func(t *testing.T, st *stage) {
			p := st.quiet(4)
			ready := make(chan *program, 1)
			k.set(st, func() { (<-ready).kill() })
			run := st.run(t, broker, p)
			ready <- run
			run.wait(patience)
			back(t, st, k.want, k.word)
			if strings.HasSuffix(k.name, "later") {
				time.Sleep(time.Until(run.end.Add(22 * time.Second)))
				s.settle(t)
				if n := st.ran(t); n > 0 {
					t.Errorf("afterwards the plan ran %d times", n)
				}
			}
		}})
	}
	// midPlan is killed in mid-plan, and then something else happens before attach.
	midPlan := func(name string, then func(t *testing.T, st *stage), want held, word string) {
		all = append(all, scenario{"killed in mid-plan" + name + ": attach", false, func(t *testing.T, st *stage) {
			ready, killed := make(chan *program, 1), make(chan struct{})
			inPlan.at(t, st, func() { (<-ready).kill(); close(killed) })
			run := st.run(t, broker, st.quiet(5))
			ready <- run
			from(t, killed)
			then(t, st)
			back(t, st, want, word)
		}})
	}
	nothing := func(*testing.T, *stage) {}
	midPlan("", nothing, once(), "done")
	midPlan(", and the plan ends", func(_ *testing.T, _ *stage) { time.Sleep(8 * time.Second) }, held{exits: []int{0}, ran: []int{1}}, "done")
	midPlan(", and the server is killed and started", func(t *testing.T, _ *stage) {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
		if err := s.Again(); err != nil {
			t.Error(err)
		}
	}, held{exits: []int{8}, ran: []int{1}, says: "restarted or reloaded"}, "unknown")
	for _, seconds := range []float64{10, 40} {
		all = append(all, scenario{fmt.Sprintf("the server is away for 30 s in mid-plan, which takes %v s", seconds), true, func(t *testing.T, st *stage) {
			inPlan.at(t, st, func() { st.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Refused, For: 30 * time.Second}) })
			want := held{exits: []int{0}, ran: []int{1}}
			if seconds > 35 {
				want = once()
			}
			st.judge(t, st.run(t, broker, st.quiet(seconds)), want)
		}})
	}
	perform(t, s, all, 10)
}
