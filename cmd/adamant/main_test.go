package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	// Most tests wait for a server that is away: more of them can do that at once
	// than there are processors.
	_ = flag.Set("test.parallel", "16")
	testscript.Main(tests{m}, map[string]func(){"adamant": main, "blueapi": main, "dying": dying, "caller": caller})
}

// tests have a journal of their own: no test touches that of its user.
type tests struct{ *testing.M }

func (t tests) Run() int {
	dir, err := os.MkdirTemp("", "adamant-test")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Setenv("XDG_STATE_HOME", dir); err != nil {
		panic(err)
	}
	return t.M.Run()
}

// quickExit spares each program a second that the race detector would wait.
const quickExit = "GORACE=atexit_sleep_ms=0"

// TestScript runs the scripts of testdata/script against a server that replays
// recordings. The command scene tells it what to be like.
func TestScript(t *testing.T) {
	t.Parallel()
	scenes := map[string]scene{
		"idle":    {},
		"running": {state: "worker-state-running"},
		"paused":  {state: "worker-state-paused", start: "start-other-while-paused"},
		"busy":    {state: "worker-state-running", start: "start-other-busy"},
		"aborted": {end: "task-aborted"},
		"denied":  {deny: true},
		"broken":  {broken: true},
		"lasting": {state: "worker-state-running", end: "task-running"},
	}
	type serverKey struct{}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			server := newReplay(env.T().(testing.TB), scene{})
			env.Values[serverKey{}] = server
			env.Values[simulatorKey{}] = &simulator{ctx: env.T().(testing.TB).Context()}
			env.Values[scriptGatewayKey{}] = &scriptGateway{ctx: env.T().(testing.TB).Context()}
			env.Setenv("BLUEAPI_HOST", server.URL)
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Vars = append(env.Vars, quickExit)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"scene": func(ts *testscript.TestScript, _ bool, args []string) {
				s, ok := scenes[args[0]]
				if !ok {
					ts.Fatalf("no scene %s", args[0])
				}
				ts.Value(serverKey{}).(*replay).enter(s)
			},
			"sim":     simulate,
			"gateway": scripted,
			"until":   until,
			// status runs a command and compares its exit status.
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				if err := ts.Exec(args[1], args[2:]...); exitText(err) != args[0] {
					ts.Fatalf("%v, not %s", err, args[0])
				}
			},
		},
	})
}

func exitText(err error) string {
	if err == nil {
		return "0"
	}
	const prefix = "exit status "
	return err.Error()[min(len(prefix), len(err.Error())):]
}
