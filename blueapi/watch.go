package blueapi

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/adamant-go/adamant/retry"
)

const (
	firstPoll = 50 * time.Millisecond // doubled up to
	lastPoll  = time.Second
)

// interrupted is the type of the outcome of a plan that was paused, aborted or
// stopped. How it ended after that is not recorded (1.21.1).
const interrupted = "RunEngineInterrupted"

// Wait waits for the end of the plan. Result and error are as of Client.Run.
// Cancelling ctx ends the waiting, not the plan; Wait may then be called again.
func (r *Run) Wait(ctx context.Context) (Result, error) {
	if r.result != nil {
		return *r.result, nil
	}
	err := r.watch(ctx)
	if err == nil {
		result := r.outcome()
		r.result = &result
		_ = r.record(ctx, Entry{Step: StepEnded, Result: &result}) // it has ended either way
		r.Close()
		return result, nil
	}
	e, ok := errors.AsType[*RunError](err)
	if !ok {
		e = r.end(Unknown, Silent, err)
	}
	e.blameCaller(ctx)
	if e.Reason != Abandoned {
		_ = r.record(ctx, Entry{Step: StepEnded, Result: &e.Result}) // the word is the same without
	}
	return e.Result, e
}

// Close lets go of the run: of its subscription to events. It does not end the plan.
// It may be called more than once.
func (r *Run) Close() { r.events.close() }

// outcome is what the record of a plan that has ended means.
func (r *Run) outcome() Result {
	result := r.seen.End()
	result.TaskID = r.task
	if result.Reason == Ended && r.interrupted {
		result.Reason, result.Outcome = NotRecorded, nil
	}
	if result.Reason == NotRecorded {
		result.EndedBy = r.endedBy
	}
	return result
}

// End is what the record of a task whose plan has ended means, if that was not paused.
func (t *Task) End() Result {
	result := Result{Word: Done, Reason: Ended, TaskID: t.ID, Started: true, Task: t, Outcome: t.Outcome}
	switch o := t.Outcome; {
	case o == nil || o.Type == interrupted:
		result.Reason, result.Outcome = NotRecorded, nil
	case unpublished(o):
		result.Reason, result.Outcome = Unpublished, nil
	}
	return result
}

// unpublished reports whether a plan is recorded as failed because the server could not
// reach its broker. That takes the place of whatever the plan returned or raised, and
// nothing but the exception's text tells it from one of the plan's own (1.21.1).
func unpublished(o *Outcome) bool {
	return o.Kind == "error" && o.Type == "ExceptionGroup" && strings.HasPrefix(o.Message, "Error(s) publishing event: ")
}

// sight is what one look at a plan that was started has shown.
type sight struct {
	task  *Task       // nil if it could not be read
	state WorkerState // of the worker, if it has the task and that made a difference; "" otherwise
	over  bool
	err   error
}

// watch polls the task until it is over, and deals with events meanwhile. They make
// it prompt; what they say is not believed without the record, for a pause says
// complete and failed too.
func (r *Run) watch(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var routines sync.WaitGroup
	defer routines.Wait()
	defer stop()
	var deaf error
	events := r.events.pump(ctx, &routines, &deaf)
	sights := make(chan sight, 1)
	look := time.NewTimer(0)
	defer look.Stop()
	looking, again, moved := false, false, false
	for pause := firstPoll; ; {
		select {
		case <-look.C:
			looking, moved = true, false
			routines.Go(func() { sights <- r.look(ctx) })
		case s := <-sights:
			looking = false
			if s.err == nil && s.over {
				r.saw(s)
				r.drain(ctx, events)
				return nil
			}
			if s.err != nil && r.resuming(events, s.err) && (again || !r.events.ended) {
				again = false
				look.Reset(lastPoll)
				continue
			}
			if s.err != nil {
				return s.err
			}
			r.events.late = false
			if moved { // the event may be newer than what was read
				s.state = ""
			}
			r.saw(s)
			if again {
				pause, again = firstPoll, false
			}
			look.Reset(pause)
			pause = min(2*pause, lastPoll)
		case e, ok := <-events:
			if !ok {
				events = nil
				if ctx.Err() == nil {
					r.events.goBlind(r.trace, deaf)
				}
				continue
			}
			moved = moved || e.Worker != nil && e.TaskID == r.task
			if !r.event(e) {
				continue
			}
			if again = looking; !looking {
				pause = firstPoll
				look.Reset(0)
			}
		case <-ctx.Done():
			if looking {
				if s := <-sights; s.err == nil && s.over { // it was just read
					r.saw(s)
					return nil
				}
			}
			return r.end(Unknown, Abandoned, ctx.Err())
		}
	}
}

// resuming reports whether a look has failed for the reason that the plan was paused and
// goes on: then 1.21.1 answers nobody until it has ended, however long that takes. Only
// a broker that is heard tells that from a server that is gone.
func (r *Run) resuming(events <-chan Event, err error) bool {
	e, ok := errors.AsType[*RunError](err)
	if !ok || e.Reason != Silent || !r.interrupted || r.paused || events == nil || r.events.away {
		return false
	}
	_, silent := errors.AsType[*retry.SilenceError](e.Err)
	return silent
}

// event deals with an event, and reports whether it says that the task has ended.
func (r *Run) event(e Event) bool {
	if e.Gap != nil {
		r.events.away = e.Gap.Until.IsZero()
	} else if e.TaskID != r.task && !(e.TaskID == "" && e.Data != nil) {
		return false
	}
	// A server that was started without its broker publishes each event several times
	// once that is there (1.21.1).
	if e.Gap == nil && bytes.Equal(e.Raw, r.events.last) {
		return false
	}
	r.events.last = e.Raw
	r.events.heard = r.events.heard || e.TaskID == r.task
	if t := r.trace; t.Event != nil {
		t.Event(e)
	}
	w := e.Worker
	if w == nil {
		return false
	}
	r.is(w.State)
	// From a pause on every event says complete.
	if w.Task == nil || !w.Task.Complete || w.State != StateIdle && w.State != StatePanicked {
		return false
	}
	r.events.ended = true
	return true
}

// drain waits for the events that were published before the plan's end and have not
// come yet: until its end event, or until there has been none of it for a moment. Those
// of other plans may go on for ever.
func (r *Run) drain(ctx context.Context, events <-chan Event) {
	if events == nil || r.events.ended || r.events.away {
		return
	}
	last, wait := time.Now(), lastWords
	if r.events.late {
		wait = firstPoll // for what is here already
	}
	silence := time.NewTimer(wait)
	defer silence.Stop()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			if r.event(e) || r.events.away {
				return
			}
			last = e.At
			if e.TaskID == r.task || e.TaskID == "" {
				silence.Reset(lastWords)
			}
			// An earlier plan's events may come before this one's.
			if !r.events.heard || e.Worker == nil || e.TaskID == r.task || e.Worker.State != StateRunning {
				continue
			}
		case <-silence.C:
			if r.events.late && !r.events.heard {
				return
			}
		case <-ctx.Done():
			return
		}
		if t := r.trace; t.Event != nil {
			now := time.Now()
			t.Event(Event{At: now, Gap: &Gap{From: last, Until: now, Err: errNoEnd}})
		}
		return
	}
}

// saw notes what a look has shown.
func (r *Run) saw(s sight) {
	r.seen = s.task
	t := r.trace
	if t.Watched != nil {
		t.Watched(*s.task)
	}
	if !s.task.IsPending {
		r.begun = true
	}
	r.is(s.state)
}

// is notes the worker's state, "" if it is not known; the worker has the run's task.
func (r *Run) is(state WorkerState) {
	t := r.trace
	switch {
	case state == StatePaused && !r.paused:
		r.paused, r.interrupted = true, true
		if t.Paused != nil {
			t.Paused(r.task)
		}
	case state == StateAborting:
		r.endedBy = Abort
	case state == StateStopping:
		r.endedBy = Stop
	case state == StateRunning && r.paused:
		r.paused = false
		if t.Resumed != nil {
			t.Resumed(r.task)
		}
	}
}

// look reads whether the plan has ended. A record that says complete is not enough,
// for that of a paused plan does too: the worker must have gone on to another task,
// or be idle. They are read in this order, so that the worker is known to be done with
// this task and not yet to have taken it.
func (r *Run) look(ctx context.Context) sight {
	c := r.client
	task, err := c.task(ctx, r.task, r.patience())
	if isNotFound(err) {
		return sight{err: r.gone(ctx)}
	}
	if err != nil {
		return sight{err: r.end(Unknown, Silent, err)}
	}
	s := sight{task: &task}
	if !task.IsComplete {
		return s
	}
	if o := task.Outcome; o != nil && o.Type != interrupted {
		s.over = true // no paused plan has such a record
		return s
	}
	current, err := c.workerTask(ctx, r.patience())
	if err != nil {
		return sight{err: r.end(Unknown, Silent, err)}
	}
	s.state, err = c.workerState(ctx, r.patience())
	if err != nil {
		return sight{err: r.end(Unknown, Silent, err)}
	}
	switch {
	case s.state == StateIdle, s.state == StatePanicked:
		s.over = true
	case current != r.task:
		if s.over, err = r.hasGoneOn(ctx, current, s.state); err != nil {
			return sight{err: err}
		}
	}
	if !s.over {
		return s
	}
	s.state = "" // not of this task
	// A server that was restarted or reloaded meanwhile is idle, and knows nothing of it.
	if task, err = c.task(ctx, r.task, r.patience()); isNotFound(err) {
		return sight{err: r.gone(ctx)}
	} else if err != nil {
		return sight{err: r.end(Unknown, Silent, err)}
	}
	return s
}

// hasGoneOn reports whether the run engine, which is not idle, has the worker's other
// task. A worker that pauses a plan takes what is in its queue, and fails it, while the
// engine still has the paused one (1.21.1).
func (r *Run) hasGoneOn(ctx context.Context, other string, state WorkerState) (bool, error) {
	task, err := r.client.task(ctx, other, r.patience())
	switch {
	case isNotFound(err):
		return true, nil
	case err != nil:
		return false, r.end(Unknown, Silent, err)
	case task.IsComplete:
		return task.Outcome == nil || task.Outcome.Type == interrupted, nil
	}
	return state != StatePaused, nil // its plan is being made
}
