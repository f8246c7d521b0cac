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
// Its fields are guarded by the worker's mutex, but for steps, which is the
// plan's own.
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
	deferred    bool          // to be paused at the next checkpoint
	pausing     chan struct{} // closed when the plan is to pause
	permit      chan struct{} // closed when a paused plan may go on

	// mute says that nobody takes documents any more: the server forgets for
	// whom they are as soon as the plan is paused, and raises when there is one.
	mute  bool
	steps []step // since the last checkpoint
}

// A step is what one message of a plan does.
type step struct {
	wait     time.Duration
	document bool
}

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
	return e.do(ctx, step{wait: d})
}

// Checkpoint is where a plan goes on after a pause, and where a deferred pause
// takes effect. Without any it goes on at its beginning, as far as that are Sleep
// and Emit: what else it did is not repeated.
func Checkpoint(ctx context.Context) error {
	e := engineOf(ctx)
	if e == nil {
		return ctx.Err()
	}
	return e.checkpoint(ctx)
}

// Emit sends a document. It fails in a plan that was resumed, as on the real
// server, and then the plan must end with its error.
func Emit(ctx context.Context) error {
	e := engineOf(ctx)
	if e == nil {
		return ctx.Err()
	}
	return e.do(ctx, step{document: true})
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
	e := &engine{w: w, back: make(chan struct{}), pausing: make(chan struct{})}
	ctx, cancel := context.WithCancel(w.ctx)
	e.ctx, e.cancel = context.WithValue(ctx, engineKey{}, e), cancel
	ended := w.p.server.runs.begin(t)
	w.mu.Lock()
	w.engine = e
	w.setState(blueapi.StateRunning)
	w.mu.Unlock()
	w.p.server.wait.Go(func() { e.run(t, ended) })
	return e
}

func (e *engine) run(t *task, ended func(killed, aborted bool)) {
	defer e.cancel()
	var result any
	var err error
	if t.plan.Run != nil {
		result, err = t.plan.Run(e.ctx, t.args)
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if _, own := errors.AsType[*PlanError](err); e.aborted && !own && errors.Is(err, context.Canceled) {
		err = nil // that is how the plan was told
	}
	e.result, e.err, e.over = result, err, true
	ended(e.w.ctx.Err() != nil, e.aborted)
	e.w.setState(blueapi.StateIdle)
	if !isClosed(e.back) { // it is when the server was killed in a pause
		close(e.back)
	}
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
	err := e.take(ctx, s)
	if errors.Is(err, errPausing) {
		return e.settle(ctx)
	}
	return err
}

func (e *engine) take(ctx context.Context, s step) error {
	if s.document {
		e.w.mu.Lock()
		defer e.w.mu.Unlock()
		if e.mute {
			return errMute
		}
		return nil
	}
	return e.wait(ctx, s.wait)
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
// is to pause, does so, and after it repeats the steps since the last checkpoint.
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
	for _, s := range e.steps {
		err := e.take(ctx, s)
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
	w.mu.Lock()
	e.mute = true
	e.pausing, e.permit = make(chan struct{}), make(chan struct{})
	permit := e.permit
	w.setState(blueapi.StatePaused)
	close(e.back)
	w.mu.Unlock()
	select {
	case <-permit:
	case <-w.ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := e.ctx.Err(); err != nil {
		return err
	}
	w.setState(blueapi.StateRunning)
	return nil
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
	e.w.mu.Lock()
	e.pause()
	e.w.mu.Unlock()
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

// pause has the plan pause, with the worker locked.
func (e *engine) pause() {
	e.deferred, e.interrupted = false, true
	if !isClosed(e.pausing) {
		e.w.setState(blueapi.StatePausing)
		close(e.pausing)
	}
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
