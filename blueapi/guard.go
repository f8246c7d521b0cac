package blueapi

import (
	"context"
	"errors"
	"time"

	"github.com/adamant-go/adamant/retry"
)

// guard is what the worker was found to do.
type guard struct {
	at    time.Time // when the last answer came
	task  string
	state WorkerState
}

// isSilence reports whether a server that could be connected to did not answer.
func isSilence(err error) bool {
	tries, ok := errors.AsType[*retry.Error](err)
	if !ok {
		return false
	}
	_, silent := errors.AsType[*retry.SilenceError](tries.Err)
	return silent
}

// guard reads the worker: its task, its state, and its task again, so that the state
// is the task's. The worker names the last task that it began, so no other has begun
// until the last of these answers.
func (k *control) guard(ctx context.Context) (guard, error) {
	c, now := k.client, how{urgent: true}
	if k.cmd.Verb == Resume && k.unclear > 0 {
		now.patience = runPatience // which sends less often
	}
	for n := 1; ; n++ {
		before, err := c.workerTask(ctx, now)
		if err != nil {
			return guard{}, err
		}
		if !k.asked && k.result.TaskID == "" {
			k.result.TaskID = before
		}
		k.asked = true
		state, err := c.workerState(ctx, now)
		if err != nil {
			return guard{}, err
		}
		asked := time.Now()
		after, err := c.workerTask(ctx, now)
		if err != nil {
			return guard{}, err
		}
		k.from = state
		g := guard{at: time.Now(), task: after, state: state}
		if before == after && g.at.Sub(asked) <= guardAge || n == maxGuards {
			return g, nil
		}
	}
}
