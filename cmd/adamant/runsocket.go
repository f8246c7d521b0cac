package main

import (
	"context"
	"errors"

	"github.com/adamant-go/adamant/blueapi"
)

// overWebSocket runs a plan over a web socket, as the user wants it. It is not done if
// the server has none: then nothing was asked of it.
func (w *follower) overWebSocket(
	ctx, limited context.Context, j *runJournal, request blueapi.TaskRequest,
) (done bool, err error) {
	waiting, leave := context.WithCancelCause(limited)
	defer leave(nil)
	trace := w.client.RunTrace
	trace.Submitted = func(task string) { w.task = task }
	if w.app.ui.voice == asBlueapi {
		paused := trace.Paused
		defer func() { trace.Paused = paused }()
		trace.Paused = func(string) { leave(errPaused) } // as blueapi: its run ends there
	}
	for {
		if w.o.waitIdle {
			w.waitIdle(limited)
		}
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
			return true, w.follow(ctx, limited, r)
		}
		if w.o.waitIdle && result.Reason == blueapi.Busy && limited.Err() == nil {
			continue
		}
		if errors.Is(context.Cause(waiting), errPaused) {
			result.Word, result.Reason, err = blueapi.Done, blueapi.NotRecorded, nil
			result.Task = w.pausedRecord(ctx)
		}
		w.show.close()
		return true, w.end(ctx, context.Cause(waiting), result, err)
	}
}
