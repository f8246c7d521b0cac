package gateway

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/stomp"
)

// message is what callers get for an event: the same, under the id that they know.
func (h *hub) message(e blueapi.Event) *stomp.Message {
	m := &stomp.Message{Destination: h.destination, Body: e.Raw, Headers: slices.DeleteFunc(slices.Clone(e.Headers), func(header blueapi.Header) bool {
		switch header.Name {
		case "subscription", "destination", "message-id", "redelivered", "content-length", "ack":
			return true // of the gateway's own subscription
		}
		return false
	})}
	if shown := h.gateway.aliases.shown(e.TaskID); shown != e.TaskID {
		m.Body = rename(e.Raw, e.TaskID, shown)
		for i := range m.Headers {
			if m.Headers[i].Value == e.TaskID {
				m.Headers[i].Value = shown
			}
		}
	}
	return m
}

// rename puts another id in the place of one, everywhere but in a document.
func rename(raw []byte, id, shown string) []byte {
	replace := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(id), []byte(shown)) }
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return raw
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return raw
		}
		begin := d.InputOffset()
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return raw
		}
		if key == "doc" {
			end := d.InputOffset()
			return slices.Concat(replace(raw[:begin]), raw[begin:end], replace(raw[end:]))
		}
	}
	return replace(raw)
}

// workerEvent is a word of the server about its worker, as the server writes it
// (1.21).
type workerEvent struct {
	State    blueapi.WorkerState `json:"state"`
	Task     taskStatus          `json:"task_status"`
	Errors   []string            `json:"errors"`
	Warnings []string            `json:"warnings"`
}

type taskStatus struct {
	ID       string `json:"task_id"`
	Result   any    `json:"result"` // nil, success or failure
	Complete bool   `json:"task_complete"`
	Failed   bool   `json:"task_failed"`
}

type success struct {
	Kind   string          `json:"outcome"`
	Result json.RawMessage `json:"result"`
	Type   string          `json:"type"`
}

type failure struct {
	Kind    string `json:"outcome"`
	Type    string `json:"type"`
	Message string `json:"message"`
}

// state is a word about the worker that the server has not said, or not to us. seen is
// the task's record; nil if it says nothing yet.
func (h *hub) state(id string, state blueapi.WorkerState, seen *blueapi.Task) *stomp.Message {
	e := workerEvent{State: state, Task: taskStatus{ID: h.gateway.aliases.shown(id)}, Errors: []string{}, Warnings: []string{}}
	if seen != nil {
		e.Task.Complete, e.Task.Failed = seen.IsComplete, len(seen.Errors) > 0
		e.Errors = append(e.Errors, seen.Errors...)
		switch o := seen.Outcome; {
		case o == nil:
		case o.Kind == "success":
			e.Task.Result = success{o.Kind, o.Result, o.Type}
		default:
			e.Task.Result = failure{o.Kind, o.Type, o.Message}
		}
	}
	return &stomp.Message{Destination: h.destination, Body: marshal(e), Headers: []stomp.Header{
		{Name: "JMSType", Value: "TextMessage"}, {Name: "correlation-id", Value: e.Task.ID},
	}}
}

// ending is the last word about a task; unknown is why nobody knows how it ended, "" if
// its record tells.
func (h *hub) ending(t *followed, unknown string) *stomp.Message {
	seen := t.seen
	if unknown != "" {
		seen = &blueapi.Task{Errors: []string{unknown}, Outcome: &blueapi.Outcome{Kind: "error", Type: "Unknown", Message: unknown}}
	}
	seen.IsComplete = true
	return h.state(t.id, blueapi.StateIdle, seen)
}
