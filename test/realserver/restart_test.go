//go:build linux && realserver

package realserver

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// instant is when something happens to a run.
type instant struct {
	name string
	// at has f called then. The program is started afterwards, by the caller.
	at func(t *testing.T, st *stage, f func())
}

// instants are those at which it makes a difference what happens to the server.
func instants() []instant {
	return []instant{
		{"between POST and PUT", func(_ *testing.T, st *stage, f func()) {
			st.proxy.Before(http.MethodPost, "/tasks", func() { st.proxy.Before(http.MethodGet, "/environment", f) })
		}},
		{"as the PUT is under way", func(_ *testing.T, st *stage, f func()) {
			st.proxy.Before(http.MethodPut, "/worker/task", f)
		}},
		{"in mid-plan", func(t *testing.T, st *stage, f func()) {
			st.proxy.Before(http.MethodPut, "/worker/task", func() {
				go func() {
					st.begun(t)
					time.Sleep(time.Second)
					f()
				}()
			})
		}},
	}
}

// hearing is whether the program is told of a broker.
type hearing struct{ name, broker string }

func hearings(s *Server) []hearing {
	return []hearing{{"with a broker", hostport(s.STOMP)}, {"without a broker", ""}}
}

// TestPromise5Restart ends the server in good order and at once, and starts it again or
// not.
func TestPromise5Restart(t *testing.T) {
	s := theServer(t)
	unknown := held{exits: []int{8}, ran: []int{0}, says: "restarted or reloaded"}
	started := held{exits: []int{8}, ran: []int{1}, says: "was started"}
	away := held{exits: []int{7}, ran: []int{0}, says: "nothing was started"}
	silent := held{exits: []int{8}, ran: []int{0}, says: "has not answered since"}
	ends := []struct {
		name string
		end  func() error
		back bool
		want [3]held // at each instant
	}{
		{"SIGTERM, and no start", s.Stop, false, [3]held{away, silent, started}},
		{"SIGKILL, and no start", s.Kill, false, [3]held{away, silent, started}},
		{"a restart", s.Stop, true, [3]held{once(), unknown, started}},
		{"SIGKILL, and a start", s.Kill, true, [3]held{once(), unknown, started}},
	}
	var all []scenario
	for _, h := range hearings(s) {
		for _, e := range ends {
			for i, at := range instants() {
				all = append(all, scenario{fmt.Sprintf("%s %s, %s", e.name, at.name, h.name), !e.back && i > 0, func(t *testing.T, st *stage) {
					over := make(chan struct{})
					at.at(t, st, func() {
						defer close(over)
						if err := e.end(); err != nil {
							t.Error(err)
						}
						if e.back {
							if err := s.Again(); err != nil {
								t.Error(err)
							}
						}
					})
					words := []string{"run", "-i", "cm12345-1"}
					if e.back {
						words = append(words, "--wait", "1m")
					}
					p := st.quiet(5)
					run := st.program(t, st.config(t, h.broker, "guest"), append(words, p.name, p.json())...)
					run.wait(patience)
					from(t, over)
					if err := s.Again(); err != nil {
						t.Error(err)
					}
					st.judge(t, run, e.want[i])
				}})
			}
		}
	}
	perform(t, s, all, 20)
}

// TestPromise5Frozen stops the server's processes for longer than TestPromise1Frozen
// does, with a plan that a repeated PUT would run twice, too.
func TestPromise5Frozen(t *testing.T) {
	s := theServer(t)
	var all []scenario
	add := func(name string, of func(st *stage) plan, at instant) {
		for _, d := range []time.Duration{time.Second, 2500 * time.Millisecond, 10 * time.Second} {
			all = append(all, scenario{fmt.Sprintf("%s: the server is frozen for %v, %s", name, d, at.name), false, func(t *testing.T, st *stage) {
				frozen := make(chan (<-chan struct{}), 1)
				at.at(t, st, func() {
					thawed, err := s.Freeze(d)
					if err != nil {
						t.Error(err)
					}
					frozen <- thawed
				})
				run := st.run(t, hostport(s.STOMP), of(st))
				run.wait(patience)
				from(t, from(t, frozen))
				st.judge(t, run, held{exits: []int{0}, ran: []int{1}})
			}})
		}
	}
	for _, at := range instants() {
		add("append_line", func(st *stage) plan { return st.quiet(3) }, at)
	}
	add("slow_start", func(st *stage) plan {
		st.writes = true
		return plan{"slow_start", map[string]any{"seconds": 6, "path": st.file}}
	}, instants()[1])
	perform(t, s, all, 10)
}
