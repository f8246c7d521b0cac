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

	mu     sync.Mutex
	task   string       // the run's, or the last one that was made for it; "" if none was
	ended  blueapi.Verb // the verb by which the user has ended the plan; 0 if none
	asked  blueapi.Verb // the one that was sent for that, with whatever effect
	paused bool
	over   bool // the plan has ended
	hungUp bool // the run hung on a connection that was closed
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
	if o.ground == background || o.dryRun {
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
		a.ui.note("no events from the message broker: the plan is followed by polling alone (%v)", err)
	}
	return w, nil
}

// recordIn has the journal keep by which verb the user ends the plan.
func (w *follower) recordIn(j *runJournal) {
	if j != nil {
		j.endedBy = w.endedBy
	}
}

// close ends what is shown.
func (w *follower) close() { w.show.close() }

// follow waits for the end of a run, and ends with what became of it. Its waiting ends
// with limited; ctx is the command's.
func (w *follower) follow(ctx, limited context.Context, r *blueapi.Run) error {
	waiting, leave := context.WithCancelCause(limited)
	defer leave(nil)
	w.setTask(r.TaskID())
	if w.app.ui.voice == asBlueapi {
		w.client.RunTrace.Paused = func(string) { leave(errPaused) } // as blueapi: its run ends there
	}
	quiet := w.hear(waiting, leave)
	result, err := r.Wait(waiting)
	if err == nil {
		w.overNow()
	}
	leave(nil)
	quiet()
	switch why := context.Cause(waiting); {
	case errors.Is(why, errPaused):
		result.Word, result.Reason, err = blueapi.Done, blueapi.NotRecorded, nil
		result.Task = w.pausedRecord(ctx)
	case w.mustEnd(ctx, limited, result):
		return w.finish(ctx, r)
	}
	w.show.close()
	return w.end(ctx, context.Cause(waiting), result, err)
}

// end is how the command ends; why is the reason for which the waiting did, if it did
// before the plan.
func (w *follower) end(ctx context.Context, why error, result blueapi.Result, err error) error {
	v := w.app.ui.voice
	result = withVerb(result, w.endedBy())
	switch {
	case errors.Is(why, errDetached) && overdue(result):
		return endOfLeaving(w.f, fmt.Sprintf("detached: plan %s %s", w.plan, w.goesOn()), result)
	case overdue(result) && ctx.Err() == nil:
		return endOfTimeout(w.f, w.plan, w.goesOn(), result, w.o.timeout, err)
	case overdue(result) && result.Started && v == asAdamant:
		return endOfLeaving(w.f, fmt.Sprintf("interrupted; plan %s %s", w.plan, w.goesOn()), result)
	}
	e := endOfRun(v, w.f, w.plan, result, err)
	e.msg += w.app.whyBroken(ctx, w.client, err)
	return e
}

// goesOn is what a plan does whose user leaves it.
func (w *follower) goesOn() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.asked != 0:
		return "is not seen to have ended yet, after a request to " + w.asked.String() + " it"
	case w.paused:
		return "stays paused, until somebody resumes or ends it"
	case w.hungUp:
		return "is aborted by the server at its next event, since its web socket is closed"
	}
	return goesOnText
}

// mustEnd reports whether a run was left because its time is over, and its user wants
// the plan to end then.
func (w *follower) mustEnd(ctx, limited context.Context, result blueapi.Result) bool {
	return overdue(result) && ctx.Err() == nil && limited.Err() != nil && w.o.atTimeout != leaveIt
}

// finishLimit is how long the end of a plan is waited for after it was aborted or
// stopped: its clean-up may move things.
const finishLimit = time.Minute

// finish ends a plan whose time is over, and waits for that.
func (w *follower) finish(ctx context.Context, r *blueapi.Run) error {
	limited, cancel := context.WithTimeout(ctx, finishLimit+w.client.Wait)
	defer cancel()
	w.endPlan(limited)
	result, err := r.Wait(limited)
	w.show.close()
	return w.end(ctx, errOverdue, result, err)
}

// endPlan ends the plan as the user wants it whose time is over.
func (w *follower) endPlan(ctx context.Context) {
	verb := w.o.atTimeout.verb()
	w.app.ui.note("plan %s has not ended within %v: %s it", w.plan, w.o.timeout, verb)
	w.command(ctx, blueapi.Command{Verb: verb, TaskID: w.taskID(), Reason: "adamant run --timeout"})
}

// settle finds out whether a plan has been started whose time ended before that was
// clear, and ends it if it was. If that cannot be found out, the run ends as it was.
func (w *follower) settle(ctx context.Context, j *runJournal, unclear *blueapi.RunError) error {
	limited, cancel := context.WithTimeout(ctx, finishLimit+w.client.Wait)
	defer cancel()
	w.app.ui.note("it is not known after %v whether plan %s was started: finding out, to %s it", w.o.timeout, w.plan, w.o.atTimeout.verb())
	a := blueapi.Attachment{Plan: w.plan, TaskID: unclear.TaskID, Step: blueapi.StepStarting, Owned: true}
	if j != nil {
		run, err := j.find(limited, j.inHand())
		if err != nil {
			return w.app.endOfJournal(ctx, err)
		}
		last := beforeEnd(run)
		a.RunID, a.Step, a.At, a.EnvironmentID = run.ID, runStep(last.Step), last.At, last.Environment
	}
	r, err := w.client.Attach(limited, a)
	if err == nil {
		defer r.Close()
		w.setTask(r.TaskID())
		return w.finish(ctx, r)
	}
	settled, ok := errors.AsType[*blueapi.RunError](err)
	if !ok {
		settled = unclear
	}
	return w.end(ctx, nil, settled.Result, settled)
}

// command sends a control command to the run's plan, and says what became of it.
func (w *follower) command(ctx context.Context, command blueapi.Command) {
	result, err := w.client.Control(ctx, command)
	if result.Sent > 0 && (command.Verb == blueapi.Abort || command.Verb == blueapi.Stop) {
		w.mu.Lock()
		w.asked = command.Verb
		if err == nil {
			w.ended = command.Verb
		}
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

func (w *follower) overNow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

func (w *follower) isOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

func (w *follower) setTask(task string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.task = task
}

func (w *follower) taskID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.task
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
		task, err := w.client.Task(ctx, w.taskID())
		if err != nil {
			return nil
		}
		if task.IsComplete {
			return &task
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return nil
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
