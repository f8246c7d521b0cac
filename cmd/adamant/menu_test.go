package main

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"
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
