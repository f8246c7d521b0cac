package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestResumeAsks: at a terminal a resume is explained, and done only after a yes.
func TestResumeAsks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		args         []string
		state        string
		asked        bool
		want         status
	}{
		{"yes", "y\n", []string{"resume"}, "worker-state-paused", true, statusDone},
		{"in full", " Yes\n", []string{"resume"}, "worker-state-paused", true, statusDone},
		{"no", "n\n", []string{"resume"}, "worker-state-paused", true, statusError},
		{"return", "\n", []string{"resume"}, "worker-state-paused", true, statusError},
		{"nothing", "", []string{"resume"}, "worker-state-paused", true, statusError},
		{"told not to ask", "", []string{"resume", "--yes"}, "worker-state-paused", false, statusDone},
		{"nothing to resume", "", []string{"resume"}, "worker-state-running", false, statusError},
		{"as blueapi", "", []string{"controller", "resume"}, "worker-state-paused", false, statusDone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := newReplay(t, scene{state: tt.state})
			var out, errs bytes.Buffer
			u := &ui{in: strings.NewReader(tt.answer), out: &out, err: &errs, terminal: true, keyboard: true}
			got := run(t.Context(), append([]string{"adamant", "-h", server.URL}, tt.args...), u)
			if got != tt.want || strings.Contains(errs.String(), "Resume the plan? [y/N] ") != tt.asked {
				t.Errorf("exit status %d, not %d, stderr %q", got, tt.want, &errs)
			}
			if resumed := out.Len() > 0; resumed != (tt.want == statusDone) {
				t.Errorf("stdout %q", &out)
			}
		})
	}
}

// TestQuestionIsLeft: an interrupt is an answer too.
func TestQuestionIsLeft(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	keyboard, _ := io.Pipe()
	defer keyboard.Close()
	asked := writerFunc(func(b []byte) (int, error) {
		if strings.Contains(string(b), "[y/N]") {
			interrupt()
		}
		return len(b), nil
	})
	var out bytes.Buffer
	u := &ui{in: keyboard, out: &out, err: asked, terminal: true, keyboard: true}
	server := newReplay(t, scene{state: "worker-state-paused"})
	if got := run(ctx, []string{"adamant", "-h", server.URL, "resume"}, u); got != statusInterrupted || out.Len() > 0 {
		t.Errorf("exit status %d, stdout %q", got, &out)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestProgress: how long is said again and again, at a terminal.
func TestProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var stderr bytes.Buffer
		u := &ui{err: &stderr, terminal: true}
		stop := u.progress("the new environment")
		other := u.notifier()
		other.Waiting("the server to answer")
		time.Sleep(25 * time.Second)
		other.Over()
		stop()
		time.Sleep(time.Minute)
		const want = "adamant: waiting for the new environment\n" +
			"adamant: waiting for the new environment (10 s so far)\n" +
			"adamant: waiting for the new environment (20 s so far)\n"
		if got := stderr.String(); got != want {
			t.Errorf("said %q", got)
		}
	})
}
