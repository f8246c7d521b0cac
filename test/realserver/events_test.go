//go:build linux && realserver

package realserver

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// behind restarts the server with a relay before its broker, for the time of a test.
func (s *Server) behind(t *testing.T, r *relay) {
	t.Helper()
	path := filepath.Join(s.Dir, "server.yaml")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	with := func(config string) {
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Error(err)
		}
		if err := s.Restart(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { with(string(before)) })
	with(strings.ReplaceAll(string(before), hostport(s.STOMP), r.address))
}

// publishing waits until the server's events reach its broker again: until a plan is
// recorded as what it was.
func (s *Server) publishing(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		task := s.begin(t, plan{"nap", map[string]any{"seconds": 0}})
		s.settle(t)
		if o := s.record(t, task).Outcome; o != nil && o.Outcome == "success" {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the server does not find its broker again")
		}
	}
}

// lasting are plans of some seconds: one that sends documents, one that sends nothing
// but its beginning and end, one that moves.
func lasting() []plan {
	return []plan{
		{"many_events", map[string]any{"n": 25, "delay": 0.25}},
		{"nap", map[string]any{"seconds": 7}},
		{"moves", map[string]any{"x": 3, "y": 2}},
	}
}

// recorded is what a run is held to whose record may be false because of the broker.
func (st *stage) recorded(t *testing.T) held {
	t.Helper()
	want := held{exits: []int{8}, ran: []int{1}, after: 2 * time.Second, says: "could not reach its message broker"}
	for _, task := range st.tasks(t) {
		if o := task.Outcome; !slices.Contains(st.before, task.ID) && o != nil && o.Outcome == "success" {
			want.exits, want.says = []int{0}, ""
		}
	}
	return want
}

// away is for how long something is away; for ever is longer than any plan.
type away time.Duration

func (a away) String() string {
	if a == 0 {
		return "for ever"
	}
	return "for " + time.Duration(a).String()
}

// TestPromise5Broker takes the broker away from the server and the program in mid-plan,
// or it is away from the start. Word and exit status say what the server's record
// says, and why that is wrong if the broker is to blame for it.
func TestPromise5Broker(t *testing.T) {
	s := theServer(t)
	both := relayTo(t, s.STOMP)
	s.behind(t, both)
	var all []scenario
	for _, p := range lasting() {
		for _, d := range []away{away(time.Second), away(30 * time.Second), 0} {
			all = append(all, scenario{fmt.Sprintf("%s: the broker goes away in mid-plan, %v", p.name, d), d > away(20*time.Second), func(t *testing.T, st *stage) {
				st.watch(t)
				run := st.run(t, both.address, p)
				st.begun(t)
				time.Sleep(1500 * time.Millisecond)
				both.down()
				if d > 0 {
					time.Sleep(time.Duration(d))
				} else {
					run.wait(patience)
				}
				both.up(t)
				run.wait(patience)
				st.settle(t)
				st.judge(t, run, st.recorded(t))
				s.publishing(t)
			}})
		}
	}
	perform(t, s, all, 10)
}

// TestPromise5BrokerOfOurs takes the broker away from the program alone: the plan ends
// as if nothing had been, and what the user sees of it is the same but for events.
func TestPromise5BrokerOfOurs(t *testing.T) {
	s := theServer(t)
	var all []scenario
	add := func(name string, p plan, play func(t *testing.T, st *stage, ours *relay) *program) {
		all = append(all, scenario{p.name + ": " + name, false, func(t *testing.T, st *stage) {
			st.watch(t)
			st.judge(t, play(t, st, relayTo(t, s.STOMP)), once())
		}})
	}
	for _, p := range lasting() {
		for _, d := range []away{away(time.Second), away(3 * time.Second), 0} {
			add(fmt.Sprintf("the program's connection to the broker is away in mid-plan, %v", d), p, func(t *testing.T, st *stage, ours *relay) *program {
				run := st.run(t, ours.address, p)
				st.begun(t)
				time.Sleep(1500 * time.Millisecond)
				ours.down()
				if d > 0 {
					time.Sleep(time.Duration(d))
					ours.up(t)
				}
				return run
			})
		}
		add("the broker that the program is told of refuses connections", p, func(t *testing.T, st *stage, ours *relay) *program {
			ours.down()
			return st.run(t, ours.address, p)
		})
		add("the broker that the program is told of says nothing", p, func(t *testing.T, st *stage, ours *relay) *program {
			ours.mute()
			return st.run(t, ours.address, p)
		})
		add("the program has a wrong passcode for the broker", p, func(t *testing.T, st *stage, ours *relay) *program {
			return st.program(t, st.config(t, ours.address, "wrong"), "run", "-i", "cm12345-1", p.name, p.json())
		})
	}
	perform(t, s, all, 10)
}

// TestPromise5BrokerStopped stops RabbitMQ itself, in mid-plan and before the server
// starts. It comes last: it restarts the server.
func TestPromise5BrokerStopped(t *testing.T) {
	s := theServer(t)
	stop := func(t *testing.T) {
		if err := s.BrokerStop(); err != nil {
			t.Fatal(err)
		}
	}
	start := func(t *testing.T) {
		if err := s.BrokerStart(); err != nil {
			t.Fatal(err)
		}
	}
	var all []scenario
	for _, p := range lasting() {
		all = append(all,
			scenario{p.name + ": RabbitMQ is restarted in mid-plan, which takes 4 s", false, func(t *testing.T, st *stage) {
				st.watch(t)
				run := st.run(t, hostport(s.STOMP), p)
				st.begun(t)
				stop(t)
				start(t)
				run.wait(patience)
				st.settle(t)
				st.judge(t, run, st.recorded(t))
				s.publishing(t)
			}},
			scenario{p.name + ": the server was started without RabbitMQ", true, func(t *testing.T, st *stage) {
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
				stop(t)
				t.Cleanup(func() {
					start(t)
					if err := s.Restart(); err != nil {
						t.Error(err)
					}
				})
				if err := s.AgainAny(); err != nil {
					t.Fatal(err)
				}
				st.before = nil
				st.watch(t)
				run := st.run(t, hostport(s.STOMP), p)
				run.wait(patience)
				st.settle(t)
				st.judge(t, run, st.recorded(t))
			}})
	}
	perform(t, s, all, 20)
}

// TestPromise5EndLost loses the event that tells of a plan's end, which has the Python
// client wait for ever.
func TestPromise5EndLost(t *testing.T) {
	s := theServer(t)
	lossy := func(t *testing.T) *relay {
		ours := relayTo(t, s.STOMP)
		ours.filter(func(frame []byte) bool { return !endEvent(frame) })
		return ours
	}
	const hangs = 20 * time.Second
	python := func(t *testing.T, st *stage, p plan) *program {
		config := st.config(t, lossy(t).address, "guest")
		return st.start(t, s.CLI, "-c", config, "-h", st.proxy.URL(), "controller", "run", "-i", "cm12345-1", p.name, p.json())
	}
	var all []scenario
	for _, p := range []plan{
		{"many_events", map[string]any{"n": 5}}, {"nap", map[string]any{"seconds": 1}}, {"moves", map[string]any{"x": 1, "y": 1}},
	} {
		all = append(all, scenario{p.name + ": the end event is lost", false, func(t *testing.T, st *stage) {
			st.watch(t)
			st.judge(t, st.run(t, lossy(t).address, p), once())
		}}, scenario{p.name + ": the end event is lost, controller run", false, func(t *testing.T, st *stage) {
			st.watch(t)
			config := st.config(t, lossy(t).address, "guest")
			st.judge(t, st.program(t, config, "controller", "run", "-i", "cm12345-1", p.name, p.json()), once())
		}}, scenario{p.name + ": the end event is lost; the Python client, killed after 20 s", false, func(t *testing.T, st *stage) {
			run := python(t, st, p)
			if e := run.wait(hangs); e.exit != -1 {
				t.Errorf("it has changed: it does not wait for ever\n%v", e)
			}
			st.judge(t, run, held{exits: []int{-1}, ran: []int{1}})
		}})
	}
	perform(t, s, all, 10)
}
