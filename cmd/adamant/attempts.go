package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
)

// observer tells the user what becomes of the calls of a command: with -v every
// attempt is logged, a wait of more than two seconds is announced on a terminal,
// and a call that needed more than one attempt is reported in one line when it
// succeeds.
type observer struct {
	ui    *ui
	log   *slog.Logger
	waits *notifier
}

func (u *ui) observer(l level) *observer {
	o := &observer{ui: u, log: slog.New(slog.DiscardHandler), waits: u.notifier()}
	if l == verbose {
		o.log = slog.New(slog.NewTextHandler(stderr{u}, &slog.HandlerOptions{ReplaceAttr: withoutDate}))
	}
	return o
}

// calls observes calls and attempts.
func (o *observer) calls() *retry.Trace {
	return &retry.Trace{
		Attempting: func(_ context.Context, a retry.AttemptInfo) { o.waits.Waiting(awaited(a.Op)) },
		Attempted: func(ctx context.Context, a retry.AttemptInfo, r retry.Record) {
			logAttempt(ctx, o.log, a, r)
		},
		Waiting: func(ctx context.Context, w retry.WaitInfo) {
			o.waits.Waiting(awaited(w.Op))
			logWait(ctx, o.log, w)
		},
		Ended: func(_ context.Context, e retry.EndInfo) {
			o.waits.Over()
			if e.Err == nil && e.Attempts > 1 {
				o.ui.note("%s", recovered(e))
			}
		},
	}
}

// awaited says what an operation waits for.
func awaited(op string) string {
	if op == "PUT /worker/task" {
		return "the plan to start"
	}
	return "the server to answer"
}

// runs observes the steps of a run.
func (o *observer) runs() *blueapi.RunTrace {
	step := func(what, task string, err error) {
		attrs := []slog.Attr{slog.String("step", what), slog.String("task", task)}
		if err != nil {
			attrs = append(attrs, slog.String("cause", err.Error()))
		}
		o.log.LogAttrs(context.Background(), slog.LevelInfo, "run", attrs...)
	}
	return &blueapi.RunTrace{
		Submitted: func(task string) { step("submitted", task, nil) },
		Starting:  func(task string) { step("starting", task, nil) },
		Started:   func(task string) { step("started", task, nil) },
		Looking: func(task string, err error) {
			step("looking whether it started", task, err)
			o.ui.note("no word on whether the plan was started: looking, not asking again")
		},
		Withdrawing: func(task string, err error) {
			step("withdrawing", task, err)
		},
		Paused: func(task string) {
			step("paused", task, nil)
			o.ui.note("the plan is paused: waiting until somebody resumes or aborts it")
		},
	}
}

// recovered words that a call succeeded after all.
func recovered(e retry.EndInfo) string {
	s := fmt.Sprintf("server unreachable for %.1f s, answered at attempt %d", e.Took.Seconds(), e.Attempts)
	if e.Of > 0 {
		s += fmt.Sprintf(" of %d", e.Of)
	}
	return s
}

func logAttempt(ctx context.Context, log *slog.Logger, a retry.AttemptInfo, r retry.Record) {
	attrs := attemptAttrs(a)
	if a.Copy {
		attrs = append(attrs, slog.Bool("copy", true))
	}
	attrs = append(attrs, slog.String("verdict", r.Verdict.String()))
	if r.Err != nil {
		attrs = append(attrs, slog.String("cause", r.Err.Error()))
	}
	attrs = append(attrs, rounded("waited", r.Waited), rounded("took", r.Took))
	log.LogAttrs(ctx, slog.LevelInfo, "attempt", attrs...)
}

func logWait(ctx context.Context, log *slog.Logger, w retry.WaitInfo) {
	attrs := attemptAttrs(w.AttemptInfo)
	if w.Delay > 0 {
		attrs = append(attrs, rounded("wait", w.Delay))
	} else {
		attrs = append(attrs, slog.String("wait", "at the gate"))
	}
	if w.Err != nil {
		attrs = append(attrs, slog.String("cause", w.Err.Error()))
	}
	log.LogAttrs(ctx, slog.LevelInfo, "waiting", attrs...)
}

func attemptAttrs(a retry.AttemptInfo) []slog.Attr {
	attrs := []slog.Attr{slog.String("call", a.CallID), slog.String("op", a.Op), slog.Int("attempt", a.Number)}
	if a.Of > 0 {
		attrs = append(attrs, slog.Int("of", a.Of))
	}
	return attrs
}

func rounded(key string, d time.Duration) slog.Attr {
	return slog.Duration(key, d.Round(time.Millisecond))
}

// withoutDate keeps the time of day, to the millisecond: what is on the screen is
// of today.
func withoutDate(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		a.Value = slog.StringValue(a.Value.Time().Format("15:04:05.000"))
	}
	return a
}
