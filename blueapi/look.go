package blueapi

import (
	"context"
	"net/http"
	"time"
)

// putOnce sends the request to start the task. While its answer is awaited the
// task is looked at, because the answer may never come although the plan runs.
func (s *starter) putOnce(ctx context.Context) error {
	putting, stopPut := context.WithCancel(ctx)
	defer stopPut()
	looking, stopLook := context.WithCancel(ctx)
	defer stopLook()

	s.putAt = time.Now()
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		err = s.client.startTask(putting, s.run.task)
		stopLook()
	}()
	begun, settled := s.watchStart(looking)
	if settled {
		stopPut()
	}
	<-answered
	if begun {
		return nil
	}
	return err
}

// watchStart looks at the task while the request to start it is not answered. It
// is settled if the task has begun, or if a server that answers still shows it as
// pending when it would have started it or said that it did not: then the request
// is lost, or late, and need not be waited for.
func (s *starter) watchStart(ctx context.Context) (begun, settled bool) {
	for late := 0; sleep(ctx, lookPause) == nil; {
		asked := time.Now()
		task, err := s.client.Task(ctx, s.run.task)
		switch {
		case err != nil:
		case !task.IsPending:
			return true, true
		case asked.After(s.putAt.Add(startLimit)):
			if late++; late == 2 {
				return false, true
			}
		}
	}
	return false, false
}

// look reads the task until it is clear whether the plan has started. It reports
// whether the task is still pending after all the time that the server may take.
func (s *starter) look(ctx context.Context) (pending bool, err error) {
	r := s.run
	if t := r.trace; t.Looking != nil {
		t.Looking(r.task, s.putErr)
	}
	notBefore := s.putAt
	if s.crashed || statusOf(s.putErr) == http.StatusInternalServerError { // silence has lasted longer than that
		notBefore = s.putAt.Add(startLimit)
	}
	for n := 1; ; n++ {
		task, err := r.client.task(ctx, r.task, r.patience())
		switch {
		case isNotFound(err):
			return false, r.gone(ctx)
		case err != nil:
			return false, r.end(Unknown, Silent, err)
		case !task.IsPending:
			return false, nil
		case n >= 2 && !time.Now().Before(notBefore):
			return true, nil
		}
		if err := sleep(ctx, lookPause); err != nil {
			return false, r.end(Unknown, Abandoned, err)
		}
	}
}

func (r *Run) patience() how { return how{patience: max(runPatience, r.client.Wait)} }

// reloadLooks is how many more times the environment is looked at, a second apart,
// before a task that is gone counts as deleted: a reload shows the old id until
// the worker has stopped, which takes 2 s, and 30 s if a plan runs (1.21.1).
const reloadLooks = 40

// gone explains a task that the server does not know any more although a request
// to start it was sent.
func (r *Run) gone(ctx context.Context) error {
	for n := 0; ; n++ {
		env, err := r.client.environment(ctx, r.patience())
		if err != nil {
			return r.end(Unknown, Silent, err)
		}
		if env.ID != r.env || r.ready && !env.Initialized {
			return r.end(Unknown, EnvironmentChanged, nil)
		}
		if n == reloadLooks {
			break
		}
		// A server that is being reloaded has forgotten its tasks while it still
		// shows its old id. Nothing but this may be asked of it meanwhile.
		if err := sleep(ctx, lookPause); err != nil {
			return r.end(Unknown, Abandoned, err)
		}
	}
	if _, err := r.client.WorkerState(ctx); statusOf(err) == http.StatusInternalServerError {
		// A reload that was asked something while it stopped the old worker
		// hangs for ever, showing the old id (1.21.1). A second reload heals it.
		return r.end(Unknown, EnvironmentChanged, err)
	}
	if r.begun {
		return r.end(Unknown, RecordLost, nil)
	}
	current, err := r.client.workerTask(ctx, r.patience())
	switch {
	case err != nil:
		return r.end(Unknown, Silent, err)
	case current == r.task:
		r.begun = true
		return r.end(Unknown, RecordLost, nil)
	}
	return r.end(Unknown, Removed, nil)
}

// withdraw deletes the pending task, so that a request to start it that is still
// under way finds nothing, and makes sure that it was in time. If the task turns
// out to have begun, look is to be called again.
func (s *starter) withdraw(ctx context.Context) (lookAgain bool, err error) {
	r, c := s.run, s.client
	if t := r.trace; t.Withdrawing != nil {
		t.Withdrawing(r.task, s.putErr)
	}
	before, err := c.workerTask(ctx, r.patience())
	if err != nil {
		return false, r.end(Unknown, Silent, err)
	}
	state, err := c.workerState(ctx, r.patience())
	if err != nil {
		return false, r.end(Unknown, Silent, err)
	}
	if !s.refused() {
		if again, err := s.behind(ctx, before, state); again || err != nil {
			return again, err
		}
		if !s.queuedAt.IsZero() { // what was queued has a moment to begin
			s.queuedAt = time.Time{}
			return true, nil
		}
	}
	switch begun, _, err := c.deletePending(ctx, r.task, r.patience()); {
	case isNotFound(err):
		return false, r.gone(ctx)
	case err != nil:
		return false, r.end(Unknown, Silent, err)
	case begun:
		return true, nil
	}
	after, err := c.workerTask(ctx, r.patience())
	if err != nil {
		return false, r.end(Unknown, Silent, err)
	}
	env, err := c.environment(ctx, r.patience())
	switch {
	case err != nil:
		return false, r.end(Unknown, Silent, err)
	case env.ID != r.env:
		return false, r.end(Unknown, EnvironmentChanged, nil)
	case after == r.task:
		r.begun = true
		return false, r.end(Unknown, RecordLost, nil)
	case after != before:
		e := r.end(Unknown, Overtaken, nil)
		e.Other = after
		return false, e
	}
	return false, s.withdrawn(ctx, state)
}

// behind reports whether the worker has another task in hand, so that this one may
// be in its queue of one behind it: two clients that start plans at the same time
// both pass the server's check (1.21.1), and what is in the queue runs although its
// record is deleted. Then it is waited for, as long as the run is patient.
func (s *starter) behind(ctx context.Context, other string, state WorkerState) (bool, error) {
	r := s.run
	if other == "" || other == r.task {
		return false, nil
	}
	task, err := r.client.task(ctx, other, r.patience())
	switch {
	case isNotFound(err):
		if state == StateIdle {
			return false, nil
		}
	case err != nil:
		return false, r.end(Unknown, Silent, err)
	case task.IsComplete:
		return false, nil
	}
	if s.queuedAt.IsZero() {
		s.queuedAt = time.Now()
	}
	if time.Since(s.queuedAt) > r.patience().patience {
		e := r.end(Unknown, Queued, s.putErr)
		e.Other = other
		return false, e
	}
	if err := sleep(ctx, lookPause); err != nil {
		return false, r.end(Unknown, Abandoned, err)
	}
	return true, nil
}

// withdrawn says what a withdrawal in time means; state is the worker's before.
func (s *starter) withdrawn(ctx context.Context, state WorkerState) error {
	r := s.run
	status := statusOf(s.putErr)
	switch {
	case status == http.StatusInternalServerError && state == StateIdle:
		return r.end(Unknown, Stuck, s.putErr)
	case s.refused() && status != http.StatusConflict && status != http.StatusNotFound:
		_ = r.record(ctx, Entry{Step: StepWithdrawn}) // the word is the same without
		return r.end(NotStarted, Refused, s.putErr)
	case status == http.StatusConflict, state != StateIdle:
		_ = r.record(ctx, Entry{Step: StepWithdrawn}) // the word is the same without
		return r.end(NotStarted, Busy, s.putErr)
	}
	if err := r.record(ctx, Entry{Step: StepWithdrawn}); err != nil {
		return r.end(NotStarted, JournalFailed, err)
	}
	return errAgain
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
