package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
)

const (
	// pingPeriod and pongLimit are uvicorn's.
	pingPeriod = 20 * time.Second
	pongLimit  = 20 * time.Second
	// lastFrames is how long a caller has to take what waits for it when the gateway
	// is closed.
	lastFrames = 5 * time.Second
	// pauseGrace is how long after a pause the server's own word of that is waited for.
	pauseGrace = 500 * time.Millisecond
	// deafFor is how long a broker is not waited for that did not answer a session.
	deafFor = 10 * time.Second
	// abortPatience is how long a server that is away, or has not begun the plan, is waited
	// for, to abort the plan of a caller who has taken leave: as long as for a run.
	abortPatience = time.Minute
)

// errDrained is why nothing is begun any more.
var errDrained = errors.New("the gateway is shutting down")

// session is a WebSocket by which a caller has one plan run.
type session struct {
	g    *Gateway
	c    *caller
	conn *websocket.Conn
	away error // why nothing can be started; nil if nothing is known to be in the way
	out  outbox
	// cancel ends the start of the plan; it is set before that begins.
	cancel context.CancelFunc

	// Guarded by mu.
	mu      sync.Mutex
	left    departure
	sending time.Time // when a request to start the plan may have been sent; zero if none was

	// What follows is the handler's goroutine's, which the run's trace is called from.

	unwatch context.CancelFunc
	task    string              // the caller's; "" before it is stored
	state   blueapi.WorkerState // as the caller was last told; "" if it was not
	last    []byte              // what it was told of the worker last
	polling bool                // no events come, or some may be missing
	paused  time.Time           // since when the plan is; zero if it is not
	record  *blueapi.Task       // the task's, as last read
}

// departure is how a caller has left before the end of its session.
type departure int

const (
	here departure = iota
	// closed: it sent a close frame, by which blueapi's clients end what they do not
	// want any more.
	closed
	// lost: its connection was.
	lost
	// outrun: it did not take its events in time.
	outrun
)

// serve has a plan run, and returns when all that is to be done for it is. ctx ends with
// the gateway.
func (s *session) serve(ctx context.Context) {
	var beside sync.WaitGroup
	defer beside.Wait()
	wire, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer func() { _ = s.conn.CloseNow() }() // it may have been closed in a better way
	gone := make(chan struct{})
	attended, leave := context.WithCancel(ctx)
	defer leave()
	first := make(chan []byte, 1)
	beside.Go(func() {
		defer close(gone)
		if s.depart(s.hear(wire, first)) {
			leave()
		}
	})
	beside.Go(func() { s.ping(wire) })
	sent := make(chan struct{})
	beside.Go(func() {
		defer close(sent)
		s.out.send(wire, s.conn, gone)
	})
	s.unwatch = leave
	s.run(ctx, attended, first)
	select {
	case <-sent:
		return
	case <-ctx.Done():
	}
	limit := time.NewTimer(lastFrames)
	defer limit.Stop()
	select {
	case <-sent:
	case <-limit.C:
	}
}

// hear returns why the caller is not heard any more. What it says after its first frame
// is not heeded, as by the server.
func (s *session) hear(ctx context.Context, first chan<- []byte) error {
	kind, text, err := s.conn.Read(ctx)
	if err != nil {
		return err
	}
	if kind != websocket.MessageText {
		text = nil // which is no valid request
	}
	first <- text
	for {
		_, r, err := s.conn.Reader(ctx)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return err
		}
	}
}

// depart notes how the caller has left, and reports whether that was before the end: what
// is still to be read and written after that goes on.
func (s *session) depart(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left != here || s.out.finished() {
		return false
	}
	s.left = lost
	if websocket.CloseStatus(err) != -1 {
		s.left = closed
	}
	s.c.gone.Store(true)
	return true
}

// ping asks the caller now and then whether it is there, and gives one up that is not.
func (s *session) ping(ctx context.Context) {
	period := time.NewTicker(pingPeriod)
	defer period.Stop()
	for {
		select {
		case <-period.C:
		case <-ctx.Done():
			return
		}
		limited, cancel := context.WithTimeout(ctx, pongLimit)
		err := s.conn.Ping(limited)
		for errors.Is(err, context.DeadlineExceeded) && limited.Err() == nil { // it waits behind a frame, and not as long
			err = s.conn.Ping(limited)
		}
		cancel()
		if err != nil {
			_ = s.conn.CloseNow() // there is nobody to take leave of
			return
		}
	}
}

// departed returns how the caller has left.
func (s *session) departed() departure {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left
}

// aborts reports whether the caller has left in a way that ends its plan.
func (s *session) aborts() bool {
	left := s.departed()
	return left == closed || left == lost && s.g.AbortOnLoss
}

// run deals with the caller's request; attended ends when it has left.
func (s *session) run(ctx, attended context.Context, first <-chan []byte) {
	if s.away != nil {
		s.notStarted(websocket.StatusTryAgainLater, s.away)
		return
	}
	var text []byte
	select {
	case text = <-first:
	case <-attended.Done():
		s.out.finish(because(websocket.StatusServiceRestart, errClosed.Error()))
		return
	case <-s.g.drained:
		s.out.finish(because(websocket.StatusServiceRestart, errDrained.Error()))
		return
	}
	req, ok := parseSubmit(text)
	switch {
	case !ok:
		s.out.finish(invalidRequest())
		return
	case s.g.draining.Load():
		s.notStarted(websocket.StatusServiceRestart, errDrained)
		return
	}
	run, err := s.start(ctx, attended, req)
	if err != nil {
		s.refuse(ctx, err, req.Name)
		return
	}
	defer run.Close()
	s.g.worker.saw(s.task, time.Now())
	s.g.running.began(s.task, time.Now())
	s.g.hub.started(ctx, s.task)
	if s.polling {
		s.say(blueapi.StateRunning)
	}
	result, err := run.Wait(attended)
	if err == nil {
		s.g.running.over(s.task, time.Now())
	} else {
		s.g.unended.began(s.task) // if it goes on, its end is kept when that is heard of
	}
	switch e, _ := errors.AsType[*blueapi.RunError](err); {
	case err == nil:
		s.conclude(blueapi.StateIdle, result.Task)
	case s.out.finished(): // it was told how it ended, or that it is paused
	case s.aborts():
		s.abort(ctx)
	case s.departed() != here: // the plan goes on
	case ctx.Err() != nil:
		s.out.finish(because(websocket.StatusServiceRestart, "task "+s.task+" goes on; the gateway before the server was shut down"))
	default:
		s.unknown(e)
	}
}

// start starts the plan, at most once. A caller who leaves before anything was sent
// takes its request back.
func (s *session) start(ctx, attended context.Context, req blueapi.TaskRequest) (*blueapi.Run, error) {
	g := s.g
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	s.cancel = cancel
	defer context.AfterFunc(attended, s.takeBack)()
	if err := g.starts.take(starting); err != nil {
		return nil, &blueapi.RunError{Result: blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Interrupted}, Plan: req.Name, Err: err}
	}
	defer g.starts.giveBack()
	if state, err := g.client.WorkerState(starting); err == nil && state != blueapi.StateIdle {
		return nil, s.busy(ctx, starting, req)
	}
	broker := g.Broker
	if g.hub.deaf() { // all who want to start something would wait for its silence
		broker = nil
	}
	s.polling = broker == nil
	run, err := g.client.StartApart(starting, req, broker, s.trace())
	e, _ := errors.AsType[*blueapi.RunError](err)
	switch {
	case err == nil || e == nil:
	case e.Word == blueapi.Unknown:
		g.starts.unclear(blueapi.Attachment{Plan: e.Plan, TaskID: e.TaskID, Step: blueapi.StepStarting, At: s.sending, Owned: true}, g.Journal != nil)
	case e.Reason == blueapi.Interrupted && e.TaskID != "":
		_ = g.client.DeleteTask(ctx, e.TaskID) // nothing was sent to start it; if it stays, it stays pending
	}
	return run, err
}

// busy says so of a server that is, or what else it would say of the request first. The
// task that this takes is not left behind, though the caller has left.
func (s *session) busy(ctx, starting context.Context, req blueapi.TaskRequest) error {
	id, err := s.g.client.SubmitTask(starting, req)
	e := &blueapi.RunError{Result: blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Busy}, Plan: req.Name, Err: err}
	if err == nil {
		_ = s.g.client.DeleteTask(ctx, id) // if it stays, it stays pending
	} else if _, refused := refusedBy(err, req.Name); refused {
		e.Reason = blueapi.Refused
	}
	return e
}

// takeBack ends the start of the plan, if nothing was sent.
func (s *session) takeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sending.IsZero() {
		s.cancel()
	}
}

// refuse tells why the plan was not started, or that nobody knows.
func (s *session) refuse(ctx context.Context, err error, plan string) {
	e, ok := errors.AsType[*blueapi.RunError](err)
	if !ok {
		e = &blueapi.RunError{Result: blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Unreachable}, Plan: plan, Err: err}
	}
	if e.Word == blueapi.NotStarted {
		s.c.task = ""
	}
	switch {
	case e.Word == blueapi.Unknown:
		if s.aborts() && e.TaskID != "" {
			s.task = e.TaskID
			s.abort(ctx)
			return
		}
		s.unknown(e)
	case s.departed() != here:
	case e.Reason == blueapi.Busy:
		s.out.finish(workerBusy())
	case e.Reason == blueapi.Refused:
		if end, ok := refusedBy(e.Err, plan); ok {
			s.out.finish(end)
			return
		}
		s.notStarted(websocket.StatusPolicyViolation, e)
	case ctx.Err() != nil:
		s.notStarted(websocket.StatusServiceRestart, errClosed)
	default:
		s.notStarted(websocket.StatusTryAgainLater, e)
	}
}

// notStarted tells that the plan was not, and never will be.
func (s *session) notStarted(code websocket.StatusCode, err error) {
	s.c.verdict.Store(verdictNotSent)
	text := "not started: " + err.Error()
	if code != websocket.StatusPolicyViolation {
		text = "not started, safe to run again: " + err.Error()
	}
	s.out.finish(because(code, text))
}

// unknown tells that nobody knows what became of the plan, and of which task.
func (s *session) unknown(e *blueapi.RunError) {
	s.c.verdict.Store(verdictUnknown)
	text := "task " + e.TaskID + ": not known whether it ran; look before it is run again"
	if e.Started {
		text = "task " + e.TaskID + " was started, and it is not known how it ended"
	}
	s.out.finish(because(websocket.StatusInternalError, text))
}

// trace follows the run.
func (s *session) trace() *blueapi.RunTrace {
	return &blueapi.RunTrace{
		Submitted: func(id string) {
			if s.task != "" {
				s.c.did(Replaced)
			}
			s.task, s.c.task = id, id
		},
		Starting: func(string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.sending = time.Now()
		},
		NotSent: func(string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.sending = (time.Time{}); s.left != here {
				s.cancel()
			}
		},
		Looking: func(string, error) { s.c.did(Settled) },
		Watched: func(t blueapi.Task) {
			s.record = &t
			if s.polling && s.state == "" && !t.IsPending && !t.IsComplete {
				s.say(blueapi.StateRunning)
			}
			if !s.paused.IsZero() && time.Since(s.paused) >= pauseGrace {
				s.pausedFor(&t)
			}
		},
		Paused: func(string) {
			if s.paused = time.Now(); s.polling {
				s.pausedFor(s.record)
			}
		},
		Resumed: func(string) { s.paused = time.Time{} },
		Event:   s.event,
		Blind: func(error) {
			s.polling = true
			s.g.hub.silent()
		},
	}
}

// event passes an event on.
func (s *session) event(e blueapi.Event) {
	if e.Gap != nil {
		s.polling = e.Gap.Until.IsZero()
		return
	}
	if e.TaskID != s.task {
		return
	}
	frame, w := update(e.Raw), e.Worker
	if w == nil {
		s.push(frame)
		return
	}
	if bytes.Equal(frame, s.last) { // it was said in the server's place
		return
	}
	s.push(frame)
	s.state, s.last = w.State, frame
	if w.Task != nil && w.Task.Complete {
		s.end(w.State)
	}
}

// say tells in the server's place what its worker does.
func (s *session) say(state blueapi.WorkerState) {
	s.state, s.last = state, workerUpdate(state, s.task, nil)
	s.push(s.last)
}

// conclude tells in the server's place that the task is complete, unless it was told.
func (s *session) conclude(state blueapi.WorkerState, record *blueapi.Task) {
	if s.out.finished() {
		return
	}
	if s.state != state {
		s.say(state)
	}
	s.push(workerUpdate(state, s.task, record))
	s.end(state)
}

// pausedFor ends the session of a plan that is paused, as the server does, which says
// that the task is complete then (1.21.1).
func (s *session) pausedFor(record *blueapi.Task) {
	if record != nil && record.IsComplete {
		s.conclude(blueapi.StatePaused, record)
	}
}

// end ends the session in good order. A plan that is paused may be so for ever.
func (s *session) end(state blueapi.WorkerState) {
	s.out.finish(ending{nil, websocket.StatusNormalClosure, ""})
	if state == blueapi.StatePaused {
		s.unwatch()
	}
}

// push has a frame sent. A caller who does not take what comes is given up.
func (s *session) push(frame []byte) {
	if s.out.push(frame) {
		return
	}
	s.mu.Lock()
	if s.left == here {
		s.left = outrun
		s.c.gone.Store(true)
	}
	s.mu.Unlock()
	s.out.drop()
	s.out.finish(because(websocket.StatusPolicyViolation, "task "+s.task+" goes on; its events were not taken in time"))
	s.unwatch()
}

// abort aborts the caller's plan, and no other.
func (s *session) abort(ctx context.Context) {
	for begin := time.Now(); ; {
		result, err := s.g.client.Control(ctx, blueapi.Command{Verb: blueapi.Abort, TaskID: s.task, Reason: "Client disconnected"})
		e, failed := errors.AsType[*blueapi.ControlError](err)
		switch {
		case !failed && result.Other == "":
			s.c.did(Aborted)
			return
		case !failed:
			s.c.verdict.Store(verdictUnknown)
			return
		}
		goOn := ctx.Err() == nil && time.Since(begin) < abortPatience
		switch notBegun := e.Err != nil; e.Reason {
		case blueapi.NotActive:
			if !notBegun {
				return // it has ended
			}
			if goOn {
				continue
			}
		case blueapi.NotCurrent, blueapi.AlreadyOver, blueapi.EndedByOthers:
			return // it has ended
		case blueapi.ControlUnreachable:
			if goOn {
				continue // each time it waits as long as any call
			}
		}
		s.c.verdict.Store(verdictUnknown)
		return
	}
}
