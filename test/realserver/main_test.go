//go:build linux && realserver

package realserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// One server serves all tests of this package.
var (
	started bool
	up      = sync.OnceValues(func() (*Server, error) { started = true; return Up() })

	scratch string // holds the program
)

func TestMain(m *testing.M) {
	code := m.Run()
	callers.end()
	if started {
		if s, err := up(); err == nil {
			if err := s.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	if scratch != "" {
		os.RemoveAll(scratch)
	}
	os.Exit(code)
}

func theServer(t *testing.T) *Server {
	t.Helper()
	s, err := up()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// build builds the program under test once. ADAMANT names one that is built.
var build = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("ADAMANT"); bin != "" {
		return bin, nil
	}
	var err error
	if scratch, err = os.MkdirTemp("", "adamant."); err != nil {
		return "", err
	}
	bin := filepath.Join(scratch, "adamant")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/adamant-go/adamant/cmd/adamant").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// plan is a plan and its parameters.
type plan struct {
	name   string
	params map[string]any
}

func (p plan) json() string {
	b, err := json.Marshal(p.params)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// command is a way to run a plan in the foreground: the program under test in
// its two voices, or the Python client that it replaces.
type command struct {
	name    string
	sound   bool // it keeps our promises
	patient time.Duration
	args    func(s *Server, url string, p plan) ([]string, error)
}

func ours(rest func(s *Server, url string, p plan) []string) func(*Server, string, plan) ([]string, error) {
	return func(s *Server, url string, p plan) ([]string, error) {
		bin, err := build()
		return append([]string{bin}, rest(s, url, p)...), err
	}
}

// commands are those under test. "controller run" has a broker, as the Python
// client needs one; "run" gets by without.
func commands() []command {
	python := command{"python", false, 15 * time.Second, func(s *Server, url string, p plan) ([]string, error) {
		return []string{s.CLI, "-c", s.ClientConfig, "-h", url, "controller", "run", "-i", "cm12345-1", p.name, p.json()}, nil
	}}
	controller := command{"controller run", true, 2 * time.Minute, ours(func(s *Server, url string, p plan) []string {
		return []string{"-c", s.ClientConfig, "-h", url, "controller", "run", "-i", "cm12345-1", p.name, p.json()}
	})}
	run := command{"run", true, 2 * time.Minute, ours(func(_ *Server, url string, p plan) []string {
		return []string{"-h", url, "run", "-i", "cm12345-1", p.name, p.json()}
	})}
	if os.Getenv("OUTAGE_CLIENT") == "python" {
		return []command{python}
	}
	return []command{controller, run}
}

// ended is how a command ended.
type ended struct {
	args           []string
	exit           int // -1: it had to be killed
	took           time.Duration
	stdout, stderr string
}

func (e ended) String() string {
	return fmt.Sprintf("exit %d after %.1f s\nstdout: %s\nstderr: %s", e.exit, e.took.Seconds(), e.stdout, e.stderr)
}

// run runs the command.
func (c command) run(t *testing.T, s *Server, url string, p plan) ended {
	t.Helper()
	args, err := c.args(s, url, p)
	if err != nil {
		t.Fatal(err)
	}
	return execute(t, c.patient, args)
}

// execute runs a program, with a home directory of its own, and kills it when
// patience is over.
func execute(t *testing.T, patience time.Duration, args []string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = homed(t.TempDir())
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	e := ended{args, cmd.ProcessState.ExitCode(), time.Since(begin), stdout.String(), stderr.String()}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		t.Fatal(err)
	}
	return e
}

// homed is the environment of a program with a home directory of its own, and whatever
// else is given: the tester's own journal is neither read nor written.
func homed(home string, more ...string) []string {
	return append(os.Environ(), append(more, "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_STATE_HOME="+home, "XDG_CONFIG_HOME="+home)...)
}

// get reads an answer of the server itself, past any proxy.
func (s *Server) get(t *testing.T, path string, out any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		t.Fatalf("GET %s: %v: %s", path, err, b)
	}
}

// settle waits until the server does nothing and nothing is on its way to it.
func (s *Server) settle(t *testing.T) {
	t.Helper()
	for idle, end := 0, time.Now().Add(time.Minute); idle < 3; time.Sleep(150 * time.Millisecond) {
		var state string
		var running struct{ Tasks []any }
		s.get(t, "/worker/state", &state)
		s.get(t, "/tasks?task_status=RUNNING", &running)
		if idle++; state != "IDLE" || len(running.Tasks) > 0 {
			idle = 0
		}
		if time.Now().After(end) {
			t.Fatalf("the server is still %s after a minute", state)
		}
	}
}

// lines counts the runs of a plan that writes one line each.
func lines(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}
