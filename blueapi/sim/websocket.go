package sim

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
)

// runPlanPath is where a WebSocket runs a plan.
const runPlanPath = "/api/v2/run_plan"

// uvicorn's limits for WebSockets.
const (
	pingPeriod  = 20 * time.Second
	pongLimit   = 20 * time.Second
	maxMessage  = 16 << 20
	unknownPlan = 4001
	invalidArgs = 4002
)

var (
	errBusy = errors.New("worker busy")
	// errGone is why a client cannot be told of an event.
	errGone = errors.New("the client has gone")
)

// A pipe takes a worker's events to a WebSocket. Nothing in it waits.
type pipe struct {
	mu      sync.Mutex
	queue   []piped
	changed chan struct{}
}

// A piped event is one on its way.
type piped struct {
	task string
	body []byte
	end  bool // of its task
}

func newPipe() *pipe { return &pipe{changed: make(chan struct{}, 1)} }

func (p *pipe) put(e event) {
	status, _ := e.body.(*workerEvent)
	p.mu.Lock()
	p.queue = append(p.queue, piped{e.task, e.body.wire(), status != nil && status.Task != nil && status.Task.Complete})
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *pipe) take(ctx context.Context) (piped, error) {
	for {
		p.mu.Lock()
		if len(p.queue) > 0 {
			e := p.queue[0]
			p.queue = p.queue[1:]
			p.mu.Unlock()
			return e, nil
		}
		p.mu.Unlock()
		select {
		case <-p.changed:
		case <-ctx.Done():
			return piped{}, ctx.Err()
		}
	}
}

// isUpgrade tells a request for a WebSocket from others.
func isUpgrade(x *Exchange) bool { return strings.EqualFold(x.Header.Get("Upgrade"), "websocket") }

// upgradeRunPlan answers a request for a WebSocket. The session begins when the
// answer gets through.
func (p *process) upgradeRunPlan(x *Exchange) Answer {
	if !p.server.knows(x) {
		a := unauthenticated()
		a.Header.Set("Connection", "close")
		return a
	}
	return Answer{Status: http.StatusSwitchingProtocols, Header: http.Header{}, session: func(c *websocket.Conn) {
		s := &session{p: p, c: c, trace: traceOf(x), gone: make(chan struct{}), ended: make(chan struct{})}
		if p.enter(s) {
			defer p.leave(s)
			s.run()
		}
	}}
}

// upgrade makes a WebSocket of a request and runs its session.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, a Answer) {
	kept := &keeper{ResponseWriter: w, server: s}
	defer kept.letGo()
	for k, v := range a.Header {
		w.Header()[k] = v
	}
	// What the real one does with an Origin is a matter of its configuration.
	c, err := websocket.Accept(kept, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // it has answered
	}
	c.SetReadLimit(maxMessage)
	defer c.CloseNow()
	a.session(c)
}

// A keeper keeps account of a connection that a WebSocket takes over.
type keeper struct {
	http.ResponseWriter
	server *Server
	conn   net.Conn
}

// Hijack is how the WebSocket takes it over.
func (k *keeper) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(k.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if !k.server.hold(conn) {
		_ = conn.Close()
		return nil, nil, net.ErrClosed
	}
	k.conn = conn
	return conn, rw, nil
}

func (k *keeper) letGo() {
	if k.conn != nil {
		k.server.letGo(k.conn)
	}
}

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
	kind, text, err := s.c.Read(s.p.ctx)
	if err != nil || kind != websocket.MessageText {
		return
	}
	var watched sync.WaitGroup
	defer watched.Wait()
	defer s.c.CloseNow()
	ctx, cancel := context.WithCancel(s.p.ctx)
	defer cancel()
	watched.Go(func() { s.watch(ctx) })
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

// watch looks out for the end of the connection. It pings the client, which must
// answer, and does not read what else it says.
func (s *session) watch(ctx context.Context) {
	var pings sync.WaitGroup
	defer pings.Wait()
	defer close(s.gone)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pings.Go(func() {
		for sleep(ctx, pingPeriod) == nil {
			pong, end := context.WithTimeout(ctx, pongLimit)
			err := s.c.Ping(pong)
			end()
			if err != nil {
				_ = s.c.CloseNow()
				return
			}
		}
	})
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

func (w *worker) attach(p *pipe) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pipes[p] = true
}

func (w *worker) detach(p *pipe) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pipes, p)
}
