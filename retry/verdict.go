package retry

import (
	"errors"
	"time"
)

// Verdict says what is known of one attempt.
type Verdict int

// The verdicts. The zero Verdict is none of them.
const (
	// Succeeded means that the attempt did what was asked.
	Succeeded Verdict = iota + 1
	// NotSent means that not one byte of the request was written, or that a
	// gateway says so: nothing can have happened.
	NotSent
	// Rejected means that the application answered and did nothing, being busy
	// or rate-limited.
	Rejected
	// Ambiguous means that the request was sent and that the application did
	// not answer: it may or may not have taken effect.
	Ambiguous
	// Fatal means that another attempt cannot help.
	Fatal
)

func (v Verdict) String() string {
	switch v {
	case Succeeded:
		return "done"
	case NotSent:
		return "not sent"
	case Rejected:
		return "rejected"
	case Ambiguous:
		return "ambiguous"
	case Fatal:
		return "fatal"
	}
	return "none"
}

// Safety says what repeating an operation may do.
type Safety int

const (
	// Safe operations may be repeated freely.
	Safe Safety = iota
	// Once marks an operation that is repeated only if it was not sent or was
	// rejected. After anything else the caller has to look what happened.
	Once
)

func (s Safety) String() string {
	if s == Once {
		return "once"
	}
	return "safe"
}

// Evidence is what an attempt tells the [Gate] of its destination, as opposed to
// what it tells its own call: an application that answers 404 is up.
type Evidence int

const (
	// ByVerdict is the zero value: Succeeded and Rejected are proof, NotSent
	// and Ambiguous are failures, Fatal is neither.
	ByVerdict Evidence = iota
	// Proof means that the application itself answered.
	Proof
	// Outage means that it did not.
	Outage
	// NoEvidence means that nothing was learnt, as when the caller cancelled.
	NoEvidence
)

// Failure is the error of an attempt together with what is known of it.
// Operations return it; [Error] records it. A Failure is not changed once made.
type Failure struct {
	Verdict Verdict
	// Evidence is what the gate learns.
	Evidence Evidence
	// Err is the cause. It must not be nil.
	Err error
	// Timeout tells that the attempt ended because nothing was heard: the
	// outage is then taken to have begun when it was sent, not when it ended.
	Timeout bool
	// Unsent tells that not one byte was written, whatever the verdict: of
	// a bad certificate, for instance. NotSent implies it.
	Unsent bool
	// RetryAfter is the server's wish (RFC 9110, 10.2.3); zero means none.
	RetryAfter time.Duration
	// Shared tells that RetryAfter concerns everyone (503), not this caller
	// alone (429).
	Shared bool
	// Stop tells that the server asked for no further attempt
	// (x-should-retry: false).
	Stop bool
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// judged is an error that says itself what it means to a call around the one that
// it ended: a run that may have happened must not be repeated by anybody.
type judged interface {
	error
	Verdict() Verdict
}

// judgedOf finds such an error, unless it is that of an attempt of a call inside, which
// may have made others.
func judgedOf(err error) (judged, bool) {
	j, ok := errors.AsType[judged](err)
	if !ok {
		return nil, false
	}
	inside, _ := errors.AsType[*Error](err)
	own, _ := errors.AsType[*Error](j)
	return j, inside == own
}

// VerdictOf returns the verdict that err carries: Succeeded for nil, that of an error
// in its chain that has a method Verdict() Verdict or is a [*Failure], and Ambiguous
// for any other. What the attempts of an [*Error] were judged to be is not its verdict.
func VerdictOf(err error) Verdict {
	if err == nil {
		return Succeeded
	}
	if j, ok := judgedOf(err); ok {
		return j.Verdict()
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Verdict
	}
	return Ambiguous
}

// evidence resolves ByVerdict.
func (f *Failure) evidence() Evidence {
	if f.Evidence != ByVerdict {
		return f.Evidence
	}
	switch f.Verdict {
	case Succeeded, Rejected:
		return Proof
	case NotSent, Ambiguous:
		return Outage
	case Fatal:
	}
	return NoEvidence
}
