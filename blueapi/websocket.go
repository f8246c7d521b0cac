package blueapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/adamant-go/adamant/retry"
)

// RunWebSocket runs a plan as Run does, but over one WebSocket to the server's run_plan,
// which brings the plan's events without a broker. Prefer Run: whenever that connection
// is lost, the server aborts the plan at its next event, and it cannot be connected to
// again (since 1.21). So this does not bring a plan through an outage; but it runs a plan
// at most once, and says what became of it.
//
// Cancelling ctx closes the connection, so it has the server abort the plan at its next
// event. A plan that is paused is left alone, as the server then ends the connection
// itself.
//
// Connecting is repeated as any call is. The request to run the plan is sent once. When
// the connection is lost after that, the task is watched by polling; how it ended is
// read from its record in any case. When it is lost before the server has named the
// task, tasks like the request are looked for that have appeared since. Whether one is
// this run's cannot be known, since another client may have asked for the same; then the
// word is Unknown, and the cause an [*UnnamedError].
func (c *Client) RunWebSocket(ctx context.Context, req TaskRequest) (Result, error) {
	w := &socketRun{client: c, req: req, run: newRun(c, req.Name)}
	r := w.run
	defer w.close(ctx, false) // also if a function of the trace panics
	err := w.start(ctx)
	if err == nil {
		err = w.watch(ctx)
	}
	if err == nil {
		w.close(ctx, r.events.ended)
		result := r.outcome()
		_ = r.record(ctx, Entry{Step: StepEnded, Result: &result}) // it has ended either way
		return result, nil
	}
	e, ok := errors.AsType[*RunError](err)
	if !ok {
		e = r.end(Unknown, Silent, err)
	}
	inOrder := w.leave(ctx)
	if e.Word == Unknown && endedByCaller(ctx, e.Err) {
		e.Reason = Abandoned
		if !inOrder {
			e.Err = hungUp(e.Err)
		}
	} else {
		_ = r.record(ctx, Entry{Step: StepEnded, Result: &e.Result}) // the word is the same without
	}
	return e.Result, e
}

// errHungUp tells what it means to leave a run that hangs on its connection.
var errHungUp = errors.New("its connection was closed, so the server aborts it at its next event")

func hungUp(err error) error {
	if err == nil {
		return errHungUp
	}
	return fmt.Errorf("%w: %w", errHungUp, err)
}

// socketRun is a run over a WebSocket.
type socketRun struct {
	client *Client
	req    TaskRequest
	run    *Run

	// before are the tasks that the server had before anything was sent.
	before map[string]bool
	socket *socket
	events <-chan Event // the socket's; nil once it has ended
	sentAt time.Time    // when the request was
	// lost is why the request was not answered: a refusal, or what became of the
	// connection; nil while it is silent.
	lost error
}

// leave ends the connection of a run that goes on or was refused. It reports whether the
// server did so in good order, because the plan is paused. Then it must come first, or it
// would abort the plan.
func (w *socketRun) leave(ctx context.Context) (inOrder bool) {
	if w.run.paused {
		return w.close(context.WithoutCancel(ctx), true)
	}
	w.close(ctx, w.refusal() != nil)
	return false
}

// close ends the connection, as socket.close does, if there is one.
func (w *socketRun) close(ctx context.Context, last bool) (ended bool) {
	if w.socket != nil {
		ended = w.socket.close(ctx, last)
		w.socket, w.events = nil, nil
	}
	return ended
}

// start returns nil when the server has named the task, which it does when the plan has
// begun.
func (w *socketRun) start(ctx context.Context) error {
	r := w.run
	if err := r.record(ctx, Entry{Step: StepIntent, Request: &w.req}); err != nil {
		return r.end(NotStarted, JournalFailed, err)
	}
	if w.req.Params == nil {
		w.req.Params = json.RawMessage("{}")
	}
	request, err := json.Marshal(struct {
		Kind string      `json:"kind"`
		Task TaskRequest `json:"task"`
	}{"submit", w.req})
	if err != nil {
		return w.notStarted(ctx, err)
	}
	for n := 1; ; n++ {
		if err := w.snapshot(ctx); err != nil {
			return w.notStarted(ctx, err)
		}
		again, err := w.submit(ctx, request)
		switch {
		case err == nil && r.begun:
			return nil
		case err == nil:
			return w.settle(ctx)
		case !again:
			return err
		}
		// Not one byte was written, so that the server was not asked for anything.
		w.close(ctx, false)
		if err := r.record(ctx, Entry{Step: StepNotSent}); err != nil {
			return r.end(NotStarted, JournalFailed, err)
		}
		if n == maxStarts || ctx.Err() != nil || retry.Nested(ctx) {
			return w.notStarted(ctx, err)
		}
		if err := sleep(ctx, retry.Backoff{}.Delay(n-1, mathrand.Float64())); err != nil {
			return w.notStarted(ctx, err)
		}
	}
}

// notStarted is the end of a run of which nothing was sent.
func (w *socketRun) notStarted(ctx context.Context, err error) error {
	return (&starter{run: w.run}).notStarted(ctx, err)
}

// snapshot notes which tasks there are. It is taken before the connection is made, so
// that this is as fresh as can be when the request is written: one that is written to a
// dead connection leaves the run unclear.
func (w *socketRun) snapshot(ctx context.Context) error {
	env, err := w.client.Environment(ctx)
	if err != nil {
		return err
	}
	tasks, err := w.client.Tasks(ctx, "")
	if err != nil {
		return err
	}
	w.run.env, w.run.ready = env.ID, env.Initialized
	w.before = make(map[string]bool, len(tasks))
	for _, t := range tasks {
		w.before[t.ID] = true
	}
	return nil
}

// submit connects, sends the request, and waits a while for the server to name the task.
// If nothing was written it may be called again. Like any call it is counted, so that a
// reload of the environment by the same client waits for it.
func (w *socketRun) submit(ctx context.Context, request []byte) (again bool, err error) {
	r, c := w.run, w.client
	if err := c.pass(ctx, opSubmit); err != nil {
		return false, w.notStarted(ctx, err)
	}
	defer c.hold.leave()
	if w.socket, err = c.openSocket(ctx); err != nil {
		return false, w.notStarted(ctx, err)
	}
	if err := r.record(ctx, Entry{Step: StepStarting}); err != nil {
		return false, r.end(NotStarted, JournalFailed, err)
	}
	if t := r.trace; t.Starting != nil {
		t.Starting("")
	}
	w.events, w.sentAt, w.lost = w.socket.events, time.Now(), nil
	sent, err := w.socket.submit(ctx, request)
	if !sent {
		return true, err
	}
	if err := w.hear(ctx, startLimit); err != nil {
		return false, err
	}
	if err != nil && w.refusal() == nil {
		w.lost = err
	}
	return false, nil
}

// refusal is what the server has said to the request instead of running the plan.
func (w *socketRun) refusal() *Error {
	e, _ := errors.AsType[*Error](w.lost)
	return e
}

// hear waits for the server to name the task, and is content if it does not.
func (w *socketRun) hear(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case e, ok := <-w.events:
			switch {
			case !ok:
				w.lost, w.events = w.socket.err, nil
				return nil
			case e.TaskID != "":
				w.named(ctx, e)
				return nil
			}
		case <-t.C:
			return nil
		case <-ctx.Done():
			return w.run.end(Unknown, Abandoned, ctx.Err())
		}
	}
}

// named notes the run's task, which its first event names.
func (w *socketRun) named(ctx context.Context, e Event) {
	r := w.run
	r.task, r.seen = e.TaskID, nil
	if t := r.trace; t.Submitted != nil {
		t.Submitted(r.task)
	}
	_ = r.started(ctx) // never fails
	r.event(e)
}

// watch waits for the end of the plan. While events come nothing need be asked; that the
// plan is over is read from its record.
func (w *socketRun) watch(ctx context.Context) error {
	r := w.run
	ctx, stop := context.WithCancel(ctx)
	var routines sync.WaitGroup
	defer routines.Wait()
	defer stop()
	sights := make(chan sight, 1)
	look := time.NewTimer(lastPoll)
	defer look.Stop()
	looking, again := false, false
	lookNow := func() {
		if again = looking; !looking {
			look.Reset(0)
		}
	}
	if r.events.ended {
		lookNow()
	}
	for {
		select {
		case e, ok := <-w.events:
			switch {
			case !ok:
				w.parted()
				lookNow()
			case r.event(e):
				lookNow()
			case !looking:
				look.Reset(lastPoll)
			}
		case <-look.C:
			looking = true
			routines.Go(func() { sights <- r.look(ctx) })
		case s := <-sights:
			looking = false
			switch { // a look that failed may have been begun before there was something to see
			case s.err != nil && !again && !w.alive(s.err):
				return s.err
			case s.err == nil:
				if r.saw(s); s.over {
					r.drain(ctx, w.events)
					return nil
				}
			}
			look.Reset(lastPoll)
			if again {
				lookNow()
			}
		case <-ctx.Done():
			return r.end(Unknown, Abandoned, ctx.Err())
		}
	}
}

// socketSilence is longer than the server is silent, which pings every 20 s (1.21.1).
const socketSilence = 45 * time.Second

// alive reports whether a look that failed with err need not worry, since the server did
// not answer elsewhere but is heard here.
func (w *socketRun) alive(err error) bool {
	e, ok := errors.AsType[*RunError](err)
	return ok && e.Reason == Silent && w.events != nil && time.Since(*w.socket.heard.Load()) < socketSilence
}

// parted notes that the connection has ended, and tells what that means for the events
// to come if the plan goes on.
func (w *socketRun) parted() {
	w.events = nil
	r := w.run
	if r.events.ended {
		return
	}
	err := w.socket.err
	if r.paused {
		err = errSessionPaused
	}
	now := time.Now()
	r.event(Event{At: now, Gap: &Gap{From: *w.socket.heard.Load(), Err: err}})
}

// errSessionPaused is why there are no events after a pause.
var errSessionPaused = errors.New("blueapi: the server closes the connection when the plan is paused")
