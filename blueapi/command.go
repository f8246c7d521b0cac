package blueapi

import (
	"fmt"
	"strings"

	"github.com/adamant-go/adamant/retry"
)

// Verb is what a control command does.
type Verb int

// The verbs. The zero Verb is none of them.
const (
	// Pause holds the plan at its last checkpoint; one without checkpoints is
	// aborted by the server.
	Pause Verb = iota + 1
	// Resume lets a paused plan go on. In 1.21 one that then emits a document is
	// aborted, the server answers nobody until the plan has ended, and how it ended
	// is not recorded.
	Resume
	// Abort ends the plan, and marks what it measured as failed.
	Abort
	// Stop ends the plan, and marks what it measured as good.
	Stop
)

// String is the verb as a word, such as "pause".
func (v Verb) String() string {
	switch v {
	case Pause:
		return "pause"
	case Resume:
		return "resume"
	case Abort:
		return "abort"
	case Stop:
		return "stop"
	}
	return "none"
}

// Target is the state that the verb asks the worker to be put into.
func (v Verb) Target() WorkerState {
	switch v {
	case Pause:
		return StatePaused
	case Resume:
		return StateRunning
	case Abort:
		return StateAborting
	case Stop:
		return StateStopping
	}
	return ""
}

// applies reports whether the server allows the verb in a state (its table of
// transitions, 1.21.1). It answers 400 to all others.
func (v Verb) applies(s WorkerState) bool {
	switch s {
	case StateRunning:
		return v != Resume
	case StatePaused:
		return v != Pause
	}
	return false
}

// ends tells that the verb ends a plan.
func (v Verb) ends() bool { return v == Abort || v == Stop }

// Command is a control command: what to do with the plan that runs.
type Command struct {
	Verb Verb
	// TaskID is the task that it is meant for; empty means the one that the worker
	// has when it is first asked.
	TaskID string
	// Defer lets a plan that is to be paused go on to its next checkpoint.
	Defer bool
	// Reason is recorded with an abort; empty means none.
	Reason string
}

// Effect is how it is known that a command did what it should.
type Effect int

// The effects. The zero Effect is none.
const (
	// Accepted: the server said so.
	Accepted Effect = iota + 1
	// Seen: the server's answer was lost, or said that the worker was in another
	// state, which was found to be the one that the command leads to. Whether it was
	// somebody else who put it there is not recorded; a resumed plan may be over by
	// then.
	Seen
	// TaskWithdrawn: the task had not begun, and was deleted, so that it never will.
	TaskWithdrawn
)

// ControlResult is what became of a control command.
type ControlResult struct {
	// TaskID is the task that the command was meant for; "" if there was none.
	TaskID string
	// State is the worker's, as the server answered; or as read afterwards, if that
	// answer was lost.
	State  WorkerState
	Effect Effect
	// Sent is how many requests were sent; one to delete the task counts if it is not
	// known what became of it.
	Sent int
	// Unanswered of them had no answer and no effect that was seen. One that is still
	// on its way may reach whatever plan runs then.
	Unanswered int
	// Other is the task of another plan that the command may have reached instead;
	// "" if none.
	Other string
	// Checked tells that the worker was read after the server's answer, so that it
	// is known which plan was reached; of a withdrawal, that the worker was idle, so
	// that the task cannot have been in its queue behind another.
	Checked bool
}

// ControlReason says why a control command had no effect, or none that is known.
type ControlReason int

// The reasons of a ControlError.
const (
	// NotActive: the worker does nothing to which the command applies. Nothing was
	// sent. If there is a cause, a plan was taken and has not begun in 10 s, or
	// Client.Wait.
	NotActive ControlReason = iota + 1
	// NotCurrent: the worker has another task than the one named, or has it no more.
	// Nothing was sent.
	NotCurrent
	// AlreadyOver: the plan had ended by itself before the command reached it.
	AlreadyOver
	// EndedByOthers: the plan that was to be paused has been aborted or stopped by
	// somebody else.
	EndedByOthers
	// Denied: the user may not do that.
	Denied
	// Rejected: the server refused.
	Rejected
	// ResumeBroken: the server failed while it resumed the plan, which is over. In
	// 1.21 so ends a plan that emits a document after a resume, or fails after it.
	ResumeBroken
	// ControlUnreachable: the server could not be asked in time, and nothing was sent.
	ControlUnreachable
	// ControlSilent: it is not known what became of a request that was sent.
	ControlSilent
	// ControlInterrupted: the caller ended the command. Sent says whether something
	// was sent.
	ControlInterrupted
)

// ControlError says that a control command had no effect, or that none was seen.
type ControlError struct {
	ControlResult
	Verb   Verb
	Reason ControlReason
	// From is the worker's state as last read; "" if it never was.
	From WorkerState
	// Err is the cause, if there is one: an [*Error], an [*retry.Error], or the
	// context's error.
	Err error
}

// Unwrap returns the cause.
func (e *ControlError) Unwrap() error { return e.Err }

// Verdict says what the command means to a call around it that retries: it is tried
// again only if nothing was sent, since by then another plan may run.
func (e *ControlError) Verdict() retry.Verdict {
	if e.Reason == ControlUnreachable {
		return retry.NotSent
	}
	return retry.Fatal
}

func (e *ControlError) Error() string {
	var b strings.Builder
	switch e.Reason {
	case NotActive:
		// The server's words, for a request that it did not need to be sent.
		fmt.Fprintf(&b, "Cannot transition from %s to %s", e.From, e.Verb.Target())
	case NotCurrent:
		fmt.Fprintf(&b, "task %s is not the worker's, so nothing was sent", e.TaskID)
	case AlreadyOver:
		fmt.Fprintf(&b, "the plan of task %s had ended before the %s reached it", e.TaskID, e.Verb)
	case EndedByOthers:
		fmt.Fprintf(&b, "the plan of task %s was aborted or stopped by somebody else", e.TaskID)
	case Denied:
		fmt.Fprintf(&b, "not allowed to %s", e.Verb)
	case Rejected:
		fmt.Fprintf(&b, "the server refused to %s", e.Verb)
	case ResumeBroken:
		fmt.Fprintf(&b, "the server failed while it resumed the plan of task %s, which is over; how it ended is not recorded", e.TaskID)
	case ControlUnreachable:
		fmt.Fprintf(&b, "the server could not be asked, and nothing was sent to %s", e.Verb)
	case ControlSilent:
		fmt.Fprintf(&b, "a request to %s task %s was sent, and it is not known what became of it", e.Verb, e.TaskID)
	case ControlInterrupted:
		b.WriteString("interrupted")
		if e.Unanswered > 0 {
			fmt.Fprintf(&b, ": a request to %s task %s was sent, and it is not known what became of it", e.Verb, e.TaskID)
		} else if e.Sent == 0 {
			fmt.Fprintf(&b, ": nothing was sent to %s", e.Verb)
		}
	}
	if e.Other != "" {
		fmt.Fprintf(&b, "; it may have reached the plan of task %s instead", e.Other)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}
