package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/adamant-go/adamant/internal/journal"
	"github.com/adamant-go/adamant/retry"
)

const (
	// callLimit is how long the recording of a call may hold up a run.
	callLimit = time.Second
	// callsLimit is how long it may hold up the end of any other command, whose result
	// is printed by then. It takes milliseconds, but the home directory may be away.
	callsLimit = flushLimit
	// maxAttempts is how many attempts of a call are remembered while it is under way:
	// the first and the latest. The journal keeps fewer.
	maxAttempts = 40
)

// callLog gathers the calls that needed resends, for the journal. A run's are recorded
// as they end; those of other commands at the end of the command, if there is a journal:
// none is made for them, and nothing fails for them. The zero callLog is ready.
type callLog struct {
	mu       sync.Mutex
	attempts map[string][]journal.Attempt // of the calls under way, by id
	calls    []journal.Call               // not recorded yet
	run      *runJournal                  // nil while no run is kept
}

// trace observes calls.
func (l *callLog) trace() *retry.Trace {
	return &retry.Trace{
		Attempted: func(_ context.Context, a retry.AttemptInfo, r retry.Record) { l.attempted(a.CallID, r) },
		Ended:     func(ctx context.Context, e retry.EndInfo) { l.ended(ctx, e) },
	}
}

func (l *callLog) attempted(call string, r retry.Record) {
	a := journal.Attempt{Number: r.Number, At: r.Start, Waited: r.Waited, Took: r.Took, Verdict: r.Verdict.String()}
	if r.Err != nil {
		a.Cause = r.Err.Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attempts == nil {
		l.attempts = map[string][]journal.Attempt{}
	}
	all := append(l.attempts[call], a)
	if len(all) > maxAttempts {
		all = append(all[:1], all[2:]...)
	}
	l.attempts[call] = all
}

func (l *callLog) ended(ctx context.Context, e retry.EndInfo) {
	l.mu.Lock()
	attempts, run := l.attempts[e.CallID], l.run
	delete(l.attempts, e.CallID)
	if e.Attempts > 1 && len(attempts) > 0 {
		l.calls = append(l.calls, journal.Call{
			ID: e.CallID, Op: e.Op, At: attempts[0].At.Add(-attempts[0].Waited), Took: e.Took,
			Outcome: outcomeOfCall(e.Err), Made: e.Attempts, Attempts: attempts,
		})
	}
	l.mu.Unlock()
	if e.Attempts < 2 || run == nil || run.inHand() == "" {
		return // those that prepare a run are recorded with its first
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	_ = l.record(ctx, run.journal, run.inHand()) // what is left is tried again with the next
}

// outcomeOfCall is how a call ended, in words that mean the same wherever it failed.
func outcomeOfCall(err error) string {
	tries, failed := errors.AsType[*retry.Error](err)
	switch {
	case err == nil:
		return "answered"
	case failed:
		return tries.Reason.String()
	}
	return "failed"
}

// record records what is not recorded yet.
func (l *callLog) record(ctx context.Context, j *journal.Journal, run string) error {
	l.mu.Lock()
	calls := l.calls
	l.calls = nil
	l.mu.Unlock()
	for i, call := range calls {
		call.Run = run
		if err := j.RecordCall(ctx, call); err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.calls = append(calls[i:], l.calls...)
			return err
		}
	}
	return nil
}

// recordIn has the calls recorded with the run that is in hand; nil: with none.
func (l *callLog) recordIn(run *runJournal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run = run
}

// recordCalls records the calls of a command that made no run, at its end.
func (a *app) recordCalls() {
	a.calls.mu.Lock()
	none := len(a.calls.calls) == 0
	a.calls.mu.Unlock()
	if none {
		return
	}
	recorded := make(chan error, 1)
	go func() { // a file system that is away holds up whoever asks it, with no way out
		ctx, cancel := context.WithTimeout(context.Background(), callsLimit)
		defer cancel()
		recorded <- a.recordRest(ctx)
	}()
	limit := time.NewTimer(callsLimit)
	defer limit.Stop()
	var err error
	select {
	case err = <-recorded:
	case <-limit.C:
		err = context.DeadlineExceeded
	}
	if err != nil && a.level == verbose {
		a.ui.note("the journal was not told which calls needed resends: %v", err)
	}
}

func (a *app) recordRest(ctx context.Context) error {
	place, err := journal.FindPlace(os.Getenv)
	if err != nil {
		return err
	}
	j, err := journal.OpenExisting(ctx, place.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = j.Close() }()
	return a.calls.record(ctx, j, "")
}
