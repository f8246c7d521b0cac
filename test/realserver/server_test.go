//go:build linux && realserver

package realserver

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

func TestServerLives(t *testing.T) {
	s := theServer(t)
	before := s.environment(t)

	thawed, err := s.Freeze(300 * time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if during := s.environment(t); during != before {
		t.Errorf("frozen, it changed its environment from %v to %v", before, during)
	}
	<-thawed

	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Freeze(0); err == nil {
		t.Error("a killed server could be frozen")
	}
	if err := s.Again(); err != nil {
		t.Fatal(err)
	}
	if after := s.environment(t); after.ID == before.ID {
		t.Errorf("started again, it has the environment %v of before", after)
	}
}

// slowStart needs six seconds before it reports that it runs, longer than the
// server waits for that.
func slowStart(t *testing.T) (plan, string) {
	file := filepath.Join(t.TempDir(), "lines")
	return plan{"slow_start", map[string]any{"seconds": 6, "path": file}}, file
}

// stall is how long the server hears nothing, from before it gets the PUT.
const stall = 2500 * time.Millisecond

// TestPromise5DoubleRun shows what our run protocol is there for. If the first
// part fails, the server has changed: it keeps a task from running twice.
func TestPromise5DoubleRun(t *testing.T) {
	t.Run("a client that repeats the PUT runs the plan twice", func(t *testing.T) {
		// Both PUTs must be looked at before either is obeyed: a race, which is
		// lost at worst every other time.
		const tries = 6
		for range tries {
			if runs := repeatPUT(t, theServer(t)); runs > 1 {
				return
			}
		}
		t.Errorf("in %d tries the plan never ran twice: the server has changed", tries)
	})
	for _, c := range commands() {
		t.Run(c.name+" runs it once", func(t *testing.T) {
			s := theServer(t)
			proxy, err := faultproxy.Listen(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.Close()
			proxy.Before(http.MethodPut, "/worker/task", func() {
				if _, err := s.Freeze(stall); err != nil {
					t.Error(err)
				}
			})
			p, file := slowStart(t)
			e := c.run(t, s, proxy.URL(), p)
			time.Sleep(7 * time.Second) // what a second run would take
			s.settle(t)
			puts := 0
			for _, r := range proxy.Requests() {
				if r.Method == http.MethodPut {
					puts++
				}
			}
			if ran := lines(t, file); ran != 1 || puts != 1 || e.exit != 0 && c.sound {
				t.Errorf("the plan ran %d time(s), %d PUT(s)\n%v\nrequests: %s", ran, puts, e, describe(proxy))
			}
		})
	}
}

// repeatPUT sends the PUT of one task, and again after a time-out of 1 s,
// while the server is stalled. It returns how often the plan ran.
func repeatPUT(t *testing.T, s *Server) int {
	p, file := slowStart(t)
	task := s.create(t, p)
	var busy sync.WaitGroup // a server in use has its threads at hand
	for range 8 {
		busy.Go(func() { s.ask(t, http.MethodGet, "/worker/state", "") })
	}
	busy.Wait()
	if _, err := s.FreezeMain(stall); err != nil {
		t.Fatal(err)
	}
	statuses := make(chan int)
	for range 2 {
		go func() {
			status, _ := s.ask(t, http.MethodPut, "/worker/task", fmt.Sprintf(`{"task_id":%q}`, task))
			statuses <- status
		}()
		time.Sleep(time.Second)
	}
	got := []int{<-statuses, <-statuses}
	runs := 0
	last := time.Now() // of the lines, or the PUTs' answers
	for time.Since(last) < 8*time.Second && runs < 2 && !slices.Contains(got, http.StatusConflict) {
		time.Sleep(100 * time.Millisecond)
		if n := lines(t, file); n > runs {
			runs, last = n, time.Now()
		}
	}
	s.settle(t)
	runs = lines(t, file)
	t.Logf("the PUTs were answered %v, the plan ran %d times", got, runs)
	return runs
}
