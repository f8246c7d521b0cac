package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// execRun is "adamant exec -- caller run" before a simulator.
type execRun struct {
	t      *testing.T
	server sim.Server
	cmd    *exec.Cmd
	stderr bytes.Buffer
	report string
}

func newExecRun(t *testing.T) *execRun {
	r := &execRun{t: t}
	t.Cleanup(r.server.Close)
	at, err := r.server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r.report = filepath.Join(dir, "report.json")
	config := filepath.Join(dir, "client.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "api: {url: http://%s}\n", at), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.CommandContext(t.Context(), "adamant", "exec", "--report", r.report, "--", "caller", "-c", config, "run", "1")
	r.cmd.Env = append(os.Environ(), quickExit, "HOME="+dir, "XDG_STATE_HOME="+dir, "TMPDIR="+dir, "XDG_RUNTIME_DIR=")
	r.cmd.Stderr = &r.stderr
	return r
}

// childrenOf are the processes that a process has started, by a word of their command
// lines.
func childrenOf(t *testing.T, parent int, word string) (pids []int) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if fields[1] == strconv.Itoa(parent) && fields[0] != "Z" && slices.Contains(strings.Split(string(line), "\x00"), word) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func (r *execRun) killGateway() {
	pids := childrenOf(r.t, r.cmd.Process.Pid, "gateway")
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if len(pids) != 1 {
		r.t.Errorf("exec has the gateways %v", pids)
	}
}

// TestExecGatewayKilled kills the gateway of a command that submits, starts and polls:
// between two of its calls, which notices nothing, and while the server answers one,
// which fails. The plan ran once, however often it was asked to start.
func TestExecGatewayKilled(t *testing.T) {
	t.Parallel()
	type kill struct {
		between bool // after the k-th answer that the caller got
		k       int
		before  bool // the server had not done yet what was asked for
	}
	var all []kill
	for k := 1; k <= 4; k++ {
		all = append(all, kill{between: true, k: k})
	}
	for k := 1; k <= 10; k++ { // POST, and what goes with PUT
		all = append(all, kill{k: k, before: true}, kill{k: k})
	}
	if os.Getenv("ADAMANT_SWEEP") != "all" {
		rng := rand.New(rand.NewPCG(6, 1))
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:6]
	}
	for _, at := range all {
		t.Run(fmt.Sprintf("%+v", at), func(t *testing.T) {
			t.Parallel()
			r := newExecRun(t)
			started := make(chan struct{})
			kill := sync.OnceFunc(func() {
				<-started
				r.killGateway()
			})
			if !at.between {
				r.server.Inject(sim.Nth(at.k, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
					if at.before {
						kill()
						return next()
					}
					defer kill()
					return next()
				}))
			}
			out, err := r.cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := r.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			close(started)
			var said []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if said = append(said, lines.Text()); at.between && len(said) == at.k {
					kill()
				}
			}
			err = r.cmd.Wait()
			text := strings.Join(said, "\n")
			if err != nil || !strings.Contains(text, "complete: true") {
				t.Errorf("%v: %s\n%s", err, text, &r.stderr)
			}
			if at.between && !strings.Contains(text, "errors: 0") {
				t.Errorf("between two calls: %s", text)
			}
			if n := len(r.server.Runs()); n != 1 {
				t.Errorf("the plan ran %d times: %s", n, text)
			}
			var report execReport
			b, err := os.ReadFile(r.report)
			if err == nil {
				err = json.Unmarshal(b, &report)
			}
			if err != nil || report.Restarts != 1 || len(report.Started) != 1 {
				t.Errorf("%v: %s", err, b)
			}
			t.Logf("%s\n%s", text, &r.stderr)
		})
	}
}

// TestExecKilled: when exec is killed its gateway goes too, and its files when there is
// another exec.
func TestExecKilled(t *testing.T) {
	t.Parallel()
	r := newExecRun(t)
	r.cmd.Stderr = nil // or Wait would wait for the command that lives on
	r.cmd.Args = []string{"adamant", "-h", "http://127.0.0.1:1", "exec", "--", "caller", "wait"}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	gateways, callers := childrenOf(t, r.cmd.Process.Pid, "gateway"), childrenOf(t, r.cmd.Process.Pid, "wait")
	if len(gateways) != 1 || len(callers) != 1 {
		t.Fatalf("gateways %v, callers %v", gateways, callers)
	}
	t.Cleanup(func() { _ = syscall.Kill(callers[0], syscall.SIGKILL) })
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = r.cmd.Wait()
	for processLives(gateways[0]) {
		time.Sleep(time.Millisecond)
	}
	if !processLives(callers[0]) {
		t.Error("the command was ended too")
	}

	dir := filepath.Dir(r.report)
	found, err := filepath.Glob(filepath.Join(dir, privatePrefix+"*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	old := time.Now().Add(-2 * orphanAge)
	if err := os.Chtimes(found[0], old, old); err != nil {
		t.Fatal(err)
	}
	removeOrphans(dir)
	if _, err := os.Stat(found[0]); !os.IsNotExist(err) {
		t.Errorf("the files stay: %v", err)
	}
}

// processLives tells whether a process is there, and not only what is left of one.
func processLives(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(b[bytes.LastIndexByte(b, ')'):], []byte(") Z"))
}
