package blueapi

import (
	"context"
	"errors"
	"time"
)

// Attachment is what is known of a run that was begun earlier.
type Attachment struct {
	// RunID is the run's in the journal; "" if the run is nobody's here: then
	// nothing is recorded.
	RunID string
	// Plan is the plan's name.
	Plan string
	// TaskID is the task's; "" if none was recorded.
	TaskID string
	// EnvironmentID is that of the environment that the task was made in; "" if it
	// is not known: the one of the moment.
	EnvironmentID string
	// Step is the last step that was recorded before any StepEnded; 0 if none was.
	Step Step
	// At is when that was; zero means just now.
	At time.Time
	// Owned tells that the caller owns the run, so that a task whose start is unclear
	// may be withdrawn. Without it the task is only watched, and NotStarted is true
	// only if nobody owns the run: its owner may be about to start it.
	Owned bool
}

// errCrashed is why it is unclear whether a request arrived that somebody sent who
// cannot be asked any more.
var errCrashed = errors.New("the program that asked for it ended before the answer came")

// errUnnamed is why nobody can look at a run that was asked for over a WebSocket.
var errUnnamed = errors.New("it was asked for over a WebSocket, and the server had not named its task yet")

// Attach goes on with a run that was begun earlier, by this process or another. It
// never starts a plan. The run must be closed.
//
// If nothing was sent that can start the plan, the error is a [*RunError] with the
// word NotStarted. If it is unclear whether the plan was started, and the run is
// owned, Attach finds out, and withdraws a task that is still pending; then the error
// is as of Run. A task that is somebody else's is watched, pending or not; if the
// server has none of that id, the error is that of Task.
func (c *Client) Attach(ctx context.Context, a Attachment) (run *Run, err error) {
	r := newRun(c, a.Plan)
	r.id, r.task, r.env, r.begun = a.RunID, a.TaskID, a.EnvironmentID, a.Step == StepStarted
	if !a.Owned {
		r.id = "" // the owner keeps the journal
	}
	defer r.closeUnless(&run)
	err = r.attach(ctx, a)
	if err == nil {
		return r, nil
	}
	if e, ok := errors.AsType[*RunError](err); ok && a.Owned && !endedByCaller(ctx, err) {
		_ = r.record(ctx, Entry{Step: StepEnded, Result: &e.Result}) // the word is the same without
	}
	return nil, err
}

func (r *Run) attach(ctx context.Context, a Attachment) error {
	switch a.Step {
	case StepIntent, StepNotSent, StepWithdrawn:
		return r.end(NotStarted, Interrupted, nil)
	case StepStarting, StepStarted, StepEnded:
		if r.task == "" {
			return r.end(Unknown, Silent, errUnnamed)
		}
	}
	r.events.open(ctx, r.broker)
	r.events.late = true
	if r.env == "" {
		err := r.find(ctx)
		switch {
		case err == nil:
		case a.Step < StepStarting, isNotFound(err):
			return err
		default:
			e := r.end(Unknown, Silent, err)
			e.blameCaller(ctx)
			return e
		}
	}
	if r.begun || !a.Owned {
		return nil
	}
	s := &starter{client: r.client, run: r, putAt: a.At, putErr: errCrashed, crashed: true}
	if now := time.Now(); a.At.IsZero() || a.At.After(now) {
		s.putAt = now
	}
	err := s.settle(ctx)
	if errors.Is(err, errAgain) {
		err = r.end(NotStarted, Withdrawn, nil)
	}
	return err
}

// find reads a task of which only the id is known. A task that exists after its
// environment was read was made in that one.
func (r *Run) find(ctx context.Context) error {
	env, err := r.client.Environment(ctx)
	if err != nil {
		return err
	}
	task, err := r.client.Task(ctx, r.task)
	if err != nil {
		return err
	}
	r.env, r.ready, r.begun = env.ID, env.Initialized, !task.IsPending
	if r.plan == "" {
		r.plan = task.Request.Name
	}
	return nil
}
