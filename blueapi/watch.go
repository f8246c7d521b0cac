package blueapi

import (
	"context"
	"errors"
	"time"
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
		result := Result{Word: Done, Reason: Ended, TaskID: r.task, Started: true, Task: r.seen, Outcome: r.seen.Outcome}
		if o := r.seen.Outcome; o == nil || r.paused || o.Type == interrupted {
			result.Reason, result.Outcome = NotRecorded, nil
		}
		r.result = &result
		_ = r.record(ctx, Entry{Step: StepEnded, Result: &result}) // it has ended either way
		return result, nil
	}
	e, ok := errors.AsType[*RunError](err)
	if !ok {
		e = r.end(Unknown, Silent, err)
	}
	if endedByCaller(ctx, e.Err) {
		e.Reason = Abandoned
	} else {
		_ = r.record(ctx, Entry{Step: StepEnded, Result: &e.Result}) // the word is the same without
	}
	return e.Result, e
}

// watch polls the task until it is over.
func (r *Run) watch(ctx context.Context) error {
	for pause := firstPoll; ; pause = min(2*pause, lastPoll) {
		over, err := r.over(ctx)
		if err != nil || over {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return r.end(Unknown, Abandoned, err)
		}
	}
}

// over reports whether the plan has ended. A record that says complete is not
// enough, for that of a paused plan does too: the worker must have gone on to
// another task, or be idle. They are read in this order, so that the worker is
// known to be done with this task and not yet to have taken it.
func (r *Run) over(ctx context.Context) (bool, error) {
	c := r.client
	task, err := c.task(ctx, r.task, r.patience())
	if isNotFound(err) {
		return false, r.gone(ctx)
	}
	if err != nil {
		return false, r.end(Unknown, Silent, err)
	}
	r.seen = &task
	if t := c.RunTrace; t != nil && t.Watched != nil {
		t.Watched(task)
	}
	if !task.IsComplete {
		return false, nil
	}
	if o := task.Outcome; o != nil && o.Type != interrupted {
		return true, nil // no paused plan has such a record
	}
	current, err := c.workerTask(ctx, r.patience())
	if err != nil {
		return false, r.end(Unknown, Silent, err)
	}
	if current != r.task {
		return true, nil
	}
	state, err := c.workerState(ctx, r.patience())
	if err != nil {
		return false, r.end(Unknown, Silent, err)
	}
	if state == StatePaused && !r.paused {
		r.paused = true
		if t := c.RunTrace; t != nil && t.Paused != nil {
			t.Paused(r.task)
		}
	}
	return state == StateIdle || state == StatePanicked, nil
}
