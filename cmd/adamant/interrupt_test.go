package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
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

// TestInterruptOfEachCommand: while a command waits for an answer it can be left.
func TestInterruptOfEachCommand(t *testing.T) {
	t.Parallel()
	own, blueapis := commands()
	for _, args := range append(own, blueapis...) {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				interrupt()
				<-r.Context().Done() // and no answer
			}))
			t.Cleanup(s.Close)
			stdout, stderr, got := runHere(ctx, s.URL, args...)
			if args[0] == "controller" {
				if strings.TrimPrefix(stdout, "Reloading environment\n") != "" || stderr != "\nAborted!\n" || got != statusError {
					t.Errorf("exit status %d, stdout %q, stderr %q", got, stdout, stderr)
				}
			} else if stdout != "" || !strings.HasPrefix(stderr, "adamant: interrupted") || got != statusInterrupted {
				t.Errorf("exit status %d, stdout %q, stderr %q", got, stdout, stderr)
			}
		})
	}
}

// TestNobodyReads: a reader that has gone ends the program, as it ends cat.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := exec.CommandContext(t.Context(), "adamant", "-h", newReplay(t, scene{}).URL, "plans")
	cmd.Env = append(os.Environ(), quickExit)
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &errs
	err = cmd.Run()
	if got, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !got.Signaled() || got.Signal() != syscall.SIGPIPE || errs.Len() > 0 {
		t.Errorf("%v, stderr %q", err, &errs)
	}
}
