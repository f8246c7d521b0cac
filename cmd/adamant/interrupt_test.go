package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// An interrupt ends the waiting, not the plan, and the exit status tells which
// of the two it met.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	t.Run("before anything was started", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan struct{})
		go func() {
			conn, err := l.Accept() // and no answer
			if err == nil {
				close(asked)
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}
		}()
		t.Cleanup(func() { l.Close() })
		exit, stderr := interrupted(t, asked, "http://"+l.Addr().String())
		if exit != int(statusInterrupted) || stderr != "adamant: interrupted; plan nap was not started\n" {
			t.Errorf("exit status %d, stderr %q", exit, stderr)
		}
	})
	t.Run("while the plan runs", func(t *testing.T) {
		t.Parallel()
		server := newReplay(t, scene{state: "worker-state-running", end: "task-running"})
		exit, stderr := interrupted(t, server.started, server.URL)
		if exit != int(statusStillRunning) || !strings.HasPrefix(stderr, "adamant: interrupted; plan nap goes on: ") {
			t.Errorf("exit status %d, stderr %q", exit, stderr)
		}
	})
}

// interrupted runs a plan and interrupts the program when something has
// happened.
func interrupted(t *testing.T, when <-chan struct{}, url string) (exit int, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "adamant", "-h", url, "run", "nap", `{"seconds": 6}`, "-i", "cm12345-1")
	cmd.Env = append(os.Environ(), quickExit)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-when:
			_ = cmd.Process.Signal(os.Interrupt)
		case <-ended:
		}
	}()
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if out.Len() > 0 {
		t.Errorf("stdout %q", &out)
	}
	return cmd.ProcessState.ExitCode(), errs.String()
}
