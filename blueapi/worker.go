package blueapi

import (
	"context"
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
func (c *Client) WorkerTask(ctx context.Context) (string, error) { return c.workerTask(ctx, 0) }

func (c *Client) workerTask(ctx context.Context, patience patience) (string, error) {
	var answer struct {
		ID *string `json:"task_id"`
	}
	err := c.do(ctx, read("GET /worker/task", "/worker/task", patience), &answer)
	if err != nil || answer.ID == nil {
		return "", err
	}
	return *answer.ID, nil
}

// WorkerState reads what the worker is doing.
func (c *Client) WorkerState(ctx context.Context) (WorkerState, error) { return c.workerState(ctx, 0) }

func (c *Client) workerState(ctx context.Context, patience patience) (WorkerState, error) {
	var s WorkerState
	err := c.do(ctx, read("GET /worker/state", "/worker/state", patience), &s)
	return s, err
}

// startTask makes one attempt to start a task. The server does not keep a task
// from being started twice, so this is never repeated unless nothing was sent.
func (c *Client) startTask(ctx context.Context, id string) error {
	return c.do(ctx, operation{
		name: "PUT /worker/task", method: http.MethodPut, path: "/worker/task",
		in: struct {
			ID string `json:"task_id"`
		}{id},
		safety: retry.Once, attempts: 1, silence: startSilenceLimit, fresh: true, check: namesTask(id),
	}, nil)
}

// patience is how long a call waits for a server that is away; zero means the
// client's own way.
type patience = time.Duration

func read(name, path string, patience patience) operation {
	return operation{name: name, method: http.MethodGet, path: path, wait: patience}
}
