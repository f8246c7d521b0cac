package main

import (
	"errors"
	"fmt"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

// journalError is the error of a run whose journal fails, for its user.
type journalError struct{ err error }

func (e *journalError) Error() string { return journalTrouble(e.err) + ", or " + runWithout }

// Unwrap returns the journal's own error.
func (e *journalError) Unwrap() error { return e.err }

// runWithout is what can be done without a journal.
const runWithout = "add --no-journal: the run is made without, and cannot be resumed after a crash"

// journalRefusal is why no run is made that could not be recorded.
func journalRefusal(err error) string {
	return "the journal, without which a crash could lose the run, cannot be kept:\n    " + (&journalError{err}).Error()
}

// withoutJournal is what is said where the run goes on without.
func withoutJournal(err error) string {
	return "no journal is kept, and after a crash the run cannot be resumed: " + journalTrouble(err)
}

// journalTrouble says what is wrong with the journal, where, and what to do.
func journalTrouble(err error) string {
	e, ok := errors.AsType[*journal.Error](err)
	if !ok {
		return err.Error()
	}
	const elsewhere = "set XDG_STATE_HOME to a directory of your own on a local disk"
	cause := ""
	if e.Err != nil {
		cause = fmt.Sprintf(" (%v)", e.Err)
	}
	//exhaustive:enforce
	switch e.Kind {
	case journal.NoPlace:
		return fmt.Sprintf("there is no directory on a local disk to keep it in: %v", e.Err) // which says what to do
	case journal.Unsafe:
		return fmt.Sprintf("%s is not safe to use%s: mend that, or %s", e.Path, cause, elsewhere)
	case journal.ReadOnly:
		return fmt.Sprintf("%s cannot be written%s: make it writable, or %s", e.Path, cause, elsewhere)
	case journal.Full:
		return fmt.Sprintf("the disk that %s is on is full: make room, or %s", e.Path, elsewhere)
	case journal.Busy:
		return fmt.Sprintf("another process has held %s for too long, as one does that was stopped in the middle of a write: "+
			"let it go on, or end it, and try again", e.Path)
	case journal.Corrupt:
		return fmt.Sprintf("%s is damaged, or is no journal%s: move it away to begin a new one, which knows nothing of earlier runs and keys",
			e.Path, cause)
	case journal.Newer:
		return fmt.Sprintf("%s was written by a later version of adamant: use that version, or %s", e.Path, elsewhere)
	case journal.Unsupported:
		return "there are no journals on this system"
	case journal.Failed:
	}
	return fmt.Sprintf("%s cannot be used%s: see to its disk, or %s", e.Path, cause, elsewhere)
}

// reasonText is a reason as the journal has it.
func reasonText(r blueapi.Reason) string {
	//exhaustive:enforce
	switch r {
	case blueapi.Ended:
		return "ended"
	case blueapi.NotRecorded:
		return "not recorded"
	case blueapi.Unpublished:
		return "unpublished"
	case blueapi.Refused:
		return "refused"
	case blueapi.Busy:
		return "busy"
	case blueapi.Unreachable:
		return "unreachable"
	case blueapi.Withdrawn:
		return "withdrawn"
	case blueapi.JournalFailed:
		return "journal failed"
	case blueapi.OtherStart:
		return "other start"
	case blueapi.Interrupted:
		return "interrupted"
	case blueapi.Silent:
		return "silent"
	case blueapi.EnvironmentChanged:
		return "environment changed"
	case blueapi.RecordLost:
		return "record lost"
	case blueapi.Removed:
		return "removed"
	case blueapi.Overtaken:
		return "overtaken"
	case blueapi.Stuck:
		return "stuck"
	case blueapi.Queued:
		return "queued"
	case blueapi.Abandoned:
		return "abandoned"
	}
	return ""
}

// endText is why a run ended as it did, as the journal has it: if it is known who ended
// the plan whose end is not recorded by the server, how.
func endText(r blueapi.Result) string {
	if r.Reason == blueapi.NotRecorded && r.EndedBy != 0 {
		return participle(r.EndedBy)
	}
	return reasonText(r.Reason)
}

// verbOf is the verb by which a plan was ended, by what the journal has; 0 if none is
// known.
func verbOf(text string) blueapi.Verb {
	for _, v := range []blueapi.Verb{blueapi.Abort, blueapi.Stop} {
		if participle(v) == text {
			return v
		}
	}
	return 0
}

// withVerb adds to a result that its user has ended the plan, if the server does not
// record how it ended. 0 adds nothing.
func withVerb(r blueapi.Result, by blueapi.Verb) blueapi.Result {
	if r.Reason == blueapi.NotRecorded && r.EndedBy == 0 {
		r.EndedBy = by
	}
	return r
}

// reasonOf is the reason that the journal has; 0 if it is of a later version.
func reasonOf(text string) blueapi.Reason {
	if verbOf(text) != 0 {
		return blueapi.NotRecorded
	}
	for r := blueapi.Ended; r <= blueapi.Abandoned; r++ {
		if reasonText(r) == text {
			return r
		}
	}
	return 0
}

// keptResult is what the journal has of the end of a run, as run returns it.
func keptResult(run journal.Run) (blueapi.Result, error) {
	end := run.End()
	r := blueapi.Result{Reason: reasonOf(end.Reason), EndedBy: verbOf(end.Reason)}
	r.TaskID, _ = run.Task()
	for _, e := range run.Entries {
		r.Started = r.Started || e.Step == journal.Started
	}
	switch end.Word {
	case journal.Done:
		r.Word, r.Started = blueapi.Done, true
		if end.Outcome != "" {
			r.Outcome = &blueapi.Outcome{Kind: end.Outcome, Type: end.Type, Message: end.Message, Result: end.Result}
		}
		return r, nil
	case journal.NotStarted:
		r.Word = blueapi.NotStarted
	case journal.Unknown:
		r.Word = blueapi.Unknown
	}
	return r, &blueapi.RunError{Result: r, Plan: run.Plan, Other: "whose id is not recorded"}
}
