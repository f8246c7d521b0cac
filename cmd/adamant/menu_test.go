package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestMenuAnswers: an answer is what was typed after the question.
func TestMenuAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in, keyboard := io.Pipe()
		var stderr bytes.Buffer
		w := &follower{app: &app{ui: &ui{in: in, err: &stderr}}, plan: "nap"}
		interrupts := make(chan struct{}, 1)
		menu := func(typed func()) (detach bool) {
			t.Helper()
			answer := make(chan bool, 1)
			go func() { answer <- w.menu(t.Context(), interrupts) }()
			synctest.Wait()
			select {
			case detach := <-answer:
				t.Errorf("answered before anything was typed: detach %v", detach)
				return detach
			default:
			}
			typed()
			select {
			case detach := <-answer:
				return detach
			case <-time.After(time.Second):
				t.Errorf("no answer")
				interrupts <- struct{}{}
				return <-answer
			}
		}
		line := func(s string) func() {
			return func() {
				if _, err := io.WriteString(keyboard, s); err != nil {
					t.Error(err)
				}
			}
		}
		if menu(line("w\n")) {
			t.Error("w detaches")
		}
		line("d\n")() // nobody has asked
		synctest.Wait()
		if menu(line(" Watch \n")) {
			t.Error("watch detaches")
		}
		if !menu(line("x\nd\n")) {
			t.Error("d does not detach")
		}
		if !menu(func() { interrupts <- struct{}{} }) {
			t.Error("an interrupt does not detach")
		}
		if !menu(func() { keyboard.Close() }) {
			t.Error("the end of the input does not detach")
		}
	})
}

// TestMenuCommandAndTheEnd: the answer to an abort from the menu is lost, and the end of the
// plan is heard of before it is clear that this was the abort's doing.
func TestMenuCommandAndTheEnd(t *testing.T) {
	t.Parallel()
	s, url, _ := simulated(t)
	broker, err := s.ListenBroker("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "stomp: {enabled: true, url: tcp://%s}\n", broker), 0o600); err != nil {
		t.Fatal(err)
	}
	keyboard, typing := io.Pipe()
	defer typing.Close()
	var stdout, stderr bytes.Buffer
	u := &ui{in: keyboard, out: &stdout, err: &stderr, terminal: true, keyboard: true, interrupts: new(interrupts)}
	var asked atomic.Bool
	s.Inject(
		sim.When(sim.Request("PUT", "/worker/state"), sim.First(1, sim.LoseAnswer(sim.Reset))),
		sim.When(sim.Request("GET", "/tasks/*"), func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			if !asked.Load() && u.interrupts.pass() { // somebody hears it: the run is followed
				asked.Store(true)
				go func() { _, _ = io.WriteString(typing, "a\n") }()
			}
			return next()
		}),
	)
	got := run(t.Context(), []string{"adamant", "-c", file, "-h", url, "run", "nap", "seconds=30", "-i", "cm1-1"}, u)
	if got != statusAborted || strings.Contains(stderr.String(), "interrupted") || !strings.Contains(stderr.String(), "adamant: plan nap was aborted (task ") {
		t.Errorf("exit status %d, stderr %q", got, &stderr)
	}
}
