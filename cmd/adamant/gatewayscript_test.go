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

// scriptGateway is "adamant gateway" as a script runs it.
type scriptGateway struct {
	ctx   context.Context
	cmd   *exec.Cmd
	admin string
	out   *bufio.Reader
}

type scriptGatewayKey struct{}

// scripted is the command gateway of scripts:
//
//	gateway start [ARGS...]    starts it on free ports, before the server of BLUEAPI_HOST,
//	                           and points what follows to it; what it says is in
//	                           gateway.err
//	gateway ask METHOD PATH    asks it, once, as a caller; the answer is in ask.out
//	gateway admin METHOD PATH  asks its admin listener; the answer is in admin.out
//	gateway end                ends it, which must succeed
func scripted(ts *testscript.TestScript, _ bool, args []string) {
	g := ts.Value(scriptGatewayKey{}).(*scriptGateway)
	switch args[0] {
	case "start":
		g.start(ts, args[1:])
	case "ask":
		g.ask(ts, args[1], ts.Getenv("BLUEAPI_HOST")+args[2], "ask.out")
	case "admin":
		g.ask(ts, args[1], g.admin+args[2], "admin.out")
	case "end":
		ts.Check(g.cmd.Process.Signal(syscall.SIGTERM))
		_, err := io.Copy(io.Discard, g.out)
		ts.Check(err)
		ts.Check(g.cmd.Wait())
	default:
		ts.Fatalf("gateway %s?", args[0])
	}
}

func (g *scriptGateway) start(ts *testscript.TestScript, args []string) {
	args = append([]string{"gateway", "--upstream", ts.Getenv("BLUEAPI_HOST"), "--listen", ":0", "--admin", "localhost:0"}, args...)
	g.cmd = exec.CommandContext(g.ctx, "adamant", args...)
	g.cmd.Dir = ts.MkAbs(".")
	g.cmd.Env = append(os.Environ(), quickExit, "XDG_STATE_HOME="+ts.Getenv("XDG_STATE_HOME"))
	errs, err := os.Create(ts.MkAbs("gateway.err"))
	ts.Check(err)
	ts.Defer(func() { _ = errs.Close() })
	g.cmd.Stderr = errs
	out, err := g.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(g.cmd.Start())
	g.out = bufio.NewReader(out)
	next := func(what string) string {
		line, err := g.out.ReadString('\n')
		addr, ok := strings.CutPrefix(line, what+" 127.0.0.1:")
		if err != nil || !ok {
			said, _ := os.ReadFile(errs.Name())
			ts.Fatalf("%q, %v: %s", line, err, said)
		}
		return "http://127.0.0.1:" + strings.TrimSpace(addr)
	}
	ts.Setenv("BLUEAPI_HOST", next("http"))
	g.admin = next("admin")
}

func (g *scriptGateway) ask(ts *testscript.TestScript, method, url, into string) {
	r, err := http.NewRequestWithContext(g.ctx, method, url, nil)
	ts.Check(err)
	resp, err := new(http.Client).Do(r)
	ts.Check(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(into), append([]byte(resp.Status+"\n"), b...), 0o600))
}
