package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
)

// blueapi's own codes for the end of a session (1.21.1).
const (
	closeUnknownPlan  websocket.StatusCode = 4001
	closeInvalidArgs  websocket.StatusCode = 4002
	closeUnauthorized websocket.StatusCode = 4003
)

// reasonLimit is how long the reason of a close frame may be, in bytes (RFC 6455, 5.5).
const reasonLimit = 123

// ending is how a session ends: a last frame, if there is one, and a close frame.
type ending struct {
	frame  []byte
	code   websocket.StatusCode
	reason string
}

func invalidRequest() ending {
	return ending{nil, websocket.StatusInvalidFramePayloadData, "Invalid Request"}
}

func workerBusy() ending {
	return ending{[]byte(`{"kind":"busy"}`), websocket.StatusTryAgainLater, "Worker busy"}
}

// because is an end that blueapi has no frame for. The caller's exception bears code and
// reason.
func because(code websocket.StatusCode, reason string) ending {
	if len(reason) > reasonLimit {
		n := reasonLimit
		for !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	return ending{nil, code, reason}
}

// parseSubmit reads the request to run a plan. It is not ok if blueapi would say that it
// is invalid, other than for the plan's parameters.
func parseSubmit(text []byte) (req blueapi.TaskRequest, ok bool) {
	var frame, task map[string]json.RawMessage
	if !utf8.Valid(text) || json.Unmarshal(text, &frame) != nil || json.Unmarshal(frame["task"], &task) != nil || task == nil {
		return req, false
	}
	if kind, given := frame["kind"]; given {
		var name string
		if !isString(kind) || json.Unmarshal(kind, &name) != nil || name != "submit" {
			return req, false
		}
	}
	req.Params = json.RawMessage("{}")
	for key, value := range task {
		var err error
		switch {
		case key == "name" && isString(value):
			err = json.Unmarshal(value, &req.Name)
		case key == "instrument_session" && isString(value):
			err = json.Unmarshal(value, &req.InstrumentSession)
		case key == "params" && value[0] == '{':
			req.Params = value
		default:
			return req, false
		}
		if err != nil {
			return req, false
		}
	}
	_, named := task["name"]
	_, told := task["instrument_session"]
	return req, named && told
}

// isString reports whether a JSON value is a string.
func isString(value json.RawMessage) bool { return len(value) > 0 && value[0] == '"' }

// refusedBy is how blueapi tells over a WebSocket what it answers by HTTP to a task that
// it does not store.
func refusedBy(err error, plan string) (end ending, ok bool) {
	cause := err
	if tries, is := errors.AsType[*retry.Error](err); is {
		cause = tries.Err
	}
	e, is := errors.AsType[*blueapi.Error](cause)
	if !is || e.Foreign {
		return ending{}, false
	}
	switch submitted := e.Op == "POST /tasks"; {
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return ending{[]byte(`{"kind":"unauthorized"}`), closeUnauthorized, "Unauthorized"}, true
	case submitted && e.Status == http.StatusNotFound:
		return ending{marshal(struct {
			Kind string `json:"kind"`
			Name string `json:"plan_name"`
		}{"plan_not_found", plan}), closeUnknownPlan, "Unknown Plan"}, true
	case submitted && e.Status == http.StatusUnprocessableEntity && e.Fields != nil:
		if slices.ContainsFunc(e.Fields, func(f blueapi.InvalidField) bool { return len(f.Loc) < 2 || f.Loc[1] != "params" }) {
			return invalidRequest(), true
		}
		return ending{marshal(struct {
			Kind   string                 `json:"kind"`
			Errors []blueapi.InvalidField `json:"errors"`
		}{"invalid_args", e.Fields}), closeInvalidArgs, "Invalid Args"}, true
	}
	return ending{}, false
}

// update is the frame that tells of an event.
func update(event []byte) []byte {
	return slices.Concat([]byte(`{"kind":"update","data":`), bytes.TrimSpace(event), []byte("}"))
}

// workerUpdate tells what the server would of its worker: that it has a task, or, if
// there is an outcome, that the task is complete.
func workerUpdate(state blueapi.WorkerState, id string, record *blueapi.Task) []byte {
	type report struct {
		ID       string `json:"task_id"`
		Result   any    `json:"result"`
		Complete bool   `json:"task_complete"`
		Failed   bool   `json:"task_failed"`
	}
	event := struct {
		State    blueapi.WorkerState `json:"state"`
		Task     report              `json:"task_status"`
		Errors   []string            `json:"errors"`
		Warnings []string            `json:"warnings"`
	}{state, report{ID: id}, []string{}, []string{}}
	if record != nil {
		event.Task.Complete = true
		if o := record.Outcome; o != nil {
			event.Task.Result, event.Task.Failed = outcomeOf(o), o.Kind == "error"
		}
		if len(record.Errors) > 0 {
			event.Task.Failed, event.Errors = true, record.Errors
		}
	}
	return update(marshal(event))
}

// outcomeOf writes an outcome with all members that it has, empty ones too.
func outcomeOf(o *blueapi.Outcome) any {
	if o.Kind == "error" {
		return struct {
			Kind    string `json:"outcome"`
			Type    string `json:"type"`
			Message string `json:"message"`
		}{o.Kind, o.Type, o.Message}
	}
	return struct {
		Kind   string          `json:"outcome"`
		Result json.RawMessage `json:"result"`
		Type   string          `json:"type"`
	}{o.Kind, o.Result, o.Type}
}
