package sim_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestDoubleRun is what was seen of the real server: two PUTs of one task that
// meet in a stall of 2.5 s, and a plan that takes 6 s to start.
func TestDoubleRun(t *testing.T) {
	inLab(t, func(l *lab) {
		id := l.submit("slow_start", `{"seconds":6,"path":"double"}`)
		l.Freeze()
		time.AfterFunc(2500*time.Millisecond, l.Unfreeze)
		start := time.Now()
		if got := l.puts(time.Second, id, id); !slices.Equal(got, []int{500, 200}) {
			t.Errorf("answers %v", got)
		}
		if d := time.Since(start); d < 8500*time.Millisecond || d > 8600*time.Millisecond {
			t.Errorf("answered after %v", d) // the real one: 8.52 s
		}
		if task := l.task(id); !task.IsComplete || len(task.Errors) != 0 {
			t.Errorf("after the first run: %+v", task)
		}
		time.Sleep(10 * time.Second)
		if n := l.ran(id); n != 2 || len(l.Lines("double")) != 2 {
			t.Errorf("ran %d times, wrote %q", n, l.Lines("double"))
		}
		// The second run leaves its mark, here as there.
		if task := l.task(id); !slices.Equal(task.Errors, []string{"'" + id + "'"}) || task.Outcome.Kind != "success" {
			t.Errorf("after the second run: %+v", task)
		}
	})
}

// TestPUTsTogether compares PUTs that meet with what the real server did with
// them.
func TestPUTsTogether(t *testing.T) {
	tests := []struct {
		name   string
		stall  time.Duration
		gap    time.Duration
		plans  []string // one task each, or the same task if empty
		params string
		puts   int
		want   string // sorted
		runs   int
	}{
		{"slow plan, one after the other", 0, time.Millisecond, []string{"slow_start"}, `{"seconds":6}`, 2, "[409 500]", 1},
		{"slow plan, thrice in a stall", time.Second, time.Millisecond, []string{"slow_start"}, `{"seconds":6}`, 3, "[200 409 500]", 2},
		{"two slow plans in a stall", time.Second, time.Millisecond, []string{"slow_start", "slow_start"}, `{"seconds":6}`, 2, "[500 500]", 2},
		{"two naps in a stall", time.Second, time.Millisecond, []string{"nap", "nap"}, `{"seconds":1}`, 2, "[200 500]", 1},
		// No 500 tells of it, if the plan is short. The real one: three of four tries.
		{"short plan, slow to start, in a stall", time.Second, time.Millisecond, []string{"slow_start"}, `{"seconds":2}`, 2, "[200 200]", 2},
		// The real one said 409 instead of 500 in half of the tries.
		{"nap, twice in a stall", time.Second, time.Millisecond, []string{"nap"}, `{"seconds":1}`, 2, "[200 500]", 1},
		{"nap, one after the other", 0, time.Millisecond, []string{"nap"}, `{"seconds":1}`, 3, "[200 409 409]", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				var ids []string
				for _, p := range tt.plans {
					ids = append(ids, l.submit(p, tt.params))
				}
				for len(ids) < tt.puts {
					ids = append(ids, ids[0])
				}
				if tt.stall > 0 {
					l.Freeze()
					time.AfterFunc(tt.stall, l.Unfreeze)
				}
				got := l.puts(tt.gap, ids...)
				slices.Sort(got)
				if fmt.Sprint(got) != tt.want {
					t.Errorf("answers %v, want %s", got, tt.want)
				}
				time.Sleep(time.Minute)
				if n := len(l.Runs()); n != tt.runs {
					t.Errorf("%d runs, want %d", n, tt.runs)
				}
			})
		})
	}
}

// TestSlowStart also shows that one call of the worker keeps the others waiting.
func TestSlowStart(t *testing.T) {
	inLab(t, func(l *lab) {
		id := l.submit("slow_start", `{"seconds":7}`)
		var wg sync.WaitGroup
		defer wg.Wait()
		start := time.Now()
		wg.Go(func() {
			if status, err := l.put(id); status != 500 || time.Since(start).Round(time.Second) != 5*time.Second {
				t.Errorf("%d, %v after %v", status, err, time.Since(start))
			}
		})
		time.Sleep(time.Second)
		if s := l.get("/healthz"); s != `{"status":"ok"}` || time.Since(start) > 1100*time.Millisecond {
			t.Errorf("healthz: %s after %v", s, time.Since(start))
		}
		l.get("/worker/state")
		if d := time.Since(start).Round(time.Second); d != 5*time.Second {
			t.Errorf("worker/state answered after %v", d)
		}
		if task := l.task(id); task.IsPending || task.IsComplete {
			t.Errorf("%+v", task)
		}
		time.Sleep(3 * time.Second)
		if task := l.task(id); !task.IsComplete || task.Outcome.Kind != "success" || l.ran(id) != 1 {
			t.Errorf("%+v ran %d times", task, l.ran(id))
		}
	})
}

// TestWithdrawn: DELETE of a pending task is a fence for a PUT that comes later.
func TestWithdrawn(t *testing.T) {
	inLab(t, func(l *lab) {
		id := l.submit("nap", `{"seconds":1}`)
		late := make(chan int, 1)
		l.Inject(sim.When(sim.Request("PUT", "/worker/*"), func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			return sim.Late(3*time.Second, sim.Reset)(x, func() sim.Answer {
				a := next()
				late <- a.Status
				return a
			})
		}))
		if _, err := l.put(id); err == nil {
			t.Error("the PUT was answered")
		}
		if status, body, err := l.ask(l.t.Context(), "DELETE", "/tasks/"+id, ""); status != 200 {
			t.Error(status, body, err)
		}
		if status := <-late; status != 404 {
			t.Errorf("the late PUT got %d", status)
		}
		time.Sleep(10 * time.Second)
		if n := len(l.Runs()); n != 0 {
			t.Errorf("%d runs", n)
		}
		if n := len(l.Exchanges()); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}
