package blueapi

import (
	"context"
	"errors"
	"time"
)

// Journal keeps what a run has done, so that after a crash it is known whether
// the plan can have been started. Implementations are used by many runs at once.
type Journal interface {
	// Record keeps e. It must be durable when Record returns: a run that
	// cannot record that it is about to start a plan does not start it.
	//
	// One that other processes write to as well may say [ErrOtherStart].
	Record(ctx context.Context, e Entry) error
}

// ErrOtherStart is what a Journal says to StepStarting if another run has started the
// task, or may have. The run then neither starts the task nor withdraws it.
var ErrOtherStart = errors.New("blueapi: another run has started the task, or may have")

// Step is a step of a run that the journal keeps.
type Step int

// The steps, in the order in which they are taken. A run whose last step is
// StepStarting may have started its plan; one whose last step is earlier, or
// StepNotSent or StepWithdrawn, has not.
const (
	// StepIntent: a run is wanted. The entry has the request.
	StepIntent Step = iota + 1
	// StepStarting: the request to start the task is about to be sent.
	StepStarting
	// StepNotSent: it was not sent after all.
	StepNotSent
	// StepStarted: the server has taken the task.
	StepStarted
	// StepWithdrawn: the task was deleted before it could start.
	StepWithdrawn
	// StepEnded: the run has its word. The entry has the result.
	StepEnded
)

// Entry is one line of a journal. Its size is bounded by that of the request.
type Entry struct {
	// RunID is the same for all entries of a run.
	RunID string
	Step  Step
	At    time.Time
	// Request is set in StepIntent.
	Request *TaskRequest
	// TaskID and EnvironmentID are set from StepStarting on.
	TaskID        string
	EnvironmentID string
	// Result is set in StepEnded.
	Result *Result
}
