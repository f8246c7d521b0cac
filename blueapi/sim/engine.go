package sim

import (
	"context"
	"errors"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// An engine runs one plan, as bluesky's RunEngine does. What a plan does is a
// series of steps; pause, abort and stop come between them or end the wait of one
// (task.cancel in bluesky). A pause lets go of whoever started the plan, while the
// plan waits where it is. Resuming repeats the steps since the last checkpoint.
//
// Its fields are guarded by the worker's mutex, but for the plan's own.
type engine struct {
	w      *worker
	ctx    context.Context // the plan's
	cancel context.CancelFunc
	loop   turns // the engine's event loop, as far as a plan can block it

	back        chan struct{} // closed when the plan is paused or over
	over        bool
	result      any
	err         error
	interrupted bool          // paused, aborted or stopped
	aborted     bool          // or stopped
	stopped     bool          // rather than aborted
	reason      string        // why it was aborted
	deferred    bool          // to be paused at the next checkpoint
	pausing     chan struct{} // closed when the plan is to pause
	permit      chan struct{} // closed when a paused plan may go on
	rewind      bool          // to the last checkpoint, then

	// mute says that nobody takes documents any more: the server forgets for
	// whom they are as soon as the plan is paused, and raises when there is one.
	mute bool

	// These are the plan's own.
	task   *task
	steps  []step  // since the last checkpoint
	bundle *bundle // nil if no run is open
}

// A step is what one message of a plan does.
type step func(context.Context) error

// deferTime is what bluesky waits at the checkpoint of a deferred pause.
const deferTime = 500 * time.Millisecond

// pauseMessage is bluesky's text for every plan that was interrupted.
const pauseMessage = `
Your RunEngine is entering a paused state. These are your options for changing
the state of the RunEngine:

RE.resume()    Resume the plan.
RE.abort()     Perform cleanup, then kill plan. Mark exit_stats='aborted'.
RE.stop()      Perform cleanup, then kill plan. Mark exit_status='success'.
RE.halt()      Emergency Stop: Do not perform cleanup --- just stop.
`

var (
	errPausing = errors.New("the plan is to pause")
	// errMute is what a resumed plan gets that emits a document.
	errMute = &PlanError{"ValueError", "There is no context set for tracing despite the fact that a task is running, something has gone wrong..."}
)

type engineKey struct{}

func engineOf(ctx context.Context) *engine {
	e, _ := ctx.Value(engineKey{}).(*engine)
	return e
}

// Sleep is a plan's sleep. A pause takes effect in it, and the whole of it is
// repeated when the plan is resumed, with all since the last Checkpoint. It
// ends early, with an error, if ctx does or the server is killed. Outside of a
// plan's Run it just sleeps.
func Sleep(ctx context.Context, d time.Duration) error {
	e := engineOf(ctx)
	if e == nil {
		return sleep(ctx, d)
	}
	return e.do(ctx, func(ctx context.Context) error { return e.wait(ctx, d) })
}

// Checkpoint is where a plan goes on after a pause, and where a deferred pause
// takes effect. Without any it goes on at its beginning, as far as that is what
// functions of this package have done: what else it did is not repeated.
func Checkpoint(ctx context.Context) error {
	e := engineOf(ctx)
	if e == nil {
		return ctx.Err()
	}
	return e.checkpoint(ctx)
}

// Block keeps the run engine busy, as a plan does that calls time.sleep: pause,
// abort and stop wait for it, and with them the whole server.
func Block(ctx context.Context, d time.Duration) error {
	e := engineOf(ctx)
	if e == nil {
		return sleep(ctx, d)
	}
	return e.block(ctx, d)
}

// newEngine starts a plan.
func (w *worker) newEngine(t *task) *engine {
	e := &engine{w: w, task: t, back: make(chan struct{}), pausing: make(chan struct{})}
	ctx, cancel := context.WithCancel(w.ctx)
	e.ctx, e.cancel = context.WithValue(ctx, engineKey{}, e), cancel
	w.mu.Lock()
	w.engine = e
	w.mu.Unlock()
	w.p.server.wait.Go(e.run)
	return e
}

// run runs the plan, if the world could be told that it begins.
func (e *engine) run() {
	defer e.cancel()
	log := &e.w.p.server.runs
	r := log.begin(e.task)
	var result any
	err := e.inLoop(func() error { return e.w.setState(blueapi.StateRunning) })
	switch {
	case err != nil:
		log.forget(r)
	case e.task.plan.Run != nil:
		result, err = e.task.plan.Run(e.ctx, e.task.args)
	}
	e.w.mu.Lock()
	if _, own := errors.AsType[*PlanError](err); e.aborted && !own && errors.Is(err, context.Canceled) {
		err = nil // that is how the plan was told
	}
	e.w.mu.Unlock()
	if e.bundle != nil {
		_ = e.stopDocument(e.exit(err)) // what fails here the real one only logs
	}
	if held := e.loop.take(e.w.ctx); held == nil {
		defer e.loop.give()
	}
	e.w.mu.Lock()
	aborted := e.aborted
	e.w.mu.Unlock()
	log.end(r, e.w.ctx.Err() != nil, aborted)
	if unpublished := e.w.setState(blueapi.StateIdle); unpublished != nil {
		err = unpublished // in the place of whatever the plan had to say
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.result, e.err, e.over = result, err, true
	if !isClosed(e.back) { // it is when the server was killed in a pause
		close(e.back)
	}
}

// inLoop does something in the engine's loop, when it is its turn.
func (e *engine) inLoop(f func() error) error {
	if err := e.loop.take(e.w.ctx); err != nil {
		return err
	}
	defer e.loop.give()
	return f()
}

// outcome is what whoever let the plan go on learns when it is back.
func (e *engine) outcome() (result any, err error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	switch {
	case e.err != nil:
		return nil, e.err
	case e.interrupted:
		return nil, &PlanError{"RunEngineInterrupted", pauseMessage}
	}
	return e.result, nil
}

// do takes a step of the plan.
func (e *engine) do(ctx context.Context, s step) error {
	if err := e.settle(ctx); err != nil {
		return err
	}
	e.steps = append(e.steps, s)
	err := s(ctx)
	if errors.Is(err, errPausing) {
		return e.settle(ctx)
	}
	return err
}

// wait can be ended by a pause, an abort or a stop.
func (e *engine) wait(ctx context.Context, d time.Duration) error {
	e.w.mu.Lock()
	pausing := e.pausing
	e.w.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-pausing:
		return errPausing
	case <-ctx.Done():
		return ctx.Err()
	case <-e.w.ctx.Done():
		return e.w.ctx.Err()
	}
}

// settle lets those go first who wait to pause, abort or stop the plan; and if it
// is to pause, does so, and repeats the steps since the last checkpoint when it is
// resumed.
func (e *engine) settle(ctx context.Context) error {
	if err := e.loop.take(e.w.ctx); err != nil {
		return err
	}
	e.loop.give()
	if err := ctx.Err(); err != nil {
		return err
	}
	e.w.mu.Lock()
	pausing := isClosed(e.pausing)
	e.w.mu.Unlock()
	if !pausing {
		return nil
	}
	if err := e.rest(); err != nil {
		return err
	}
	e.w.mu.Lock()
	rewind := e.rewind
	e.rewind = false
	e.w.mu.Unlock()
	if !rewind {
		return nil
	}
	for _, s := range e.steps {
		err := s(ctx)
		if errors.Is(err, errPausing) {
			return e.settle(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rest is the pause itself.
func (e *engine) rest() error {
	w := e.w
	permit := make(chan struct{})
	err := e.inLoop(func() error {
		w.mu.Lock()
		e.mute = true
		e.pausing, e.permit = make(chan struct{}), permit
		w.mu.Unlock()
		if err := w.setState(blueapi.StatePaused); err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		close(e.back)
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case <-permit:
	case <-w.ctx.Done():
	}
	return e.inLoop(func() error {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		if w.workerState() != blueapi.StatePaused {
			return nil // an abort has failed
		}
		return w.setState(blueapi.StateRunning)
	})
}

func (e *engine) checkpoint(ctx context.Context) error {
	if err := e.settle(ctx); err != nil {
		return err
	}
	e.steps = nil
	e.w.mu.Lock()
	deferred := e.deferred
	e.w.mu.Unlock()
	if !deferred {
		return nil
	}
	if err := e.wait(ctx, deferTime); err != nil && !errors.Is(err, errPausing) {
		return err
	}
	if err := e.inLoop(e.pause); err != nil {
		return err
	}
	return e.settle(ctx)
}

func (e *engine) block(ctx context.Context, d time.Duration) error {
	if err := e.settle(ctx); err != nil {
		return err
	}
	if err := e.loop.take(e.w.ctx); err != nil {
		return err
	}
	err := sleep(e.w.ctx, d)
	e.loop.give()
	if err != nil {
		return err
	}
	return e.settle(ctx)
}

// pause has the plan pause, in the engine's loop. If nobody could be told of it, it
// does not, and the state is PAUSING all the same.
func (e *engine) pause() error {
	e.w.mu.Lock()
	e.deferred, e.interrupted = false, true
	pausing := e.pausing
	e.w.mu.Unlock()
	if isClosed(pausing) {
		return nil
	}
	if err := e.w.setState(blueapi.StatePausing); err != nil {
		return err
	}
	close(pausing)
	return nil
}

// goOn lets a paused plan go on, with the worker locked, and returns what is
// closed when it has ended or is paused again.
func (e *engine) goOn() <-chan struct{} {
	e.back = make(chan struct{})
	close(e.permit)
	return e.back
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
