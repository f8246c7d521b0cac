package main

import (
	"context"
	"errors"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
	"github.com/adamant-go/adamant/retry"
)

// journalLimit is how long a control command waits for the journal, which is opened in
// milliseconds, and in tenths of seconds on a machine that is overloaded. One on a file
// system that is away would hold up an abort for ever.
const journalLimit = 2 * time.Second

// ownRuns is the journal for a control command; nil if there is none, or it cannot be
// had in time.
func (a *app) ownRuns(ctx context.Context, c *blueapi.Client) *runJournal {
	server, err := journal.ServerName(c.URL)
	if err != nil {
		return nil // no call can be made either, and the first one will say why
	}
	ctx, cancel := context.WithTimeout(ctx, journalLimit)
	defer cancel()
	opened := make(chan *journal.Journal, 1)
	failed := make(chan error, 1)
	go func() {
		j, err := a.readJournal(ctx)
		if err != nil {
			failed <- err
			return
		}
		opened <- j
	}()
	err = errSlowJournal
	select {
	case j := <-opened:
		if j == nil {
			return nil
		}
		return a.keepRuns(c, j, server, "")
	case err = <-failed:
	case <-ctx.Done():
	}
	a.ui.note("which plans were started from here cannot be told: %s", journalTrouble(err))
	return nil
}

var errSlowJournal = errors.New("the journal is not to be had in time")

// ownTask finds the task that a control command is meant for whose user names none:
// that of a run of his that has no end, if the worker has it, or if it is still pending.
// Otherwise it is the worker's, and it is said whose that is. "" if the worker has none.
func (a *app) ownTask(ctx context.Context, c *blueapi.Client, j *runJournal) (string, error) {
	active, err := c.WorkerTask(ctx)
	if err != nil {
		return "", err
	}
	var own, open []journal.Run
	if j != nil {
		if active != "" {
			own, err = j.runs(ctx, journal.Query{Task: active, Limit: 1})
		}
		if err == nil {
			open, err = j.allUnsettled(ctx)
		}
		if err != nil {
			a.ui.note("which plans were started from here cannot be told: %s", journalTrouble(err))
		}
	}
	for _, r := range open {
		task, pending, err := j.awaitsStart(ctx, c, r)
		if err != nil {
			return "", err
		}
		if !pending {
			continue
		}
		if len(own) > 0 { // which the worker keeps when its plan has ended
			if _, over, err := whetherOver(ctx, c, active); err != nil || !over {
				return active, err
			}
		}
		return task, nil
	}
	if len(own) > 0 {
		return active, nil
	}
	return active, a.sayWhose(ctx, c, active)
}

// whetherOver reads which plan the worker's task is of, "" if the server does not show
// it, and whether that is over.
func whetherOver(ctx context.Context, c *blueapi.Client, task string) (plan string, over bool, err error) {
	t, err := c.Task(ctx, task)
	hidden := refusal(err) != nil
	if err != nil && !hidden {
		return "", false, err
	}
	if !hidden && !t.IsComplete { // as a paused one is
		return t.Request.Name, false, nil
	}
	state, err := c.WorkerState(ctx)
	return t.Request.Name, state == blueapi.StateIdle || state == blueapi.StatePanicked, err
}

// awaitsStart reports whether the task of a run may yet be started, and is pending.
func (j *runJournal) awaitsStart(ctx context.Context, c *blueapi.Client, r journal.Run) (task string, pending bool, err error) {
	task, _ = r.Task()
	switch beforeEnd(r).Step {
	case journal.Starting:
		if task == "" { // over a WebSocket: it has not been named
			return "", false, nil
		}
	case journal.NotSent:
		if lives, err := j.journal.Owned(r.ID); err != nil || !lives {
			return "", false, nil //nolint:nilerr // then nobody starts it
		}
	default:
		return "", false, nil
	}
	t, err := c.Task(ctx, task)
	if refusal(err) != nil {
		err = nil // the server does not have it
	}
	return task, t.IsPending, err
}

// sayWhose says that the worker's task was not started from here, if its plan goes on.
func (a *app) sayWhose(ctx context.Context, c *blueapi.Client, task string) error {
	if task == "" {
		return nil
	}
	plan, over, err := whetherOver(ctx, c, task)
	switch {
	case err != nil:
		return err
	case over:
	case plan == "":
		a.ui.note("task %s, which the server does not show you, was not started from here", task)
	default:
		a.ui.note("task %s of plan %s was not started from here", task, plan)
	}
	return nil
}

// unasked is a control command that failed before it was known which task it is for.
func unasked(ctx context.Context, verb blueapi.Verb, err error) error {
	failed := &blueapi.ControlError{Verb: verb, Reason: blueapi.ControlUnreachable, Err: err}
	tries, ok := errors.AsType[*retry.Error](err)
	switch {
	case ctx.Err() != nil || ok && tries.Reason == retry.Deadline:
		failed.Reason = blueapi.ControlInterrupted
	case denied(refusal(err)):
		failed.Reason = blueapi.Denied
	}
	return failed
}

// noteWithdrawn records that the task of a run whose owner has died was withdrawn by
// hand. A failure is nothing to tell the user: the server is asked again by whoever
// comes back to the run.
func (j *runJournal) noteWithdrawn(ctx context.Context, task string) {
	if j == nil {
		return
	}
	runs, err := j.runs(ctx, journal.Query{Task: task, Limit: 1})
	if err != nil || len(runs) == 0 {
		return
	}
	if last, _ := runs[0].Task(); last != task {
		return
	}
	owned, err := j.take(ctx, runs[0].ID)
	if err != nil || !owned {
		return
	}
	_, env := runs[0].Task()
	_ = j.owner(runs[0].ID).Record(ctx, journal.Entry{Step: journal.Withdrawn, At: time.Now(), Task: task, Environment: env})
}
