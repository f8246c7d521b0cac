//go:build linux && realserver

package realserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// TestReloadBesideCallers reloads through a client that three others use without a
// pause, while the requests to reload meet misfortune: nobody sees an error, and
// nothing else is sent until the new environment shows.
func TestReloadBesideCallers(t *testing.T) {
	s := theServer(t)
	s.loaded(t)
	s.clear(t)
	p, err := faultproxy.Listen(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c := &blueapi.Client{URL: p.URL()}
	defer c.Close()

	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	var calls atomic.Int64
	poll := func(call func() error) {
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := call(); err != nil && ctx.Err() == nil {
					t.Errorf("beside a reload: %v", err)
				}
				calls.Add(1)
			}
		})
	}
	poll(func() error { _, err := c.WorkerState(ctx); return err })
	poll(func() error { _, err := c.Tasks(ctx, ""); return err })
	poll(func() error { _, err := c.Plans(ctx); return err })

	goOn := func() { // until the others have made some calls
		before := calls.Load()
		for end := time.Now().Add(10 * time.Second); calls.Load() < before+20; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the others do not go on")
			}
		}
	}
	rounds := 10
	if every, _, _ := choice(t); !every {
		rounds = 2
	}
	const method, path = http.MethodDelete, "/environment"
	misfortunes := []struct {
		name string
		play func()
	}{
		{"answer lost", func() { p.LoseAnswer(method, path) }},
		{"request lost", func() { p.LoseRequest(method, path) }},
		{"502 for an answer", func() { p.HideAnswer(method, path) }},
		{"none", func() {}},
	}
	ids := map[string]bool{s.environment(t).ID: true}
	fmt.Fprintln(os.Stdout, "\n| reload | took | calls of others before | requests beside |\n|---|---|---|---|")
	for i := range rounds {
		m := misfortunes[i%len(misfortunes)]
		m.play()
		goOn()
		before, known := calls.Load(), len(p.Requests())
		limited, stop := context.WithTimeout(ctx, 3*time.Minute)
		begin := time.Now()
		env, err := c.Reload(limited, false)
		took := time.Since(begin)
		stop()
		if err != nil || ids[env.ID] || !env.Initialized {
			t.Errorf("%s: %+v, %v", m.name, env, err)
		}
		ids[env.ID] = true
		beside := besideReload(p.Requests()[known:], begin.Add(took))
		if len(beside) > 0 {
			t.Errorf("%s: while the server reloaded it was asked %v", m.name, beside)
		}
		fmt.Fprintf(os.Stdout, "| %s | %.1f s | %d | %d |\n", m.name, took.Seconds(), before, len(beside))
		for _, r := range p.Requests()[known:] {
			if r.Method == method {
				t.Logf("%s: %s %.1f s after the beginning: reached the server: %v, told %d", m.name, method, r.At.Sub(begin).Seconds(), r.Reached, r.Status)
			}
		}
	}
	goOn()
	cancel()
	callers.Wait()
	fmt.Fprintln(os.Stdout)
	if status, answer := s.ask(t, http.MethodGet, "/worker/state", ""); status != 200 {
		t.Errorf("the server is not well: GET /worker/state: %d %s", status, answer)
	}
}

// besideReload lists what was asked from the first DELETE to the end of the reload,
// besides what a reload may ask: the environment, and, before a DELETE after one that
// did not reach the server, in three reads, whether a plan has been started.
func besideReload(requests []faultproxy.Request, end time.Time) []string {
	var beside []string
	checks, asked, reloading := 0, false, false
	for _, r := range requests {
		switch {
		case r.Method == http.MethodDelete:
			asked, reloading = true, reloading || r.Reached
		case !asked || !r.At.Before(end) || strings.HasSuffix(r.Path, "/environment"):
		case reloading || checks == 3:
			beside = append(beside, r.Method+" "+r.Path)
		default:
			checks++
		}
	}
	return beside
}

// TestReloadHangs reloads the server while three others poll it past our client, as
// web pages do. It often hangs for good; that is recognised, and a reload heals it.
func TestReloadHangs(t *testing.T) {
	s := theServer(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	if every, _, _ := choice(t); !every {
		t.Skip("it takes minutes: OUTAGES=all")
	}
	c := &blueapi.Client{URL: s.URL}
	defer c.Close()
	const rounds = 5
	hung := 0
	for range rounds {
		s.loaded(t)
		s.clear(t)
		if !s.hang(t) {
			continue
		}
		hung++
		if wedged, err := c.Wedged(t.Context()); !wedged || err != nil {
			t.Errorf("it hangs, and Wedged says %v, %v", wedged, err)
		}
		old := s.environment(t)
		e := execute(t, 3*time.Minute, []string{bin, "-h", s.URL, "env", "--reload"})
		if wrong := isNew(t, s, situation{before: old}, e); wrong != "" || e.exit != 0 {
			t.Fatalf("it hangs, and was not healed: %s\n%v", wrong, e)
		}
		t.Logf("healed after %.1f s", e.took.Seconds())
		if wedged, err := c.Wedged(t.Context()); wedged || err != nil {
			t.Errorf("it was healed, and Wedged says %v, %v", wedged, err)
		}
	}
	fmt.Fprintf(os.Stdout, "\n| reloads while others poll past us | of them the server hung |\n|---|---|\n| %d | %d |\n\n", rounds, hung)
}

// hang reloads with three others polling, and reports whether the server hangs now.
func (s *Server) hang(t *testing.T) bool {
	old := s.environment(t)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for _, path := range []string{"/worker/state", "/tasks", "/plans"} {
		others.Go(func() {
			for ctx.Err() == nil {
				s.ask(t, http.MethodGet, path, "")
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	s.ask(t, http.MethodDelete, "/environment", "")
	time.Sleep(4 * time.Second)
	cancel()
	others.Wait()
	hanging := 0 // looks in a row at a server that says that it is well, and is not
	for end := time.Now().Add(90 * time.Second); hanging < 40 && time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		env := s.environment(t)
		if env.ID != old.ID {
			s.loaded(t)
			return false
		}
		status, _ := s.ask(t, http.MethodGet, "/worker/state", "")
		if hanging++; !env.Initialized || status != http.StatusInternalServerError {
			hanging = 0
		}
	}
	return true
}

// TestPromise5Reload has another client reload the environment under a run, at every
// moment. If the server then hangs it is our doing, for nobody else asks it anything;
// when others poll it too it is theirs, and that is said.
func TestPromise5Reload(t *testing.T) {
	s := theServer(t)
	reload := func(t *testing.T) {
		if status, answer := s.ask(t, http.MethodDelete, "/environment", ""); status != http.StatusOK {
			t.Errorf("DELETE /environment: %d %s", status, answer)
		}
	}
	unknown := held{exits: []int{8}, ran: []int{0, 1}, says: "restarted or reloaded"}
	var all []scenario
	for with, broker := range brokers(s) {
		for _, at := range instants() {
			for _, seconds := range []float64{6, 45} {
				if seconds > 40 && at.name != "in mid-plan" {
					continue // the server waits for it for 30 s
				}
				name := fmt.Sprintf("the environment is reloaded %s of %v s, %s", at.name, seconds, with)
				all = append(all, scenario{name, func(t *testing.T, st *stage) {
					var old environment
					over := make(chan bool, 1)
					at.at(t, st, func() {
						old = s.environment(t)
						reload(t)
						go func() { over <- s.hangs(t, old) }()
					})
					run := st.run(t, broker, st.quiet(seconds))
					run.wait(patience)
					hung := <-over
					if hung {
						t.Error("the server hangs")
						st.name += "; the server hangs"
						reload(t)
						s.hangs(t, s.environment(t))
					}
					want := unknown
					if at.name == "between POST and PUT" {
						want = once()
					}
					st.judge(t, run, want)
				}})
			}
		}
		all = append(all, scenario{"the environment is reloaded in mid-plan while others poll, " + with, func(t *testing.T, st *stage) {
			over := make(chan bool, 1)
			instants()[2].at(t, st, func() { over <- s.hang(t) })
			run := st.run(t, broker, st.quiet(6))
			run.wait(patience)
			want := unknown
			if <-over {
				st.name += "; the server hangs"
				want.says = "hang"
				reload(t)
				s.hangs(t, s.environment(t))
			}
			st.judge(t, run, want)
		}})
	}
	perform(t, s, all, 10)
}

// hangs waits for the end of a reload, without asking anything that could make the
// server hang, and reports whether it hangs.
func (s *Server) hangs(t *testing.T, old environment) bool {
	for end := time.Now().Add(50 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		var now environment
		_, answer := s.ask(t, http.MethodGet, "/environment", "")
		if json.Unmarshal([]byte(answer), &now) == nil && now.ID != old.ID && now.Initialized {
			return false
		}
	}
	status, _ := s.ask(t, http.MethodGet, "/worker/state", "")
	return status == http.StatusInternalServerError
}
