package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// follower waits for the end of a run for its user: it shows what the plan does,
// hears interrupts, and knows what is to be done at the time-out.
type follower struct {
	app    *app
	client *blueapi.Client
	plan   string
	o      runOptions
	f      format
	show   display

	task string // the run's

	mu     sync.Mutex
	ended  blueapi.Verb // the verb by which the user has ended the plan; 0 if none
	paused bool
}

// Why the waiting for a run ends before the plan does.
var (
	errPaused   = errors.New("the plan was paused by somebody")
	errDetached = errors.New("the user detached")
	errOverdue  = errors.New("the time-out is over")
)

// follower makes a follower of a client's next run, which is not begun yet.
func (a *app) follower(c *blueapi.Client, plan string, o runOptions, f format) (*follower, error) {
	w := &follower{app: a, client: c, plan: plan, o: o, f: f}
	c.RunTrace = a.ui.observer(a.level).runs()
	if o.ground == background {
		return w, nil
	}
	broker, err := a.broker()
	if err != nil {
		return nil, err
	}
	c.Broker = broker
	w.show = a.display(plan, f)
	said := c.RunTrace.Paused
	c.RunTrace.Paused = func(task string) { w.pausedNow(true); said(task) }
	c.RunTrace.Resumed = func(string) { w.pausedNow(false); a.ui.note("the plan goes on") }
	c.RunTrace.Event = w.show.event
	c.RunTrace.Blind = func(err error) {
		a.ui.note("the message broker cannot be reached: the plan is followed by polling alone (%v)", err)
	}
	return w, nil
}

// close ends what is shown.
func (w *follower) close() { w.show.close() }

// follow waits for the end of a run, and ends with what became of it. Its waiting ends
// with limited; ctx is the command's.
func (w *follower) follow(ctx, limited context.Context, r *blueapi.Run) error {
	waiting, leave := context.WithCancelCause(limited)
	defer leave(nil)
	w.task = r.TaskID()
	if w.app.ui.voice == asBlueapi {
		w.client.RunTrace.Paused = func(string) { leave(errPaused) } // as blueapi: its run ends there
	}
	quiet := w.hear(waiting, leave)
	result, err := r.Wait(waiting)
	leave(nil)
	quiet()
	switch why := context.Cause(waiting); {
	case errors.Is(why, errPaused):
		result.Word, result.Reason, err = blueapi.Done, blueapi.NotRecorded, nil
		result.Task = w.pausedRecord(ctx)
	case overdue(result) && ctx.Err() == nil && limited.Err() != nil && w.o.atTimeout != leaveIt:
		return w.finish(ctx, r)
	}
	w.show.close()
	return w.end(ctx, context.Cause(waiting), result, err)
}

// end is how the command ends; why is the reason for which the waiting did, if it did
// before the plan.
func (w *follower) end(ctx context.Context, why error, result blueapi.Result, err error) error {
	v := w.app.ui.voice
	switch {
	case w.o.follow == byWebSocket && overdue(result) && result.Started && v == asAdamant:
		return endOfHangUp(w.f, w.plan, result)
	case errors.Is(why, errDetached) && overdue(result):
		return endOfDetach(w.f, w.plan, w.isPaused(), result)
	case overdue(result) && ctx.Err() == nil:
		return endOfTimeout(w.f, w.plan, result, w.o.timeout)
	}
	if result.EndedBy == 0 && result.Reason == blueapi.NotRecorded {
		result.EndedBy = w.endedBy()
	}
	e := endOfRun(v, w.f, w.plan, result, err)
	e.msg += w.app.whyBroken(ctx, w.client, err)
	return e
}

// finishLimit is how long the end of a plan is waited for after it was aborted or
// stopped: its clean-up may move things.
const finishLimit = time.Minute

// finish ends a plan whose time is over, and waits for that.
func (w *follower) finish(ctx context.Context, r *blueapi.Run) error {
	ctx, cancel := context.WithTimeout(ctx, finishLimit+w.client.Wait)
	defer cancel()
	verb := w.o.atTimeout.verb()
	w.app.ui.note("plan %s has not ended within %v: %s it", w.plan, w.o.timeout, verb)
	w.command(ctx, blueapi.Command{Verb: verb, TaskID: w.task, Reason: "adamant run --timeout"})
	result, err := r.Wait(ctx)
	w.show.close()
	return w.end(ctx, errOverdue, result, err)
}

// command sends a control command to the run's plan, and says what became of it.
func (w *follower) command(ctx context.Context, command blueapi.Command) {
	result, err := w.client.Control(ctx, command)
	if err == nil && (command.Verb == blueapi.Abort || command.Verb == blueapi.Stop) {
		w.mu.Lock()
		w.ended = command.Verb
		w.mu.Unlock()
	}
	e := endOfControl(asAdamant, compact, command, result, err, ctx.Err() != nil)
	if e.msg != "" {
		w.app.ui.message(e.msg)
	}
	if e.out != "" {
		w.app.ui.note("%s", e.out[:len(e.out)-1])
	}
}

func (w *follower) pausedNow(paused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = paused
}

func (w *follower) isPaused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paused
}

// endedBy is the verb by which the user has ended the plan.
func (w *follower) endedBy() blueapi.Verb {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

// pausedRecord reads the record of a plan that was just paused, which then says that
// it is complete: blueapi takes that for its end.
func (w *follower) pausedRecord(ctx context.Context) *blueapi.Task {
	for range 20 { // it is written within milliseconds after the event
		task, err := w.client.Task(ctx, w.task)
		if err != nil {
			return nil
		}
		if task.IsComplete {
			return &task
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

// atTimeout is what becomes of a plan that has not ended in the time that the user
// gave it.
type atTimeout int

const (
	leaveIt atTimeout = iota
	abortIt
	stopIt
)

func (t atTimeout) verb() blueapi.Verb {
	if t == stopIt {
		return blueapi.Stop
	}
	return blueapi.Abort
}

// Set reads what a user gives.
func (t *atTimeout) Set(s string) error {
	switch s {
	case "leave":
		*t = leaveIt
	case "abort":
		*t = abortIt
	case "stop":
		*t = stopIt
	default:
		return fmt.Errorf("'%s' is not one of 'leave', 'abort', 'stop'", s)
	}
	return nil
}

func (t *atTimeout) String() string { return "" }

// Type is how the help shows what to give.
func (t *atTimeout) Type() string { return "[leave|abort|stop]" }
