package retry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Reason says why a call stopped trying.
type Reason int

// The reasons. The zero Reason is none of them.
const (
	// Exhausted: all attempts were made.
	Exhausted Reason = iota + 1
	// Outlasted: the outage lasted longer than the call's window, though the
	// call itself may have made few attempts or none.
	Outlasted
	// Deadline: the next attempt could not begin before the caller's deadline.
	Deadline
	// Cancelled: the caller's context ended.
	Cancelled
	// Unclear: the operation must not happen twice, and an attempt may have
	// taken effect.
	Unclear
	// Hopeless: an attempt failed in a way that another cannot mend.
	Hopeless
	// Told: the server asked for no further attempt, or for a longer wait
	// than the policy allows.
	Told
	// Layered: a caller of this call retries too, so the repetition of what
	// was sent is left to it.
	Layered
	// Misfit: the policy contradicts itself; nothing was tried.
	Misfit
)

func (r Reason) String() string {
	switch r {
	case Exhausted:
		return "all attempts failed"
	case Outlasted:
		return "the outage lasted too long"
	case Deadline:
		return "no time left for another attempt"
	case Cancelled:
		return "cancelled"
	case Unclear:
		return "it may have taken effect"
	case Hopeless:
		return "another attempt cannot help"
	case Told:
		return "the server asked for no further attempt"
	case Layered:
		return "a caller retries already"
	case Misfit:
		return "impossible policy"
	}
	return "none"
}

// Record is one attempt of a call.
type Record struct {
	// Number counts from 1.
	Number int
	// Copy tells that the attempt was made beside a silent one.
	Copy bool
	// Waited is the time from the end of the attempt before, or from the start
	// of the call, to Start: backoff and waiting at the gate.
	Waited  time.Duration
	Start   time.Time
	Took    time.Duration
	Verdict Verdict
	// Err is nil if Verdict is Succeeded.
	Err error
}

// SilenceError is the cause of an attempt that was given up because nothing was
// heard for as long as Policy.Silence allows.
type SilenceError struct{ After time.Duration }

func (e *SilenceError) Error() string { return fmt.Sprintf("no sign of life for %v", e.After) }

// Timeout is true.
func (e *SilenceError) Timeout() bool { return true }

// maxRecords bounds the record of a call that waits for hours. The first and
// the latest attempts are kept.
const maxRecords = 32

// Error is the record of a call that failed: every attempt and why it stopped.
type Error struct {
	// Op is the policy's.
	Op string
	// CallID identifies the call in logs and traces.
	CallID string
	Reason Reason
	// Attempts is how many were made. It is 0 if the call never got past the
	// gate.
	Attempts int
	// Sent tells whether any of them may have reached the destination. If not,
	// the call cannot have had an effect.
	Sent bool
	// Took is the whole time of the call.
	Took time.Duration
	// Records are the attempts, oldest first; of very many, the first and the
	// latest.
	Records []Record
	// Err is the last real cause: that of the last attempt, or, if none was
	// made, what the gate's other callers met.
	Err error

	ended error // of the context, if that is why
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString("failed")
	}
	switch {
	case e.Reason == Hopeless && e.Attempts <= 1:
		return b.String()
	case e.Attempts == 1:
		fmt.Fprintf(&b, " (%v; 1 attempt in %.1f s)", e.Reason, e.Took.Seconds())
	case e.Attempts == 0:
		fmt.Fprintf(&b, " (%v; waited %.1f s, nothing was sent)", e.Reason, e.Took.Seconds())
	case e.Reason == Exhausted:
		fmt.Fprintf(&b, " (all %d attempts failed, in %.1f s)", e.Attempts, e.Took.Seconds())
	default:
		fmt.Fprintf(&b, " (%v; %d attempts in %.1f s)", e.Reason, e.Attempts, e.Took.Seconds())
	}
	return b.String()
}

// failure is what an inner call that failed with e means for its outer one. That
// the inner one was not sent says nothing of what the outer one did besides.
func (e *Error) failure(err error) *Failure {
	f := &Failure{Verdict: Ambiguous, Err: err}
	if e.Reason == Hopeless || e.Reason == Misfit {
		f.Verdict = Fatal
	}
	return f
}

// Timeout reports whether the caller's deadline ended the call.
func (e *Error) Timeout() bool { return e.Reason == Deadline }

// Unwrap returns the last cause, then the context's error if that ended the
// call, then the causes of all attempts.
func (e *Error) Unwrap() []error {
	errs := make([]error, 0, len(e.Records)+2)
	for _, err := range []error{e.Err, e.ended} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, r := range slices.Backward(e.Records) {
		if err := r.Err; err != nil && !errors.Is(e.Err, err) {
			errs = append(errs, err)
		}
	}
	return errs
}
