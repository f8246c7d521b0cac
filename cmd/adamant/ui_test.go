package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMessagesHaveNoControlCharacters(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	u := &ui{err: &stderr}
	u.message("Error: \x1b[2Jgone\r\x00\u009b\n\tkept é")
	if got, want := stderr.String(), "Error: \\x1b[2Jgone\\x0d\\x00\\x9b\n\tkept é\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestResultThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	u := &ui{out: fullDisk{}, err: &stderr}
	if got := run(t.Context(), []string{"adamant", "--version"}, u); got != statusError {
		t.Errorf("exit status %d, want %d", got, statusError)
	}
	if got, want := stderr.String(), "adamant: cannot write the result: no space left\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestNotifier(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		terminal bool
		quiet    bool
		waits    func(*notifier)
		want     []string
	}{
		{"short", true, false, func(n *notifier) {
			n.Waiting("the server")
			time.Sleep(1900 * time.Millisecond)
			n.Over()
		}, nil},
		{"long", true, false, func(n *notifier) {
			for range 30 { // said once, however often it is said to go on
				n.Waiting("the server")
				time.Sleep(100 * time.Millisecond)
			}
		}, []string{"adamant: waiting for the server"}},
		{"what changes", true, false, func(n *notifier) {
			n.Waiting("the server")
			time.Sleep(time.Second)
			n.Waiting("the plan")
			time.Sleep(1500 * time.Millisecond)
			n.Waiting("the task")
			time.Sleep(time.Millisecond)
		}, []string{"adamant: waiting for the plan", "adamant: waiting for the task"}},
		{"two waits", true, false, func(n *notifier) {
			n.Waiting("the server")
			time.Sleep(3 * time.Second)
			n.Over()
			n.Waiting("the server")
			time.Sleep(3 * time.Second)
		}, []string{"adamant: waiting for the server", "adamant: waiting for the server"}},
		{"no terminal", false, false, func(n *notifier) {
			n.Waiting("the server")
			time.Sleep(3 * time.Second)
		}, nil},
		{"quiet", true, true, func(n *notifier) {
			n.Waiting("the server")
			time.Sleep(3 * time.Second)
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var stderr bytes.Buffer
				n := (&ui{err: &stderr, terminal: tt.terminal, quiet: tt.quiet}).notifier()
				tt.waits(n)
				synctest.Wait()
				n.Over()
				want := ""
				for _, line := range tt.want {
					want += line + "\n"
				}
				if got := stderr.String(); got != want {
					t.Errorf("said %q, want %q", strings.Split(got, "\n"), tt.want)
				}
			})
		})
	}
}
