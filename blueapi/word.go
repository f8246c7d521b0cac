package blueapi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/adamant-go/adamant/retry"
)

// Word says in one word what became of a run.
type Word int

// The three honest words. The zero Word is none of them.
const (
	// Done: the plan was started and has ended. Its outcome is in the Result,
	// unless the Reason says that none was recorded.
	Done Word = iota + 1
	// NotStarted: the plan was not started and never will be by this run. It is
	// safe to run it again.
	NotStarted
	// Unknown: the plan may have run, may be running, or may still start. It
	// must not be run again before somebody has looked.
	Unknown
)

func (w Word) String() string {
	switch w {
	case Done:
		return "done"
	case NotStarted:
		return "not started"
	case Unknown:
		return "unknown"
	}
	return "none"
}

// Reason explains a Word.
type Reason int

// The reasons of Done.
const (
	// Ended: the plan has ended and its outcome is recorded.
	Ended Reason = iota + 1
	// NotRecorded: the plan has ended after it was paused, aborted or stopped;
	// the server does not record how (1.21).
	NotRecorded
	// Unpublished: the plan has ended, and its record says failed because the server's
	// message broker was away. That breaks a plan off at the next document or change of
	// state that it publishes, its very beginning included, and hides how one ended that
	// was at its end (1.21).
	Unpublished
)

// The reasons of NotStarted.
const (
	// Refused: the server does not know the plan, or its parameters are wrong,
	// or the user may not run it.
	Refused Reason = iota + 11
	// Busy: another plan is running, or paused.
	Busy
	// Unreachable: the server could not be asked before anything was started.
	Unreachable
	// Withdrawn: the request to start the plan got lost several times; each
	// time the task was deleted before it could start.
	Withdrawn
	// JournalFailed: the journal could not be written.
	JournalFailed
	// Interrupted: the caller ended the run before the plan was started.
	Interrupted
	// OtherStart: the task is another run's too, which has started it, or may have.
	OtherStart
)

// The reasons of Unknown.
const (
	// Silent: the server could not be asked after the request to start the plan
	// was sent.
	Silent Reason = iota + 21
	// EnvironmentChanged: the server was restarted or reloaded after the
	// request to start the plan was sent, and forgot all its tasks.
	EnvironmentChanged
	// RecordLost: the plan was started, and its record was deleted.
	RecordLost
	// Removed: somebody deleted the task before it was seen to start.
	Removed
	// Overtaken: another plan was started while this one was being withdrawn,
	// so this one may have run before it.
	Overtaken
	// Stuck: the worker was idle and did not take the task in time: it may
	// still have it in hand.
	Stuck
	// Queued: another plan was started at the same time. The request may be in the
	// worker's queue behind it, where nothing can take it back.
	Queued
	// Abandoned: the caller ended the run after the request to start the plan
	// was sent.
	Abandoned
)

// Result is what became of a run.
type Result struct {
	Word   Word
	Reason Reason
	// TaskID is the task that was or may have been started, or the last one
	// that was withdrawn; "" if none was made.
	TaskID string
	// Started tells that the plan was seen to have been started.
	Started bool
	// Task is its record as last read; nil if it was never read.
	Task *Task
	// Outcome is how the plan ended, if Word is Done and Reason is Ended.
	Outcome *Outcome
	// EndedBy is Abort or Stop, if the server's events told that the plan was ended so;
	// its record does not.
	EndedBy Verb
}

// RunError says that a run did not come to a known end. Its Word is NotStarted or
// Unknown.
type RunError struct {
	Result
	// Plan is the plan's name.
	Plan string
	// Other is the other plan's task, if Reason is Overtaken or Queued.
	Other string
	// Err is the cause, if there is one: an [*Error], an [*retry.Error], the
	// context's error, or the journal's.
	Err error
}

// Unwrap returns the cause.
func (e *RunError) Unwrap() error { return e.Err }

// Verdict says what the run means to a call around it that retries: a run that was
// not started may be tried again, unless it was refused; one that is unknown never.
func (e *RunError) Verdict() retry.Verdict {
	switch e.Reason {
	case Unreachable, Withdrawn:
		return retry.NotSent
	case Busy:
		return retry.Rejected
	}
	return retry.Fatal
}

// WordOf returns the word of a run that ended with err: Done for nil.
func WordOf(err error) Word {
	if err == nil {
		return Done
	}
	if e, ok := errors.AsType[*RunError](err); ok {
		return e.Word
	}
	return 0
}

func (e *RunError) Error() string {
	var b strings.Builder
	switch e.Word {
	case NotStarted:
		fmt.Fprintf(&b, "plan %s was not started: %s", e.Plan, e.why())
	case Unknown:
		if e.Started {
			fmt.Fprintf(&b, "plan %s%s was started, and it is not known how it ended: %s", e.Plan, e.task(), e.why())
			break
		}
		fmt.Fprintf(&b, "plan %s%s: it is not known whether it ran: %s", e.Plan, e.task(), e.why())
	case Done:
		fmt.Fprintf(&b, "plan %s%s has ended", e.Plan, e.task())
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// task names the task, if it is known: over a WebSocket the server makes it.
func (e *RunError) task() string {
	if e.TaskID == "" {
		return ""
	}
	return " (task " + e.TaskID + ")"
}

func (e *RunError) why() string {
	switch e.Reason {
	case Refused:
		return "the server refused it"
	case Busy:
		return "the server is busy with another plan"
	case Unreachable:
		return "the server could not be reached, and nothing was started"
	case Withdrawn:
		return "the request to start it got lost each time, and was withdrawn"
	case JournalFailed:
		return "the journal cannot be written, without which a crash could lose the run"
	case OtherStart:
		return "another run has started its task, or may have"
	case Interrupted:
		return "interrupted before anything was started"
	case Silent:
		if e.Started {
			return "the server has not answered since; it may still be running"
		}
		return "the request to start it was sent, and the server has not answered since; it may still start or be running"
	case EnvironmentChanged:
		if e.Started {
			return "the server was restarted or reloaded; it may have run to its end or in part, and a reload leaves a running plan moving unseen"
		}
		return "the server was restarted or reloaded after the request to start it was sent; it may have run fully, partly or not at all, and a reload leaves a running plan moving unseen"
	case RecordLost:
		return "its record was deleted by somebody, so that its end cannot be seen"
	case Removed:
		return "its task was deleted by somebody before it was seen to start"
	case Overtaken:
		return fmt.Sprintf("another plan (task %s) was started while it was being withdrawn; it may have run before that", e.Other)
	case Stuck:
		return "the server's worker was idle and did not take it in time; it may still start"
	case Queued:
		return fmt.Sprintf("another plan (task %s) was started at the same time; it may start when that has ended", e.Other)
	case Abandoned:
		if e.Started {
			return "interrupted; it goes on"
		}
		return "interrupted after the request to start it was sent; it may still start or be running"
	case Ended, NotRecorded, Unpublished:
	}
	return "unexplained"
}
