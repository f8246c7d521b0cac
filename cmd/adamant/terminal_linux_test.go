package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns a terminal, and what somebody sees who looks at it.
func openTerminal(t *testing.T) (terminal *os.File, seen func() string) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty := newTTY(80, 24)
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(tty, screen) }) // until the terminal is closed
	return terminal, func() string {
		terminal.Close()
		reading.Wait()
		return tty.text()
	}
}

// TestDryRunAtTerminal: what would be submitted stays on the terminal, however long the
// server takes.
func TestDryRunAtTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	terminal, seen := openTerminal(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(3 * paintEvery)
		w.Header().Set("X-Blueapi-Version", "1.21.1")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"name": "nap", "description": null, "schema": {}}`)
	}))
	t.Cleanup(s.Close)
	got := run(t.Context(), []string{"adamant", "-h", s.URL, "run", "nap", "-i", "cm12345-1", "--dry-run"}, newUI(terminal, terminal, terminal))
	const want = `{"name":"nap","params":{},"instrument_session":"cm12345-1"}`
	if text := seen(); got != statusDone || strings.TrimSpace(text) != want {
		t.Errorf("exit status %d, %q", got, text)
	}
}

// TestInterruptWhileParamsAreRead: parameters that do not come to an end can be left.
func TestInterruptWhileParamsAreRead(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "params")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var typing sync.WaitGroup
	typing.Go(func() {
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // when it is read
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Close()
		interrupt()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("the interrupt is not heard")
		}
	})
	defer typing.Wait()
	defer close(ended)
	stdout, stderr, got := runHere(ctx, "http://127.0.0.1:1", "run", "nap", "@"+pipe, "-i", "cm12345-1")
	if got != statusInterrupted || stdout != "" || stderr != "adamant: interrupted\n" {
		t.Errorf("exit status %d, stdout %q, stderr %q", got, stdout, stderr)
	}
}

// TestBarsBesidePipe: bars would wipe off what another program prints to the terminal.
func TestBarsBesidePipe(t *testing.T) {
	t.Setenv("TERM", "xterm")
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer pipe.Close()
	terminal, seen := openTerminal(t)
	defer seen()
	for _, tt := range []struct {
		name string
		out  *os.File
		f    format
		bars bool
	}{
		{"a terminal", terminal, compact, true},
		{"a file", file, compact, true},
		{"a pipe", pipe, compact, false},
		{"a pipe, for JSON", pipe, jsonText, true},
	} {
		d := (&app{ui: newUI(terminal, tt.out, terminal)}).display("count", tt.f)
		if bars := d.screen.stop != nil; bars != tt.bars {
			t.Errorf("%s: bars %v", tt.name, bars)
		}
		d.close()
	}
}
