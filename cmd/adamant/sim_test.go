package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// simulator is "adamant sim" as a script runs it.
type simulator struct {
	ctx     context.Context
	cmd     *exec.Cmd
	control string // URL
	out     *bufio.Reader
}

type simulatorKey struct{}

// simulate is the command sim of scripts:
//
//	sim start [ARGS...]           starts it on free ports and points what follows to it;
//	                              what it says is in sim.out and sim.err
//	sim control METHOD PATH BODY  asks its controls; the answer is in control.out
//	sim end SIGNAL                ends it, which must succeed
func simulate(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value(simulatorKey{}).(*simulator)
	switch args[0] {
	case "start":
		s.start(ts, append([]string{"-v", "sim", "--listen", "127.0.0.1:0"}, args[1:]...))
	case "control":
		s.ask(ts, args[1], args[2], strings.Join(args[3:], " "))
	case "end":
		s.end(ts, args[1])
	default:
		ts.Fatalf("sim %s?", args[0])
	}
}

func (s *simulator) start(ts *testscript.TestScript, args []string) {
	s.cmd = exec.CommandContext(s.ctx, "adamant", args...)
	s.cmd.Env = append(os.Environ(), quickExit)
	errs, err := os.Create(ts.MkAbs("sim.err"))
	ts.Check(err)
	ts.Defer(func() { _ = errs.Close() })
	s.cmd.Stderr = errs
	out, err := s.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(s.cmd.Start())
	s.out = bufio.NewReader(out)
	url, err := s.out.ReadString('\n')
	ts.Check(err)
	control, err := s.out.ReadString('\n')
	ts.Check(err)
	s.control = strings.TrimSpace(strings.TrimPrefix(control, "control: "))
	ts.Setenv("BLUEAPI_HOST", strings.TrimSpace(url))
	ts.Check(os.WriteFile(ts.MkAbs("sim.out"), []byte(url+control), 0o600))
}

func (s *simulator) ask(ts *testscript.TestScript, method, path, body string) {
	r, err := http.NewRequestWithContext(s.ctx, method, s.control+path, strings.NewReader(body))
	ts.Check(err)
	var client http.Client
	resp, err := client.Do(r)
	ts.Check(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("control.out"), append([]byte(resp.Status+"\n"), b...), 0o600))
}

func (s *simulator) end(ts *testscript.TestScript, signal string) {
	signals := map[string]os.Signal{"SIGINT": os.Interrupt, "SIGTERM": syscall.SIGTERM}
	ts.Check(s.cmd.Process.Signal(signals[signal]))
	rest, err := io.ReadAll(s.out)
	ts.Check(err)
	if len(rest) > 0 {
		ts.Fatalf("stdout has %q too", rest)
	}
	ts.Check(s.cmd.Wait())
}
