package sim

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/adamant-go/adamant/blueapi"
)

// errTransition is bluesky's word for a command that does not suit its state.
type errTransition struct{ text string }

func (e *errTransition) Error() string { return e.text }

// pause asks the plan to pause, now or at its next checkpoint.
func (w *worker) pause(deferred bool) error {
	return w.command(func(e *engine) (<-chan struct{}, error) {
		switch {
		case w.workerState() != blueapi.StateRunning:
			return nil, errInternal
		case deferred:
			w.mu.Lock()
			defer w.mu.Unlock()
			e.deferred = true
			return nil, nil
		}
		return nil, e.pause()
	})
}

// resume lets a paused plan go on, and waits for its end.
func (w *worker) resume() error {
	return w.command(func(e *engine) (<-chan struct{}, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.state != blueapi.StatePaused {
			return nil, errInternal
		}
		e.interrupted, e.rewind = false, true
		return e.goOn(), nil
	})
}

// defaultReason is what an abort without a reason is put down to.
const defaultReason = "Task failed for unknown reason"

// cancel aborts or stops the plan. It waits for the end of one that was paused,
// but not of one that runs. If nobody could be told of it, because the broker is
// away, the plan is not cancelled, whatever the state says: one that was paused goes
// on (1.21.1).
func (w *worker) cancel(state blueapi.WorkerState, reason string) error {
	return w.command(func(e *engine) (<-chan struct{}, error) {
		w.mu.Lock()
		before := w.state
		e.interrupted = e.interrupted || before != blueapi.StateIdle
		w.mu.Unlock()
		if before == blueapi.StateIdle {
			return nil, &errTransition{"RunEngine is already idle."}
		}
		unpublished := w.setState(state)
		w.mu.Lock()
		defer w.mu.Unlock()
		if unpublished == nil {
			e.aborted, e.stopped = true, state == blueapi.StateStopping
			if !e.stopped {
				e.reason = cmp.Or(reason, defaultReason)
			}
			e.cancel()
		}
		if before == blueapi.StatePaused {
			return e.goOn(), unpublished
		}
		return nil, unpublished
	})
}

// command gives the engine an order as soon as the plan does not block it, and
// waits if the order says for what.
func (w *worker) command(order func(*engine) (<-chan struct{}, error)) error {
	w.mu.Lock()
	e := w.engine
	w.mu.Unlock()
	if e == nil {
		return &errTransition{"Attempted to cancel while no active Task"}
	}
	if err := e.loop.take(w.ctx); err != nil {
		return err
	}
	back, err := order(e)
	e.loop.give()
	if back == nil {
		return err
	}
	select {
	case <-back:
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.err != nil || e.interrupted && !e.aborted {
		return errInternal
	}
	return nil
}

// transition is the body of PUT /worker/state.
func transition() []field {
	return []field{
		{name: "new_state", check: isState},
		{name: "defer", check: isBool, optional: true},
		{name: "reason", check: isTextOrNull, optional: true},
	}
}

// setState holds the event loop all the while, as the real one does: until a
// resumed plan has ended, nothing else is answered.
func (p *process) setState(x *Exchange, _ string) (Answer, error) {
	body, bad := readBody(x, 1, transition())
	if bad != nil {
		return *bad, nil
	}
	wanted, _ := body.field("new_state")
	to := blueapi.WorkerState(wanted.text)
	deferred, _ := body.field("defer")
	reason, _ := body.field("reason")
	var a Answer
	err := p.inLoop(func() error {
		from, err := p.workerState()
		if err != nil {
			return err
		}
		if !slices.Contains(transitions(from), to) {
			a = detail(400, fmt.Sprintf("Cannot transition from %s to %s", from, to))
			return nil
		}
		// It asks for the task too, to know whose it is.
		if err := p.call(theWorker, func(*worker) error { return nil }); err != nil {
			return err
		}
		err = p.call(theWorker, func(w *worker) error {
			switch to {
			case blueapi.StatePaused:
				return w.pause(isTrue(deferred))
			case blueapi.StateRunning:
				return w.resume()
			default:
				return w.cancel(to, reason.text)
			}
		})
		if e, ok := errors.AsType[*errTransition](err); ok {
			a = detail(400, fmt.Sprintf("Error while transitioning from %s to %s - %s", from, to, e.text))
			return nil
		}
		if err != nil {
			return err
		}
		now, err := p.workerState()
		a = jsonAnswer(202, marshal(now))
		return err
	})
	return a, err
}

func (p *process) workerState() (s blueapi.WorkerState, err error) {
	err = p.call(theWorker, func(w *worker) error {
		s = w.workerState()
		return nil
	})
	return s, err
}

func transitions(from blueapi.WorkerState) []blueapi.WorkerState {
	switch from {
	case blueapi.StateRunning:
		return []blueapi.WorkerState{blueapi.StatePaused, blueapi.StateAborting, blueapi.StateStopping}
	case blueapi.StatePaused:
		return []blueapi.WorkerState{blueapi.StateRunning, blueapi.StateAborting, blueapi.StateStopping}
	}
	return nil
}
