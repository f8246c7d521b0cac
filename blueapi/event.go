package blueapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/adamant-go/adamant/internal/stomp"
)

// Event is something that the server says about its worker while plans run, or a
// [Gap] in what it said. One of Worker, Progress, Data and Gap is set; none is, if
// what came is of no kind that this version knows: it is in Raw.
type Event struct {
	// At is when it was taken by the consumer.
	At time.Time
	// TaskID is the task that it is about; "" if it names none.
	TaskID   string
	Worker   *WorkerEvent
	Progress *ProgressEvent
	Data     *DataEvent
	Gap      *Gap
	// Raw is the event as it came; nil for a Gap.
	Raw json.RawMessage
	// Headers are those of the broker's message, in its order; nil for a Gap, and for
	// what came by a WebSocket. They belong to the event.
	Headers []Header
}

// Header is a header of a message: its Name and its Value. The server sets
// correlation-id, which is the task's id except for documents, and traceparent (1.21).
type Header = stomp.Header

// Gap tells that events may be missing.
type Gap struct {
	// From is when the broker, or the server, was heard last.
	From time.Time
	// Until is when events came again; zero while the gap lasts. A gap that lasts is
	// told twice, when it begins and when it is over.
	Until time.Time
	// Missed is how many events were dropped here, for lack of room. What was not
	// received nobody can count.
	Missed int
	// Attempts is how often it was tried to connect.
	Attempts int
	// Err is why.
	Err error
}

// WorkerEvent tells that the worker's state, or that of its task, has changed.
type WorkerEvent struct {
	State WorkerState `json:"state"`
	// Task is the task that the worker has; nil if it has none.
	Task *TaskReport `json:"task_status"`
	// Errors may be those of an earlier task (1.21).
	Errors   []string `json:"errors"`
	Warnings []string `json:"warnings"`
}

// TaskReport is what a WorkerEvent says of a task.
type TaskReport struct {
	ID string `json:"task_id"`
	// Outcome is nil until the task is complete.
	Outcome *Outcome `json:"result"`
	// Complete is also true of a task that is paused, and Failed with it (1.21):
	// the State tells.
	Complete bool `json:"task_complete"`
	Failed   bool `json:"task_failed"`
}

// ProgressEvent tells how far the moves of a task are.
type ProgressEvent struct {
	// Moves are in the server's order. One that is done comes once more with Done set,
	// and, in 1.21, without its name and numbers.
	Moves []Move
}

// Move is something that a plan waits for, such as a motor on its way. What the
// server does not know is nil.
type Move struct {
	// ID is the same in all events of a move.
	ID        string
	Name      string   `json:"display_name"`
	Current   *float64 `json:"current"`
	Initial   *float64 `json:"initial"`
	Target    *float64 `json:"target"`
	Unit      string   `json:"unit"`
	Precision *int     `json:"precision"`
	Done      bool     `json:"done"`
	// Fraction is from 0 to 1. 1.21 leaves it out until the end.
	Fraction *float64 `json:"percentage"`
	// Elapsed and Remaining are in seconds.
	Elapsed   *float64 `json:"time_elapsed"`
	Remaining *float64 `json:"time_remaining"`
}

// DataEvent is a document of the data that a plan takes (bluesky's event model).
type DataEvent struct {
	// Name is the kind of document: start, descriptor, event, event_page,
	// stream_resource, stream_datum, resource, datum or stop.
	Name string
	Doc  json.RawMessage
}

var errNoEvent = errors.New("blueapi: not an event")

// decodeEvent reads what the server publishes. Kinds are told apart by their members:
// there is nothing else to tell them by (1.21). What is of no known kind is returned
// with Raw alone.
func decodeEvent(raw []byte, now time.Time) Event {
	e := Event{At: now, Raw: raw}
	var m struct {
		State    json.RawMessage `json:"state"`
		Statuses json.RawMessage `json:"statuses"`
		Name     json.RawMessage `json:"name"`
		Doc      json.RawMessage `json:"doc"`
		TaskID   *string         `json:"task_id"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return e
	}
	if m.TaskID != nil {
		e.TaskID = *m.TaskID
	}
	switch {
	case m.State != nil:
		w := new(WorkerEvent)
		if json.Unmarshal(raw, w) != nil || w.State == "" {
			return e
		}
		if e.Worker = w; w.Task != nil {
			e.TaskID = w.Task.ID
		}
	case m.Statuses != nil:
		p := new(ProgressEvent)
		if p.read(m.Statuses) == nil {
			e.Progress = p
		}
	case m.Doc != nil:
		d := &DataEvent{Doc: m.Doc}
		if json.Unmarshal(m.Name, &d.Name) == nil {
			e.Data = d
		}
	}
	return e
}

// read keeps the order of the object's members, which a map would lose.
func (p *ProgressEvent) read(object []byte) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errNoEvent
	}
	for d.More() {
		id, err := d.Token()
		if err != nil {
			return err
		}
		m := Move{ID: fmt.Sprint(id)}
		if err := d.Decode(&m); err != nil {
			return err
		}
		p.Moves = append(p.Moves, m)
	}
	return nil
}
