package sim

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
)

// uvicorn's time limits for WebSockets.
const (
	pingPeriod = 20 * time.Second
	pongLimit  = 20 * time.Second
)

// blueapi's own codes for the end of a WebSocket.
const (
	unknownPlan = 4001
	invalidArgs = 4002
)

var (
	errBusy = errors.New("worker busy")
	// errGone is why a client cannot be told of an event.
	errGone = errors.New("the client has gone")
)

// A session is a WebSocket that runs a plan.
type session struct {
	p     *process
	c     *websocket.Conn
	trace string        // of its request, or empty
	gone  chan struct{} // closed when the client cannot be told anything any more
	ended chan struct{} // closed at the end
}

// enter keeps account of a session, unless the process is about to end.
func (p *process) enter(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending {
		return false
	}
	if p.sessions == nil {
		p.sessions = make(map[*session]bool)
	}
	p.sessions[s] = true
	return true
}

func (p *process) leave(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s)
	close(s.ended)
}

// run is the handler: one coroutine in the event loop, which is held up by each of
// its calls. Where the real one raises an exception that nobody expects, the
// connection ends without a word.
func (s *session) run() {
	ctx, cancel := context.WithCancel(s.p.ctx)
	var beside sync.WaitGroup
	beside.Go(func() { s.ping(ctx) })
	defer func() {
		cancel()
		_ = s.c.CloseNow() // it may have been closed in a better way
		beside.Wait()
	}()
	kind, text, err := s.c.Read(ctx)
	if err != nil || kind != websocket.MessageText {
		return
	}
	beside.Go(func() { s.watch(ctx) })
	id, err := s.submit(string(text))
	if err != nil {
		return
	}
	switch err := s.follow(id); {
	case errors.Is(err, errBusy):
		s.tell([]byte(`{"kind":"busy"}`))
		s.close(websocket.StatusTryAgainLater, "Worker busy")
	case err == nil:
		s.close(websocket.StatusNormalClosure, "")
	}
}

// ping asks the client now and then whether it is there. One that is not is given
// up.
func (s *session) ping(ctx context.Context) {
	for sleep(ctx, pingPeriod) == nil {
		pong, end := context.WithTimeout(ctx, pongLimit)
		err := s.c.Ping(pong)
		end()
		if err != nil {
			_ = s.c.CloseNow() // there is nobody to take leave of
			return
		}
	}
}

// watch looks out for the end of the connection. What else the client says is not
// heeded.
func (s *session) watch(ctx context.Context) {
	defer close(s.gone)
	for {
		if _, _, err := s.c.Read(ctx); err != nil {
			return
		}
	}
}

// tell sends a message, and reports whether it could.
func (s *session) tell(message []byte) bool {
	if isClosed(s.gone) || s.p.awake() != nil {
		return false
	}
	return s.c.Write(s.p.ctx, websocket.MessageText, message) == nil
}

func (s *session) close(code websocket.StatusCode, reason string) {
	_ = s.c.Close(code, reason) // if the client has not gone
}

// submit makes the task that a message asks for, or says what is wrong with it.
func (s *session) submit(message string) (id string, err error) {
	request, bad := parse(message)
	kind, given := request.field("kind")
	task, _ := request.field("task")
	if bad != nil || given && (kind.kind != text || kind.text != "submit") || task.kind != object || checkFields(task, taskRequest()) != nil {
		s.close(websocket.StatusInvalidFramePayloadData, "Invalid Request")
		return "", errInternal
	}
	id, wrong, err := s.p.submit(task, func(f func(*worker) error) error {
		return s.p.inLoop(func() error { return s.p.call(theWorker, f) })
	})
	switch {
	case errors.Is(err, errNotFound):
		name, _ := task.field("name")
		s.tell(dict(member{"kind", str("plan_not_found")}, member{"plan_name", name}).raw())
		s.close(unknownPlan, "Unknown Plan")
	case wrong != nil:
		s.tell(dict(member{"kind", str("invalid_args")}, member{"errors", value{kind: list, items: wrong}}).raw())
		s.close(invalidArgs, "Invalid Args")
		err = errInternal
	}
	return id, err
}

// follow starts the task and passes its events on, until its end, or until the
// client has gone and there is an event that it cannot be told: then the plan is
// aborted.
func (s *session) follow(id string) error {
	pipe := newPipe()
	var w *worker
	err := s.p.inLoop(func() error {
		return s.p.call(theWorker, func(now *worker) error {
			w = now
			w.attach(pipe)
			return nil
		})
	})
	if err != nil {
		return err
	}
	err = s.begin(id)
	for err == nil {
		var e piped
		if e, err = pipe.take(w.ctx); err != nil || e.task != id {
			continue
		}
		if !s.tell(append(append([]byte(`{"kind":"update","data":`), e.body...), '}')) {
			err = errGone
			break
		}
		if e.end {
			break
		}
	}
	if gone := s.p.inLoop(func() error {
		return s.p.call(theWorker, func(now *worker) error {
			w.detach(pipe)
			if now != w {
				return errInternal // it does not know the pipe
			}
			return nil
		})
	}); gone != nil {
		return gone
	}
	if errors.Is(err, errGone) {
		_ = s.p.inLoop(func() error {
			return s.p.call(theWorker, func(w *worker) error { return w.cancel(blueapi.StateAborting, "Client disconnected") })
		})
	}
	return err
}

// begin starts the task, all in one piece.
func (s *session) begin(id string) error {
	return s.p.inLoop(func() error {
		var ended bool
		err := s.p.call(theWorker, func(w *worker) error {
			_, ended = w.active()
			return nil
		})
		switch {
		case err != nil:
			return err
		case !ended:
			return errBusy
		}
		return s.p.call(theWorker, func(w *worker) error { return w.begin(id, s.trace) })
	})
}
