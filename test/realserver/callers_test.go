//go:build linux && realserver

package realserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// call is what callers.py is told to do.
type call struct {
	Call    string         `json:"call"`             // run, start, poll, supervisor, raw
	Config  string         `json:"config,omitempty"` // empty: what BLUEAPI_CONFIG says
	Plan    string         `json:"plan,omitempty"`
	Params  map[string]any `json:"params,omitempty"`
	Samples []string       `json:"samples,omitempty"`
	Seconds float64        `json:"seconds,omitempty"`
}

// reply is what a caller was told in the end.
type reply struct {
	Error  string          `json:"error"` // the exception; "hangs" if nothing came
	Result json.RawMessage `json:"result"`
	Took   float64         `json:"took"` // seconds
}

// outcome says how the plan ended by what a caller was told of it.
func (a reply) outcome() string {
	var status struct {
		Failed bool `json:"task_failed"`
		Result *struct{ Outcome, Type, Message string }
	}
	switch {
	case a.Error != "":
		return a.Error
	case json.Unmarshal(a.Result, &status) != nil || status.Result == nil:
		return "no outcome: " + string(a.Result)
	case status.Failed || status.Result.Outcome != "success":
		return fmt.Sprintf("the plan failed: %s: %s", status.Result.Type, status.Result.Message)
	}
	return "success"
}

// python is a Python process that calls as it is told, one call after another.
type python struct {
	mu     sync.Mutex
	cmd    *exec.Cmd // nil: it has to be started
	in     io.WriteCloser
	out    chan []byte // its lines; closed when it has ended
	stderr *bytes.Buffer
}

// callers serves all tests: its start takes seconds.
var callers python

// do has it make a call, and waits for what comes of it. Who hangs is killed.
func (p *python) do(t *testing.T, interpreter string, c call, patience time.Duration) reply {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		p.start(t, interpreter)
	}
	line, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("callers.py: %v\n%s", err, p.stderr)
	}
	select {
	case line, ok := <-p.out:
		if !ok {
			p.end()
			t.Fatalf("callers.py ended\n%s", p.stderr)
		}
		return answerOf(t, line)
	case <-time.After(patience):
		p.end()
		return reply{Error: "hangs", Took: time.Since(begin).Seconds()}
	}
}

func answerOf(t *testing.T, line []byte) (a reply) {
	t.Helper()
	if err := json.Unmarshal(line, &a); err != nil {
		t.Errorf("callers.py: %v: %q", err, line)
	}
	return a
}

func (p *python) start(t *testing.T, interpreter string) {
	t.Helper()
	p.cmd = exec.Command(interpreter, "callers.py")
	p.cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "MPLBACKEND=Agg")
	p.stderr = new(bytes.Buffer)
	p.cmd.Stderr = p.stderr
	p.cmd.WaitDelay = time.Second
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, make(chan []byte, 1)
	go func(lines chan<- []byte) {
		defer close(lines)
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, 16<<20) // the errors of a plan can be long
		for scanner.Scan() {
			lines <- bytes.Clone(scanner.Bytes())
		}
	}(p.out)
}

// end kills it.
func (p *python) end() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // fails if it has ended
		_ = p.cmd.Wait()         // it was killed
		p.cmd = nil
	}
}

// caller is a kind of program that uses blueapi, with a plan that it runs.
type caller struct {
	name   string
	broker bool     // it is told of one
	call   string   // of callers.py; or
	words  []string // of the Python client's command line
	// looks is a caller that runs no plan: it is watched while one runs.
	looks bool
}

func realCallers() []caller {
	return []caller{
		{name: "run_task by STOMP", call: "run", broker: true},
		{name: "run_task by WebSocket", call: "run"},
		{name: "create_and_start_task, get_task", call: "start"},
		{name: "aiohttp", call: "raw"},
		{name: "state 10/s", call: "poll", looks: true},
		{name: "controller run --stomp", words: []string{"run", "--stomp"}, broker: true},
		{name: "controller run --ws", words: []string{"run", "--ws"}},
		{name: "controller plans", words: []string{"plans"}, looks: true},
		{name: "controller state", words: []string{"state"}, looks: true},
	}
}

// ask has the caller do what it does, and says what came of it: "success", or what went
// wrong.
func (c caller) ask(t *testing.T, l *line, p plan, patience time.Duration) (outcome string, took time.Duration) {
	t.Helper()
	config := l.config(t, c.broker)
	if c.call != "" {
		what := call{Call: c.call, Config: config, Plan: p.name, Params: p.params, Seconds: 3}
		var a reply
		if l.through == "exec" {
			a = l.once(t, what, patience)
		} else {
			a = callers.do(t, l.server.Python, what, patience)
		}
		took = time.Duration(a.Took * float64(time.Second))
		if c.looks && a.Error == "" {
			return "success", took
		}
		return a.outcome(), took
	}
	args := []string{l.server.CLI, "-c", config, "controller"}
	args = append(args, c.words...)
	if !c.looks {
		args = append(args, "-i", "cm12345-1", p.name, p.json())
	}
	e := execute(t, patience, l.command(t, config, args))
	want := "Plan succeeded\n"
	switch c.name {
	case "controller state":
		want = "RUNNING\n"
	case "controller plans":
		want = l.plans(t)
	}
	switch {
	case e.exit < 0:
		return "hangs", e.took
	case e.exit != 0:
		lines := strings.Split(strings.TrimSpace(e.stderr), "\n")
		return fmt.Sprintf("exit %d: %s", e.exit, lines[len(lines)-1]), e.took
	case e.stdout != want:
		return fmt.Sprintf("stdout is %q", e.stdout), e.took
	}
	return "success", e.took
}

// plans is what `controller plans` prints with nothing in between. It does not change.
func (l *line) plans(t *testing.T) string {
	t.Helper()
	if printedPlans == "" {
		printedPlans = execute(t, time.Minute, []string{l.server.CLI, "-c", l.server.ClientConfig, "controller", "plans"}).stdout
	}
	return printedPlans
}

var printedPlans string

// once is callers.py for a single call, as a child of exec.
func (l *line) once(t *testing.T, c call, patience time.Duration) reply {
	t.Helper()
	config := c.Config
	c.Config = ""
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs("callers.py")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args := l.command(t, config, []string{l.server.Python, here, string(text)})
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = homed(t.TempDir(), "BLUEAPI_CONFIG="+config, "PYTHONDONTWRITEBYTECODE=1", "MPLBACKEND=Agg")
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return reply{Error: "hangs", Took: patience.Seconds()}
		}
		t.Errorf("%v: %v\n%s", args[:2], err, &stderr)
	}
	a := answerOf(t, bytes.TrimSpace(stdout.Bytes()))
	t.Logf("exec says: %s", lastLine(stderr.String()))
	return a
}
