package main

import (
	"context"
	"errors"
	"sync"

	"github.com/adamant-go/adamant/blueapi"
)

// overWebSocket runs a plan over a web socket, as the user wants it. It is not done if
// the server has none: then nothing was asked of it.
func (w *follower) overWebSocket(
	ctx, limited context.Context, j *runJournal, request blueapi.TaskRequest,
) (done bool, err error) {
	waiting, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	trace := w.client.RunTrace
	submitted := trace.Submitted
	trace.Submitted = func(task string) { w.setTask(task); submitted(task) }
	stopClock := w.watchClock(ctx, limited, leave)
	defer stopClock()
	if w.app.ui.voice == asBlueapi {
		paused := trace.Paused
		defer func() { trace.Paused = paused }()
		trace.Paused = func(string) { leave(errPaused) } // as blueapi: its run ends there
	}
	for {
		hope := w.o.waitIdle && w.waitIdle(limited)
		result, err := w.client.RunWebSocket(waiting, request)
		if r := refusal(err); r != nil && r.NoWebSocket {
			w.app.ui.note("the server has no web socket for runs: doing without")
			return false, nil
		}
		if earlier := takenKey(err); earlier != nil {
			r, free, err := w.comeAgain(limited, j, *earlier, request)
			switch {
			case free:
				continue
			case err != nil:
				return true, err
			}
			defer r.Close()
			stopClock()
			return true, w.follow(ctx, limited, r)
		}
		if hope && w.startAgain(limited, result) {
			continue
		}
		if errors.Is(context.Cause(waiting), errPaused) {
			result.Word, result.Reason, err = blueapi.Done, blueapi.NotRecorded, nil
			result.Task = w.pausedRecord(ctx)
		}
		stopClock()
		w.hangUp(result)
		w.show.close()
		return true, w.end(ctx, context.Cause(waiting), result, err)
	}
}

// watchClock leaves a run over a web socket when its time is over: its plan is ended
// first if the user wants that, while the connection still tells of its end.
func (w *follower) watchClock(ctx, limited context.Context, leave context.CancelCauseFunc) (stop func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-limited.Done():
		case <-done:
			return
		}
		if w.o.atTimeout == leaveIt || w.taskID() == "" || ctx.Err() != nil {
			leave(errOverdue)
			return
		}
		finishing, cancel := context.WithTimeout(ctx, finishLimit+w.client.Wait)
		defer cancel()
		w.endPlan(finishing)
		select {
		case <-finishing.Done():
			leave(errOverdue)
		case <-done:
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		watching.Wait()
	})
}

// hangUp notes that the server ends a plan because the run's connection was closed.
func (w *follower) hangUp(r blueapi.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hungUp = r.Started && overdue(r)
}
