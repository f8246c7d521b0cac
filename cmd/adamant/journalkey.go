package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

// takenKey is the run that has the key of another one that was not begun for that
// reason; nil if err says nothing of the kind.
func takenKey(err error) *journal.Run {
	if taken, ok := errors.AsType[*journal.KeyError](err); ok {
		return &taken.Run
	}
	return nil
}

// startOnce starts a plan, unless the key of the request was used before: then it comes
// back to the earlier run, if that was for the same request. The error is that of start,
// or how the command ends.
func (w *follower) startOnce(ctx context.Context, j *runJournal, request blueapi.TaskRequest) (*blueapi.Run, error) {
	for {
		r, err := w.start(ctx, request)
		earlier := takenKey(err)
		if earlier == nil {
			return r, err
		}
		r, free, err := w.comeAgain(ctx, j, *earlier, request)
		if !free {
			return r, err
		}
	}
}

// comeAgain goes on with the run that has the key of a request. Free tells that it was
// never started, so that the key can be used.
func (w *follower) comeAgain(
	ctx context.Context, j *runJournal, earlier journal.Run, request blueapi.TaskRequest,
) (r *blueapi.Run, free bool, err error) {
	a := w.app
	if other := j.otherThan(earlier, request); other != "" {
		return nil, false, ending{msg: a.ui.voice.errorf("%s", other), status: statusUsage}
	}
	task, _ := earlier.Task()
	if task == "" {
		task = "none yet"
	}
	a.ui.note("key %s was used before, for the same run (at %s, task %s): coming back to that", earlier.Key, clock(earlier.At), task)
	t := target{journal: j, run: earlier}
	r, result, err := a.takeUp(ctx, w.client, &t, true)
	switch {
	case r != nil:
		return r, false, nil
	case result.Word == blueapi.NotStarted && ctx.Err() == nil && j.hasEnd(ctx, earlier.ID):
		a.ui.note("plan %s was not started then", earlier.Plan)
		return nil, true, nil
	case result.Started && w.o.ground == background:
		return nil, false, ending{out: startedText(result.TaskID, w.f)} // as the first time
	}
	return nil, false, a.endOfPast(ctx, w.client, t.run, w.f, w.o.timeout, result, err)
}

// hasEnd reports whether it is recorded how a run ended. Without that its key stays taken.
func (j *runJournal) hasEnd(ctx context.Context, id string) bool {
	run, err := j.find(ctx, id)
	return err == nil && run.End() != nil
}

// otherThan says what tells a request apart from the earlier run that has its key; "" if
// nothing does.
func (j *runJournal) otherThan(earlier journal.Run, r blueapi.TaskRequest) string {
	var b strings.Builder
	differs := func(what, then, now string) {
		fmt.Fprintf(&b, "\n    %-9s then %s\n              now  %s", what+":", oneLine(then), oneLine(now))
	}
	if earlier.Server != j.server {
		differs("server", earlier.Server, j.server)
	}
	if earlier.Plan != r.Name {
		differs("plan", earlier.Plan, r.Name)
	}
	if earlier.ParamsDigest != journal.Digest(r.Params) {
		now := pastRun{Run: journal.Run{Request: journal.Request{Params: r.Params}}}
		differs("params", pastRun{Run: earlier}.paramsText(), now.paramsText())
	}
	if earlier.Session != r.InstrumentSession {
		differs("session", earlier.Session, r.InstrumentSession)
	}
	if b.Len() == 0 {
		return ""
	}
	task, _ := earlier.Task()
	return fmt.Sprintf("key %s was used before, for another run (at %s, task %s); nothing was started:%s\n"+
		"    A key is for one run: use another one for this.", earlier.Key, clock(earlier.At), orDash(task), &b)
}
