package blueapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/adamant-go/adamant/retry"
)

// WorkerState is what the server's one worker is doing.
type WorkerState string

// The states of the bluesky run engine, as blueapi names them. StateIdle does not
// mean that a plan has ended: it is also the state of a worker that has taken a
// task and not begun it yet.
const (
	StateIdle       WorkerState = "IDLE"
	StateRunning    WorkerState = "RUNNING"
	StatePausing    WorkerState = "PAUSING"
	StatePaused     WorkerState = "PAUSED"
	StateHalting    WorkerState = "HALTING"
	StateStopping   WorkerState = "STOPPING"
	StateAborting   WorkerState = "ABORTING"
	StateSuspending WorkerState = "SUSPENDING"
	StatePanicked   WorkerState = "PANICKED"
	StateUnknown    WorkerState = "UNKNOWN"
)

// WorkerTask returns the id of the task that the worker has or had last; "" if it
// has had none in this environment. It goes on naming a task that has ended.
func (c *Client) WorkerTask(ctx context.Context) (string, error) { return c.workerTask(ctx, how{}) }

func (c *Client) workerTask(ctx context.Context, h how) (string, error) {
	var answer workerTask
	op := read("GET /worker/task", "/worker/task", h)
	op.key = "task_id"
	err := c.do(ctx, op, &answer)
	if err != nil || answer.ID == nil {
		return "", err
	}
	return *answer.ID, nil
}

// workerTask is the answer to GET /worker/task, and what PUT sends.
type workerTask struct {
	ID *string `json:"task_id"`
}

// WorkerState reads what the worker is doing.
func (c *Client) WorkerState(ctx context.Context) (WorkerState, error) {
	return c.workerState(ctx, how{})
}

func (c *Client) workerState(ctx context.Context, h how) (WorkerState, error) {
	var s WorkerState
	op := read("GET /worker/state", "/worker/state", h)
	op.check = func(answer []byte) bool {
		var s WorkerState
		return json.Unmarshal(answer, &s) == nil && s != ""
	}
	err := c.do(ctx, op, &s)
	return s, err
}

// startTask makes one attempt to start a task. The server does not keep a task
// from being started twice, so this is never repeated unless nothing was sent.
func (c *Client) startTask(ctx context.Context, id string) error {
	return c.do(ctx, operation{
		name: "PUT /worker/task", method: http.MethodPut, path: "/worker/task",
		in:     workerTask{&id},
		safety: retry.Once, attempts: 1, silence: startSilenceLimit, fresh: true, check: namesTask(id),
	}, nil)
}

// how says how a read is made. The zero value is the client's own way.
type how struct {
	// patience is how long a server that is away is waited for.
	patience time.Duration
	urgent   bool
	free     bool
}

func read(name, path string, h how) operation {
	return operation{name: name, method: http.MethodGet, path: path, wait: h.patience, urgent: h.urgent, free: h.free}
}

// lookAtWorker reads what the worker does. It is starting if it has taken a task and
// not begun it.
func (c *Client) lookAtWorker(ctx context.Context, h how) (state WorkerState, task string, starting bool, err error) {
	if state, err = c.workerState(ctx, h); err != nil {
		return state, "", false, err
	}
	if task, err = c.workerTask(ctx, h); err != nil || task == "" {
		return state, "", false, err
	}
	t, err := c.task(ctx, task, h)
	if isNotFound(err) {
		return state, task, false, nil
	}
	return state, task, err == nil && !t.IsPending && !t.IsComplete, err
}
