package blueapi

import "encoding/json"

// TaskRequest asks for one run of a plan.
type TaskRequest struct {
	// Name is the plan's.
	Name string `json:"name"`
	// Params are the plan's arguments, a JSON object; nil means none.
	Params json.RawMessage `json:"params,omitempty"`
	// InstrumentSession says whom the data belong to, such as cm12345-1.
	InstrumentSession string `json:"instrument_session"`
}

// Task is what the server remembers of one TaskRequest. It is kept in memory
// until the environment changes or someone deletes it.
type Task struct {
	ID      string   `json:"task_id"`
	Request TaskSpec `json:"task"`
	// RequestID is set by the server; 1.21 never sets it.
	RequestID *string `json:"request_id"`
	// IsComplete is also true of a paused task: see Client.Run for what "over"
	// means.
	IsComplete bool `json:"is_complete"`
	// IsPending is true until the worker has taken the task.
	IsPending bool     `json:"is_pending"`
	Errors    []string `json:"errors"`
	// Outcome is nil until the plan has ended.
	Outcome *Outcome `json:"outcome"`
}

// TaskSpec is a TaskRequest as the server stored it.
type TaskSpec struct {
	Name     string          `json:"name"`
	Params   json.RawMessage `json:"params"`
	Metadata json.RawMessage `json:"metadata"`
}

// Outcome is how a plan ended.
type Outcome struct {
	// Kind is "success" or "error".
	Kind string `json:"outcome"`
	// Result is what the plan returned; null if nothing, or if Type could not
	// be written as JSON.
	Result json.RawMessage `json:"result,omitempty"`
	// Type is the Python type of the result or of the exception.
	Type string `json:"type"`
	// Message is the exception's text.
	Message string `json:"message,omitempty"`
}

// TaskStatus selects tasks in Client.Tasks.
type TaskStatus string

// The statuses that the server knows. A failed task counts as complete; no
// server to date lists anything under TaskError. A paused task is listed as
// complete (1.21).
const (
	TaskPending  TaskStatus = "PENDING"
	TaskRunning  TaskStatus = "RUNNING"
	TaskComplete TaskStatus = "COMPLETE"
	TaskError    TaskStatus = "ERROR"
)
