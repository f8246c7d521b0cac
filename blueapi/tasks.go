package blueapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/adamant-go/adamant/retry"
)

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
	// Extra is what a later server says besides.
	Extra Extra `json:"-"`
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

// Tasks lists the tasks of one status, or all of them if status is empty: those
// that wait and run first, then those that are over.
func (c *Client) Tasks(ctx context.Context, status TaskStatus) ([]Task, error) {
	return c.tasks(ctx, status, how{})
}

func (c *Client) tasks(ctx context.Context, status TaskStatus, h how) ([]Task, error) {
	path := "/tasks"
	if status != "" {
		path += "?task_status=" + url.QueryEscape(string(status))
	}
	var answer struct {
		Tasks []Task `json:"tasks"`
	}
	op := read("GET /tasks", path, h)
	op.key = "tasks"
	err := c.do(ctx, op, &answer)
	return answer.Tasks, err
}

// Task reads one task. The error is an [*Error] with status 404 if the server has
// none of that id (any more), or does not show it to this user.
func (c *Client) Task(ctx context.Context, id string) (Task, error) { return c.task(ctx, id, how{}) }

func (c *Client) task(ctx context.Context, id string, h how) (Task, error) {
	var t Task
	op := read("GET /tasks/{id}", taskPath(id), h)
	op.check = namesTask(id)
	err := c.do(ctx, op, &t)
	return t, err
}

// SubmitTask stores a task and returns its id. Nothing moves until it is started.
// It may be repeated freely: an answer that is lost leaves a task behind that is
// never started.
//
// The error is an [*Error] with status 404 if there is no such plan, and 422 if
// its parameters are wrong.
func (c *Client) SubmitTask(ctx context.Context, r TaskRequest) (id string, err error) {
	if r.Params == nil {
		r.Params = json.RawMessage("{}")
	}
	var answer struct {
		ID string `json:"task_id"`
	}
	err = c.do(ctx, operation{name: "POST /tasks", method: http.MethodPost, path: "/tasks", in: r}, &answer)
	if err == nil && answer.ID == "" {
		err = &Error{Op: "POST /tasks", Status: http.StatusOK, Foreign: true, Detail: "an answer without a task id"}
	}
	return answer.ID, err
}

const opDelete = "DELETE /tasks/{id}"

// DeleteTask removes a task that has not begun. Do not delete one that runs: the
// plan goes on, and nobody can see any more how it ends.
//
// A task that is gone after an attempt whose answer was lost counts as deleted.
func (c *Client) DeleteTask(ctx context.Context, id string) error {
	err := c.do(ctx, operation{name: opDelete, method: http.MethodDelete, path: taskPath(id)}, nil)
	tries, ok := errors.AsType[*retry.Error](err)
	lost := func(r retry.Record) bool { return r.Verdict == retry.Ambiguous }
	if ok && isNotFound(err) && slices.ContainsFunc(tries.Records, lost) {
		return nil // it was there: an earlier attempt deleted it
	}
	return err
}

// deletePending deletes a task, or reports that it has begun. A request whose answer
// was lost is repeated only after another look at the task: if it got lost too, a
// request to start the task that is still under way may have arrived meanwhile, and to
// delete it then would leave a plan that runs without a record. It tells whether a request
// was sent, which may have deleted the task whatever the error.
func (c *Client) deletePending(ctx context.Context, id string, h how) (begun, sent bool, err error) {
	op := operation{
		name: opDelete, method: http.MethodDelete, path: taskPath(id),
		safety: retry.Once, wait: h.patience, urgent: h.urgent,
	}
	end := time.Now().Add(h.patience)
	for n := 1; ; n++ {
		t, err := c.task(ctx, id, h)
		switch {
		case isNotFound(err) && n > 1:
			return false, sent, nil // a request that was not answered deleted it
		case err != nil:
			return false, sent, err
		case !t.IsPending:
			return true, sent, nil
		}
		err = c.do(ctx, op, nil)
		tries, ok := errors.AsType[*retry.Error](err)
		sent = sent || err == nil || ok && tries.Sent
		switch {
		case isNotFound(err) && n > 1:
			return false, sent, nil
		case err == nil || !ok || !tries.Sent || n >= maxDeletes && !time.Now().Before(end):
			return false, sent, err
		}
		if sleep(ctx, lookPause) != nil {
			return false, sent, err
		}
	}
}

// maxDeletes is how often a task is deleted by callers who have no more patience than
// that, as often as any request is sent.
const maxDeletes = 5

func taskPath(id string) string { return "/tasks/" + url.PathEscape(id) }

// namesTask returns a check that an answer is about the task.
func namesTask(id string) func(answer []byte) bool {
	return func(answer []byte) bool {
		var t struct {
			ID string `json:"task_id"`
		}
		return json.Unmarshal(answer, &t) == nil && t.ID == id
	}
}
