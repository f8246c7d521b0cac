package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// resumeInShort is aboutResume for a line.
const resumeInShort = "1.21 aborts it if it takes data, and answers nobody meanwhile"

// hear has interrupts at a terminal ask what to do, until quiet is called.
func (w *follower) hear(ctx context.Context, leave context.CancelCauseFunc) (quiet func()) {
	u := w.app.ui
	if !u.canAsk() || u.voice == asBlueapi {
		return func() {}
	}
	interrupts, giveBack := u.interrupts.take()
	ctx, cancel := context.WithCancel(ctx)
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for {
			select {
			case <-interrupts:
				if w.menu(ctx, interrupts) {
					leave(errDetached)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		hearing.Wait()
		giveBack()
	}
}

// menu asks what to do with the plan, and does it. It reports whether the user
// detaches, as by a second interrupt, or by ending the input.
func (w *follower) menu(ctx context.Context, interrupts <-chan struct{}) (detach bool) {
	u := w.app.ui
	u.keys.forget()
	w.show.hush()
	defer w.show.speak()
	does, hold := "runs on", "p  pause it"
	if w.isPaused() {
		does, hold = "is paused", "r  resume it ("+resumeInShort+")"
	}
	u.message("\nadamant: plan " + w.plan + " " + does + ". What shall become of it?\n" +
		"    d  detach: leave it so; 'adamant attach' comes back to it\n" +
		"    " + hold + "\n" +
		"    s  stop it: end it now, and mark its data as good\n" +
		"    a  abort it: end it now, and mark its data as failed\n" +
		"    w  go on watching\n" +
		"  (a letter and Enter; Ctrl-C again detaches)")
	for {
		select {
		case line, ok := <-u.keys.lines(u.in):
			command := blueapi.Command{TaskID: w.taskID()}
			switch answer := strings.ToLower(line); {
			case !ok || answer == "d" || answer == "detach":
				return true
			case answer == "p" || answer == "pause":
				command.Verb = blueapi.Pause
			case answer == "r" || answer == "resume":
				command.Verb = blueapi.Resume
			case answer == "s" || answer == "stop":
				command.Verb = blueapi.Stop
			case answer == "a" || answer == "abort":
				command.Verb, command.Reason = blueapi.Abort, "by its user"
			case answer == "w" || answer == "watch" || answer == "":
				return false
			default:
				u.message("    which of these letters?")
				continue
			}
			return w.commandUnless(ctx, command, interrupts)
		case <-interrupts:
			return true
		case <-ctx.Done(): // it has ended by itself
			return false
		}
	}
}

// commandLimit is how long a command may take to find out what it did, when its plan has
// ended: an answer that was lost in an outage of a second is made up for by then.
const commandLimit = 3 * time.Second

// commandUnless sends a command, unless it is interrupted: then the user detaches. It ends
// with the context, or soon after the plan.
func (w *follower) commandUnless(ctx context.Context, command blueapi.Command, interrupts <-chan struct{}) (detach bool) {
	limit := controlTimeout
	if command.Verb == blueapi.Resume {
		limit = 0 // it is answered when the plan has ended
	}
	commanding, cancel := withTimeout(context.WithoutCancel(ctx), limit, w.client.Wait)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.command(commanding, command)
	}()
	for ended := ctx.Done(); ; {
		select {
		case <-ended:
			if ended = nil; w.isOver() {
				defer time.AfterFunc(commandLimit, cancel).Stop()
			} else {
				cancel()
			}
		case <-interrupts:
			cancel()
			<-done
			return true
		case <-done:
			return false
		}
	}
}
