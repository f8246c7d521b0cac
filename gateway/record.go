package gateway

import "time"

// Deed is what the gateway did for a caller beyond passing its request on.
type Deed string

// The deeds. Of several the last one is told.
const (
	// TurnedAway: the request was not dealt with, because there were too many, it was
	// too large, or the gateway was shutting down.
	TurnedAway Deed = "turned away"
	// Merged: the caller got the answer to another's read, which was the same.
	Merged Deed = "merged"
	// Joined: the task was being started for another caller already.
	Joined Deed = "joined"
	// Settled: the answer to the start of a plan was lost, and it was found out what
	// had become of it.
	Settled Deed = "settled"
	// Replaced: the start of a plan was lost, and another task was started in place of
	// the caller's.
	Replaced Deed = "replaced"
	// Guarded: a control command was not sent, since there was nothing to control.
	Guarded Deed = "guarded"
	// Aborted: the caller of a session took leave, and its plan was aborted.
	Aborted Deed = "aborted"
	// Healed: the server's word about the end of a task did not come, and those who
	// listen were told by its record. Such a record is of no request: its Method is
	// STOMP, its Path the destination, and Took how long after the record was read.
	Healed Deed = "healed"
)

// Record is what became of one request of a caller; a session by WebSocket is one. It holds no header, no body, and no
// query.
type Record struct {
	// At is when the request came.
	At   time.Time
	Took time.Duration
	// Op is the operation, such as "GET /tasks/{id}"; "other" is all of which nothing
	// is known, so that there are few of them.
	Op     string
	Method string
	Path   string
	// Task is the task that was to be started, or whose end was told, by the id that
	// callers know; "" if a session has started none.
	Task string
	// Status is that of the answer; 0 if none was begun.
	Status int
	// Verdict is the gateway's own word, if the answer bears one, or a session ended
	// with one: not-sent, withdrawn or unknown. After a caller of a session has left,
	// unknown means that it is not known whether its plan was aborted.
	Verdict string
	// Attempts is how many requests to the server were begun for it: more than one
	// where a protocol wants several, and none where another caller's served.
	Attempts int
	// Resends is how many of them repeated another.
	Resends int
	// Deed is what was done for the caller; "" if its request was just passed on.
	Deed Deed
	// Gone tells that the caller did not wait for the answer.
	Gone bool
}
