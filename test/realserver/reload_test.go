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

// shown is the environment, if the server shows one. Unlike environment it may be
// called from any goroutine.
func (s *Server) shown(t *testing.T) (e environment) {
	_, answer := s.ask(t, http.MethodGet, "/environment", "")
	_ = json.Unmarshal([]byte(answer), &e) // it may be away
	return e
}

// hang reloads with three others polling, and reports whether the server hangs now.
func (s *Server) hang(t *testing.T) bool {
	old := s.shown(t)
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
		env := s.shown(t)
		if env.ID != old.ID && env.Initialized {
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
// moment. While the old worker is being stopped the server shows nothing of that, so
// that what the run asks may make it hang (1.21.1), as may others that poll. Whoever did
// it, the hang is named, and the word is true.
func TestPromise5Reload(t *testing.T) {
	s := theServer(t)
	var all []scenario
	add := func(name string, at instant, seconds float64, broker string, reload func(t *testing.T) (hung bool)) {
		all = append(all, scenario{name: name, long: true, play: func(t *testing.T, st *stage) {
			over := make(chan bool, 1)
			at.at(t, st, func() {
				begun := make(chan struct{})
				go func() {
					defer close(over)
					close(begun)
					over <- reload(t)
				}()
				<-begun
				time.Sleep(50 * time.Millisecond) // its request is there
			})
			run := st.run(t, broker, st.quiet(seconds))
			run.wait(patience)
			want := held{exits: []int{0, 8}, ran: []int{0, 1}}
			if run.cmd.ProcessState.ExitCode() == 8 {
				want.says = "restarted or reloaded"
			}
			if from(t, over) {
				st.name += "; the server hangs"
				want.says = "hangs"
				s.reload(t)
			}
			st.judge(t, run, want)
		}})
	}
	for _, h := range hearings(s) {
		for _, at := range instants() {
			add(fmt.Sprintf("the environment is reloaded %s, %s", at.name, h.name), at, 6, h.broker, s.reload)
		}
		inPlan := instants()[2]
		add("the environment is reloaded in mid-plan, which takes 45 s, "+h.name, inPlan, 45, h.broker, s.reload)
		add("the environment is reloaded in mid-plan while others poll, "+h.name, inPlan, 6, h.broker, s.hang)
	}
	perform(t, s, all, 10)
}

// reload reloads the environment, and waits for the end of that without asking anything
// that could make the server hang. It reports whether it hangs.
func (s *Server) reload(t *testing.T) (hung bool) {
	old := s.shown(t)
	if status, answer := s.ask(t, http.MethodDelete, "/environment", ""); status != http.StatusOK {
		t.Errorf("DELETE /environment: %d %s", status, answer)
	}
	for end := time.Now().Add(50 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if now := s.shown(t); now.ID != old.ID && now.Initialized {
			return false
		}
	}
	status, _ := s.ask(t, http.MethodGet, "/worker/state", "")
	return status == http.StatusInternalServerError
}
