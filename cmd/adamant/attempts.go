package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/adamant-go/adamant/retry"
)

// trace returns what observes the calls of a command: with -v every attempt is
// logged, a wait of more than two seconds is announced on a terminal, and a call
// that needed more than one attempt is reported in one line when it succeeds.
func (u *ui) trace(l level, n *notifier) *retry.Trace {
	log := slog.New(slog.DiscardHandler)
	if l == verbose {
		log = slog.New(slog.NewTextHandler(u.err, &slog.HandlerOptions{ReplaceAttr: withoutDate}))
	}
	return &retry.Trace{
		Attempted: func(ctx context.Context, a retry.AttemptInfo, r retry.Record) {
			logAttempt(ctx, log, a, r)
		},
		Waiting: func(ctx context.Context, w retry.WaitInfo) {
			n.Waiting("the server to answer")
			logWait(ctx, log, w)
		},
		Ended: func(_ context.Context, e retry.EndInfo) {
			n.Over()
			if e.Err == nil && e.Attempts > 1 {
				u.note("%s", recovered(e))
			}
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
