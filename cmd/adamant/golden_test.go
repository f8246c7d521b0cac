package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// golden is a command that was recorded with blueapi's own client.
type golden struct {
	Name   string
	Argv   []string
	Env    map[string]string
	Exit   int
	Stdout string // a file
	Stderr string
}

// recordedAt is where the recorded commands found their server.
const recordedAt = "127.0.0.1:29142"

// Why a recorded case is not met. A case that is met and listed is an error,
// so that the list stays true.
const (
	ownText   = "adamant has a help and a version of its own"
	spared    = "the recorded client fails because the broker is away; adamant runs the plan without"
	slowStart = "the recorded client gives up at the server's 500; adamant sees the plan start and end"
	needsKill = "needs a server that dies; not run here"
)

var knownDifferences = map[string]string{
	"help": ownText, "help-controller": ownText, "help-controller-plans": ownText,
	"help-controller-devices": ownText, "help-controller-run": ownText, "help-controller-state": ownText,
	"help-controller-pause": ownText, "help-controller-resume": ownText, "help-controller-abort": ownText,
	"help-controller-stop": ownText, "help-controller-env": ownText, "help-controller-get-python-env": ownText, "help-controller-listen": ownText,
	"version": ownText,

	"broker-down-run":      spared,
	"run-slow-start":       slowStart,
	"run-server-killed-ws": needsKill,
}

// TestGolden runs what was recorded and compares stdout and exit status.
func TestGolden(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/golden/index.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	var equal, stderrEqual atomic.Int32
	var all sync.WaitGroup
	slots := make(chan struct{}, 16) // most cases of a run only wait
	for _, c := range cases {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(c.Name, func(t *testing.T) {
				same, stderrSame := c.check(t)
				if same {
					equal.Add(1)
				}
				if stderrSame {
					stderrEqual.Add(1)
				}
			})
		})
	}
	all.Wait()
	t.Logf("%d of %d recorded cases equal in stdout and exit status; stderr too in %d",
		equal.Load(), len(cases), stderrEqual.Load())
}

// check compares what the program prints with the recording.
func (c golden) check(t *testing.T) (same, stderrSame bool) {
	reason := knownDifferences[c.Name]
	if reason == needsKill {
		t.Skip(reason)
	}
	want, err := os.ReadFile(filepath.Join("testdata/golden", c.Stdout))
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, exit := c.run(t, string(want))
	same = withoutIDs(stdout) == withoutIDs(string(want)) && exit == c.Exit
	switch {
	case same && reason != "":
		t.Errorf("equal now: take it off the list of known differences (%s)", reason)
	case !same && reason == "":
		t.Errorf("%q\nexit %d, not %d\nstdout %q\nnot    %q\nstderr %q\nwas    %q",
			c.Argv, exit, c.Exit, stdout, want, stderr, c.Stderr)
	}
	return same, stderr == c.Stderr
}

// run runs the program as the recorded client was run, against a server that
// is in the state that the name of the case tells.
func (c golden) run(t *testing.T, want string) (stdout, stderr string, exit int) {
	t.Helper()
	server := newReplay(t, sceneOf(c.Name))
	broker, brokerAt := newTestBroker(t)
	here := strings.NewReplacer(recordedAt, strings.TrimPrefix(server.URL, "http://"), recordedBroker, brokerAt)
	server.publish = func(task string) {
		for _, e := range c.events(t, task) {
			broker.Publish(blueapi.DefaultDestination, e)
		}
	}

	dir := t.TempDir()
	configs, err := filepath.Glob("testdata/golden/config/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range configs {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(here.Replace(string(b))), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	out := watch(func(s string) bool { return withoutIDs(s) == withoutIDs(want) })
	errs := watch(func(s string) bool { return strings.HasSuffix(s, "\nPress enter to exit\n") })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // one that listens may wait for ever
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0]) // TestMain has put it in PATH
	for _, arg := range c.Argv[1:] {
		cmd.Args = append(cmd.Args, here.Replace(arg))
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, errs
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TZ=UTC", quickExit}
	for k, v := range c.Env {
		cmd.Env = append(cmd.Env, k+"="+here.Replace(v))
	}
	var stdin io.WriteCloser
	if strings.HasPrefix(c.Name, "listen-") {
		if stdin, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var attended sync.WaitGroup
	attended.Go(func() { c.attend(cmd, stdin, want, broker, server.started, out, errs, ended) })
	defer attended.Wait()
	defer close(ended)
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return out.String(), strings.ReplaceAll(errs.String(), brokerAt, recordedBroker), cmd.ProcessState.ExitCode()
}

func sceneOf(name string) (s scene) {
	has := func(part string) bool { return strings.Contains(name, part) }
	switch {
	case has("not-logged-in"):
		s.deny = true
	case strings.HasPrefix(name, "busy-"):
		s = scene{state: "worker-state-running", start: "start-other-busy"}
	case strings.HasPrefix(name, "running-"):
		s.state = "worker-state-running"
	case strings.HasPrefix(name, "paused-"):
		s = scene{state: "worker-state-paused", start: "start-other-while-paused"}
	case has("interrupted"):
		s = scene{state: "worker-state-running", end: "task-running"}
	case has("aborted-elsewhere"):
		s.end = "task-aborted"
	case has("stopped-elsewhere"):
		s.end = "task-stopped"
	case has("paused-elsewhere"):
		s = scene{state: "worker-state-paused", end: "task-paused"}
	case has("slow-start"):
		s = scene{start: "start-slow", end: "task-slow-ended"}
	}
	return s
}

var idPattern = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// withoutIDs takes out what differs from run to run.
func withoutIDs(s string) string { return idPattern.ReplaceAllString(s, "ID") }
