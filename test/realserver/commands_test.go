//go:build linux && realserver

package realserver

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// scene is what the server does when a command is run.
type scene int

const (
	idle    scene = iota // a plan has ended
	running              // a plan runs that takes long
	paused               // a plan is paused that is nearly over
)

// situation is a scene that was set.
type situation struct {
	task   string
	file   string // the plan writes one line as it begins, and one as it ends
	before environment
}

// set sets a scene.
func (s *Server) set(t *testing.T, sc scene) situation {
	t.Helper()
	s.loaded(t)
	s.clear(t)
	now := situation{file: filepath.Join(t.TempDir(), "lines"), before: s.environment(t)}
	lasting := func(seconds float64) plan {
		return plan{"append_line", map[string]any{"path": now.file, "line": "begun", "seconds": seconds, "last": "ended"}}
	}
	switch sc {
	case idle:
		now.task = s.begin(t, lasting(0))
		s.settle(t)
	case running:
		now.task = s.begin(t, lasting(30))
	case paused:
		now.task = s.begin(t, lasting(1))
		if status, answer := s.put(t, "PAUSED"); status/100 != 2 || !s.reaches(t, "PAUSED") {
			t.Fatalf("the plan could not be paused: %d %s", status, answer)
		}
	}
	return now
}

// short is a command that reads, controls the plan that runs, or reloads the
// environment.
type short struct {
	words string // of the command line; TASK stands for the task's id
	scene scene
	// moments are those at which it is tried, besides its start.
	moments []moment
	// holds says what is wrong with how it ended, or "".
	holds func(t *testing.T, s *Server, now situation, e ended) string
}

func (c short) args(s *Server, bin, url string, now situation) []string {
	args := []string{bin, "-h", url}
	if strings.HasPrefix(c.words, "controller") {
		args = append(args, "-c", s.ClientConfig)
	}
	return append(args, strings.Fields(strings.ReplaceAll(c.words, "TASK", now.task))...)
}

// shorts are the read and control commands, in both voices.
func shorts() []short {
	reading := around(faultproxy.Outage{Request: 1})
	controlling := around(faultproxy.Outage{Request: 1}, faultproxy.Outage{Request: 3}, // of three that are the guard
		faultproxy.Outage{Request: 1, Method: "PUT", Path: "/worker/state"})
	reloading := around(faultproxy.Outage{Request: 1}, faultproxy.Outage{Request: 3},
		faultproxy.Outage{Request: 1, Method: "DELETE", Path: "/environment"})
	for _, d := range []time.Duration{300, 900, 1500} {
		reloading = append(reloading, moment{fmt.Sprintf("at-%dms", d), faultproxy.Outage{Delay: d * time.Millisecond}})
	}
	all := []short{
		{"controller plans", idle, reading, asPython()},
		{"controller devices", idle, reading, asPython()},
		{"controller state", idle, reading, asPython()},
		{"controller env", idle, reading, asPython()},
		{"controller get-python-env", idle, reading, asPython()},
		{"plans", idle, reading, asEver},
		{"plans count", idle, reading, asEver},
		{"devices", idle, reading, asEver},
		{"state", idle, reading, asEver},
		{"env", idle, reading, asEver},
		{"tasks", idle, reading, asEver},
		{"task TASK", idle, reading, asEver},
		{"python-env", idle, reading, asEver},

		{"controller pause", running, controlling, says(`<WorkerState\.(PAUSED: 'PAUSED'|PAUSING: 'PAUSING')>`, isPaused)},
		{"controller resume", paused, controlling, says(`<WorkerState\.(IDLE: 'IDLE'|RUNNING: 'RUNNING')>`, wentOn)},
		{"controller abort", running, controlling, says(`<WorkerState\.(IDLE: 'IDLE'|ABORTING: 'ABORTING')>`, wasEnded)},
		{"controller stop", running, controlling, says(`<WorkerState\.(IDLE: 'IDLE'|STOPPING: 'STOPPING')>`, wasEnded)},
		{"pause --task TASK", running, controlling, says(`paused|pausing`, isPaused)},
		{"resume -y --task TASK", paused, controlling, says(`resumed|over`, wentOn)},
		{"abort --task TASK", running, controlling, says(`aborted|aborting`, wasEnded)},
		{"stop --task TASK", running, controlling, says(`stopped|stopping`, wasEnded)},

		{"controller env -r -t 60", idle, reloading, isNew}, // the server alone can need the usual 10 s
		{"env --reload", idle, reloading, isNew},
	}
	return all
}

// around are the moments before and after requests.
func around(requests ...faultproxy.Outage) []moment {
	var ms []moment
	for _, o := range requests {
		name := fmt.Sprint(o.Request)
		if o.Method != "" {
			name = o.Method
		}
		before := moment{"before-" + name, o}
		o.Answered = true
		ms = append(ms, before, moment{"after-" + name, o})
	}
	return ms
}

// asEver wants what the same command prints with no outage.
func asEver(t *testing.T, s *Server, _ situation, e ended) string {
	undisturbed := append([]string(nil), e.args...)
	undisturbed[2] = s.URL
	return differs(execute(t, time.Minute, undisturbed).stdout, e)
}

// asPython wants what the Python client prints with no outage, which starts slowly and
// is asked once for each environment.
func asPython() func(t *testing.T, s *Server, now situation, e ended) string {
	printed := make(map[string]string)
	return func(t *testing.T, s *Server, now situation, e ended) string {
		if printed[now.before.ID] == "" {
			args := append([]string{s.CLI, "-h", s.URL}, e.args[3:]...)
			printed[now.before.ID] = execute(t, time.Minute, args).stdout
		}
		return differs(printed[now.before.ID], e)
	}
}

func differs(want string, e ended) string {
	if e.stdout == want && want != "" {
		return ""
	}
	return fmt.Sprintf("stdout is not %q", want)
}

// says wants an output, and an effect.
func says(pattern string, effect func(t *testing.T, s *Server, now situation) string) func(*testing.T, *Server, situation, ended) string {
	want := regexp.MustCompile(`^(` + pattern + `)\n$`)
	return func(t *testing.T, s *Server, now situation, e ended) string {
		if !want.MatchString(e.stdout) {
			return "stdout does not match " + want.String()
		}
		return effect(t, s, now)
	}
}

func isPaused(t *testing.T, s *Server, now situation) string {
	if !s.reaches(t, "PAUSED") || s.current(t) != now.task {
		return "the plan is not paused"
	}
	return ""
}

// wentOn wants that a plan was resumed, and not ended: its record does not tell.
func wentOn(t *testing.T, s *Server, now situation) string {
	s.settle(t)
	if n := lines(t, now.file); n != 2 {
		return fmt.Sprintf("%d line(s)", n)
	}
	return ""
}

func wasEnded(t *testing.T, s *Server, now situation) string {
	s.settle(t)
	if r := s.record(t, now.task); !r.interrupted() || lines(t, now.file) != 1 {
		return fmt.Sprintf("record %+v, %d line(s)", r, lines(t, now.file))
	}
	return ""
}

// isNew wants a new environment, and a server that answers.
func isNew(t *testing.T, s *Server, now situation, e ended) string {
	after := s.environment(t)
	switch {
	case after.ID == now.before.ID || !after.Initialized:
		return fmt.Sprintf("the environment is %+v", after)
	case !strings.Contains(e.stdout, after.ID):
		return "stdout lacks " + after.ID
	}
	if status, answer := s.ask(t, "GET", "/worker/state", ""); status != 200 || answer != `"IDLE"` {
		return fmt.Sprintf("the server is not well: GET /worker/state: %d %s", status, answer)
	}
	return ""
}

// TestPromise1Commands puts one outage of a second, of every kind, at the requests of
// every command that reads or controls: it succeeds, prints what it should, has its
// effect, and not more than five sends a second meet the outage.
func TestPromise1Commands(t *testing.T) {
	s := theServer(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]short)
	var all []cell
	for _, c := range shorts() {
		byName[c.words] = c
		for _, k := range kinds(t) {
			for _, m := range append([]moment{{"start", faultproxy.Outage{}}}, c.moments...) {
				all = append(all, cell{c.words, k, m})
			}
		}
	}
	results := make(map[string]string)
	chosen := choose(t, all)
	slices.SortStableFunc(chosen, func(a, b cell) int { // the Python client is asked once if reloads come last
		return cmp.Compare(len(byName[a.command].moments), len(byName[b.command].moments))
	})
	for _, c := range chosen {
		t.Run(strings.ReplaceAll(c.name(), " ", "-"), func(t *testing.T) {
			results[c.name()] = byName[c.command].try(t, s, bin, c)
		})
	}
	s.clear(t)
	report(os.Stdout, chosen, results)
}

// try runs the command through the outage of a cell.
func (c short) try(t *testing.T, s *Server, bin string, through cell) string {
	now := s.set(t, c.scene)
	p, err := faultproxy.Listen(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	o := through.moment.at
	o.Kind, o.For = through.kind, length(t)
	p.Arm(o)
	e := execute(t, 2*time.Minute, c.args(s, bin, p.URL(), now))
	sends, spans := p.Sends(), p.Outages()
	awaitEnd(spans, o.For)
	p.End()

	wrong := c.holds(t, s, now, e)
	if e.exit != 0 {
		wrong = strings.TrimSuffix(fmt.Sprintf("exit %d, %s", e.exit, wrong), ", ")
	}
	words := fmt.Sprintf("ok, %.1f s", e.took.Seconds())
	rate, counted := rateOf(p, sends, spans)
	if len(spans) == 0 || rate > 5 {
		wrong += " " + counted
	}
	if wrong == "" {
		words += ", " + counted
		t.Log(words)
		return words
	}
	t.Errorf("%s\n%v\nrequests: %s", wrong, e, describe(p))
	return fmt.Sprintf("**%s, %.1f s, %s**", wrong, e.took.Seconds(), counted)
}
