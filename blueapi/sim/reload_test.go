package sim_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// environments polls GET /environment, and returns what is new in it until it has
// been the same for 15 s, with ids by the order in which they showed.
func (l *lab) environments(known ...string) (seen []string) {
	l.t.Helper()
	for last := time.Now(); time.Since(last) < 15*time.Second; time.Sleep(100 * time.Millisecond) {
		e := l.environment()
		if !slices.Contains(known, e.ID) {
			known = append(known, e.ID)
		}
		s := string(rune('A' + slices.Index(known, e.ID)))
		if !e.Initialized {
			s += " down"
		}
		if e.ErrorMessage != nil {
			s += " " + *e.ErrorMessage
		}
		if len(seen) == 0 || seen[len(seen)-1] != s {
			seen, last = append(seen, s), time.Now()
		}
	}
	return seen
}

func (l *lab) delete() {
	l.t.Helper()
	if status, b, err := l.ask(l.t.Context(), "DELETE", "/environment", ""); status != 200 || !strings.Contains(b, `"initialized":false`) {
		l.t.Fatal(status, b, err)
	}
}

func (l *lab) expectEnvironments(got []string, want ...string) {
	l.t.Helper()
	if !slices.Equal(got, want) {
		l.t.Errorf("environments %q, expected %q", got, want)
	}
}

// TestReloadAsRecorded goes through the recorded sequence, at its times.
func TestReloadAsRecorded(t *testing.T) {
	var recorded struct {
		Old  string `json:"old_environment_id"`
		Seen []struct {
			Seconds    float64
			Path, Body string
		}
	}
	b, err := os.ReadFile(filepath.Join("..", "testdata", "http", "environment-reload-sequence.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &recorded); err != nil || len(recorded.Seen) != 4 {
		t.Fatal(err, recorded)
	}
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &sim.Server{ReloadTime: 6900 * time.Millisecond})
		s := suite{ids: map[string]string{recorded.Old: l.environment().ID}}
		begin := time.Now()
		l.delete()
		for _, want := range recorded.Seen {
			time.Sleep(time.Until(begin.Add(time.Duration(want.Seconds * float64(time.Second)))))
			got := l.get(want.Path)
			s.learn(want.Body, got)
			l.expect(want.Path, got, s.here(want.Body))
		}
		if len(s.ids) != 2 {
			t.Errorf("ids %v", s.ids)
		}
	})
}

// TestReloadTwice compares a second DELETE with what the real server made of it.
func TestReloadTwice(t *testing.T) {
	tests := []struct {
		name string
		gap  time.Duration
		want []string
	}{
		{"one", 0, []string{"A", "A down", "B"}},
		{"as the process ends", 300 * time.Millisecond, []string{"A down ValueError: Pool not running", "B", "C"}},
		{"as the next one loads", 2300 * time.Millisecond, []string{"A down", "B"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, &sim.Server{})
				known := l.environment().ID
				l.delete()
				if tt.gap > 0 {
					time.Sleep(tt.gap)
					l.delete()
					time.Sleep(10 * time.Millisecond)
				}
				l.expectEnvironments(l.environments(known), tt.want...)
				l.expect("state", l.get("/worker/state"), `"IDLE"`)
			})
		})
	}
}

// TestReloadWhilePolling: what a request does in the course of a reload. The times
// are those of an idle real server.
func TestReloadWhilePolling(t *testing.T) {
	const textError = "Internal Server Error"
	tests := []struct {
		path   string
		at     time.Duration
		want   string
		wedged bool
	}{
		{"/worker/state", 20 * time.Millisecond, `"IDLE"`, true},
		{"/tasks", 20 * time.Millisecond, `{"tasks":[]}`, true},
		{"/plans/nap", 20 * time.Millisecond, `{"name":"nap"`, false},
		{"/config/oidc", 20 * time.Millisecond, ``, false},
		{"/python_environment?name=none", 20 * time.Millisecond, `{"installed_packages":[]`, false},
		{"/healthz", 20 * time.Millisecond, `{"status":"ok"}`, false},
		{"/worker/state", 70 * time.Millisecond, textError, false},
		{"/plans/nap", time.Second, textError, false},
		{"/config/oidc", time.Second, textError, false},
		{"/healthz", time.Second, `{"status":"ok"}`, false},
		{"/worker/state", 3 * time.Second, `"IDLE"`, false}, // when the new one is there
	}
	for _, tt := range tests {
		t.Run(tt.path+" after "+tt.at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, &sim.Server{})
				known := l.environment().ID
				l.delete()
				time.Sleep(tt.at)
				if got := l.get(tt.path); !strings.HasPrefix(got, tt.want) {
					t.Errorf("%s, expected %s", got, tt.want)
				}
				time.Sleep(10 * time.Second)
				last := l.environments(known)
				if !tt.wedged {
					l.expectEnvironments(last, "B")
					return
				}
				l.expectEnvironments(last, "A")
				l.expect("plans", l.get("/plans"), textError)
				l.delete()
				l.expectEnvironments(l.environments(known), "A down ValueError: Pool not running", "B")
			})
		})
	}
}

// TestBreak: an environment that does not load is tried again at each DELETE.
func TestBreak(t *testing.T) {
	inLab(t, func(l *lab) {
		known := l.environment().ID
		l.Break("ImportError: no")
		l.get("/plans/nap")
		l.delete()
		l.expectEnvironments(l.environments(known), "A", "A down", "B down ImportError: no")
		l.expect("plans", l.get("/plans"), "Internal Server Error")
		l.get("/healthz")
		l.delete()
		l.expectEnvironments(l.environments(known), "B down ImportError: no", "C down ImportError: no")
		l.Break("")
		l.delete()
		time.Sleep(10 * time.Second)
		l.expect("state", l.get("/worker/state"), `"IDLE"`)
		if e := l.environment(); !e.Initialized || e.ErrorMessage != nil {
			l.t.Errorf("%+v", e)
		}
	})
}

// TestKillWorker asks in the order in which the real server was asked.
func TestKillWorker(t *testing.T) {
	inLab(t, func(l *lab) {
		before := l.environment()
		l.starts("nap", `{"seconds":60}`)
		l.KillWorker()
		time.Sleep(time.Second)
		if r := l.Runs(); r[0].Ended.IsZero() || !r[0].Killed {
			l.t.Errorf("%+v", r)
		}
		for _, step := range []struct {
			path   string
			status int
		}{
			{"/environment", 200},
			{"/healthz", 200},
			{"/worker/state", 0},
			{"/plans", 0},
			{"/config/oidc", 0},
			{"/healthz", 200},
			{"/tasks", 0},
			{"/healthz", 0},
			{"/environment", 0},
		} {
			if status, b, err := l.askFor(10*time.Second, "GET", step.path); status != step.status {
				l.t.Errorf("%s: %d %s, %v, expected %d", step.path, status, b, err, step.status)
			}
		}
		l.Restart(time.Second)
		time.Sleep(2 * time.Second)
		if e := l.environment(); e.ID == before.ID || !e.Initialized {
			l.t.Errorf("%+v, before %+v", e, before)
		}
		l.expect("state", l.get("/worker/state"), `"IDLE"`)
	})
}
