package blueapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

const (
	// messageLimit bounds one message of the server: documents can have megabytes.
	messageLimit = 64 << 20
	// farewell is how long the server, having said its last word, is waited for to
	// close the connection.
	farewell = 500 * time.Millisecond
)

// Close codes of run_plan besides the standard ones (1.21).
const (
	closeUnknownPlan  websocket.StatusCode = 4001
	closeInvalidArgs  websocket.StatusCode = 4002
	closeUnauthorised websocket.StatusCode = 4003
)

// socket is one WebSocket to run_plan. It is read whether or not anybody takes the
// events, because pings are answered only while it is, and the server drops a client
// that it has not heard for 40 s, and then aborts the plan (1.21.1).
type socket struct {
	conn *websocket.Conn
	link *countedLink
	// events are what the server says of the run. The channel is closed when it has
	// refused the run, or the connection has ended.
	events chan Event
	// err is the refusal, as an *Error, or what became of the connection. It is set
	// when events is closed.
	err error
	// heard is when the server was last heard, pings included.
	heard atomic.Pointer[time.Time]

	stop     context.CancelFunc
	ended    chan struct{} // closed when nothing more is read
	routines sync.WaitGroup
}

// countedLink is the connection beneath a WebSocket. It knows how much was written.
type countedLink struct {
	io.ReadWriteCloser
	written atomic.Int64
}

func (l *countedLink) Write(p []byte) (int, error) {
	n, err := l.ReadWriteCloser.Write(p)
	l.written.Add(int64(n))
	return n, err
}

// roundTripper makes a RoundTripper of a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// openSocket connects to run_plan. That moves nothing, so it may be repeated.
func (c *Client) openSocket(ctx context.Context) (*socket, error) {
	op := operation{name: "GET /api/v2/run_plan", method: http.MethodGet, path: "/api/v2/run_plan", root: true}
	policy := c.policy(&op)
	policy.Copies = false // a slow answer is no reason for a second connection
	var s *socket
	drop := func() { // one that came too late
		if s != nil {
			s.close(ctx, false)
		}
	}
	_, err := retry.Do(ctx, policy, func(ctx context.Context, a retry.Attempt) (none struct{}, err error) {
		drop()
		s, err = c.upgrade(ctx, &op, a)
		return none, err
	})
	if err == nil {
		return s, nil
	}
	drop()
	if e, ok := errors.AsType[*retry.Error](err); ok && e.Reason == retry.Hopeless && len(e.Records) == 1 {
		if refusal, ok := errors.AsType[*Error](e.Err); ok {
			return nil, refusal
		}
	}
	return nil, err
}

// upgrade makes one attempt to connect, over HTTP/1.1 and a connection of its own: net/http
// uses none for an upgrade that served other requests.
func (c *Client) upgrade(ctx context.Context, op *operation, a retry.Attempt) (*socket, error) {
	r, err := c.request(ctx, op, nil, a)
	if err != nil {
		return nil, &retry.Failure{Verdict: op.hopeless(), Evidence: retry.NoEvidence, Err: err, Unsent: true}
	}
	link := new(countedLink)
	send := func(r *http.Request) (*http.Response, error) {
		resp, err := c.wire.Send(r.Context(), r, a, true)
		if err != nil {
			return nil, err
		}
		a.Heard()
		if conn, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
			link.ReadWriteCloser = conn
			resp.Body = link
			return resp, nil
		}
		answer, bodyErr := retryhttp.ReadBody(resp.Body, a, bodyLimit)
		_ = resp.Body.Close()
		if _, err := c.judge(op, resp, answer, bodyErr); err != nil {
			return nil, explained(err)
		}
		return nil, op.foreign(resp.StatusCode, "no WebSocket: "+excerpt(answer))
	}
	s := &socket{link: link, events: make(chan Event), ended: make(chan struct{})}
	conn, _, err := websocket.Dial(ctx, r.URL.String(), &websocket.DialOptions{ //nolint:bodyclose // Dial does
		HTTPClient: &http.Client{Transport: roundTripper(send)}, HTTPHeader: r.Header,
		OnPingReceived: func(context.Context, []byte) bool {
			s.hear()
			return true
		},
	})
	if f, ok := errors.AsType[*retry.Failure](err); ok {
		return nil, f
	}
	if err != nil {
		return nil, op.foreign(http.StatusSwitchingProtocols, err.Error())
	}
	conn.SetReadLimit(messageLimit)
	s.serve(conn)
	return s, nil
}

// explained says what a 404 to an upgrade means: it is not about the plan.
func explained(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound && !e.Foreign {
		e.NoWebSocket = true
		e.Detail = "the server has no WebSocket for runs, or a proxy does not pass it on"
	}
	return err
}

func (s *socket) hear() {
	now := time.Now()
	s.heard.Store(&now)
}

// serve begins to read.
func (s *socket) serve(conn *websocket.Conn) {
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.conn = conn
	s.hear()
	updates := make(chan []byte)
	s.routines.Go(func() {
		defer close(s.ended)
		s.err = s.read(ctx, updates)
		close(updates)
		if _, refused := errors.AsType[*Error](s.err); refused {
			_, _, _ = conn.Read(ctx) // the server closes the connection now
		}
	})
	s.routines.Go(func() {
		defer close(s.events)
		s.keep(ctx, updates, backlog)
	})
}

// submit writes a request to run a plan. It reports whether anything was written: if
// not, nothing will be, and the server cannot act on it. An error does not mean that the
// server did not get it all.
func (s *socket) submit(ctx context.Context, request []byte) (sent bool, err error) {
	ctx, stop := context.WithTimeout(ctx, startSilenceLimit)
	defer stop()
	before := s.link.written.Load()
	if err = s.conn.Write(ctx, websocket.MessageText, request); err != nil {
		_ = s.conn.CloseNow() // it has failed already
	}
	return s.link.written.Load() > before, err
}

// socketMessage is what the server sends.
type socketMessage struct {
	Kind string `json:"kind"`
	// Data is the event, if Kind is update.
	Data json.RawMessage `json:"data"`
	// Fields are the complaints, if Kind is invalid_args.
	Fields []InvalidField `json:"errors"`
}

// read hands the updates over until the server refuses or the connection ends, and says
// why. What it does not understand it leaves out: to close the connection would abort
// the plan. That includes a message that was cut off, which may come without an error
// (coder/websocket 1.8.15), but is never JSON.
func (s *socket) read(ctx context.Context, updates chan<- []byte) error {
	updated := false
	for {
		_, raw, err := s.conn.Read(ctx)
		if err != nil {
			if refusal := refusalOfCode(websocket.CloseStatus(err)); refusal != nil && !updated {
				return refusal
			}
			return err
		}
		s.hear()
		var m socketMessage
		if json.Unmarshal(raw, &m) != nil {
			continue
		}
		if refusal := m.refusal(); refusal != nil {
			return refusal
		}
		if m.Kind != "update" {
			continue
		}
		updated = true
		select {
		case updates <- m.Data:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// opSubmit names the request to run a plan in errors.
const opSubmit = "WebSocket run_plan"

// refusal is what the server says instead of running the plan; nil if it does not. The
// status is that of the same refusal by the endpoints for tasks.
func (m *socketMessage) refusal() *Error {
	switch m.Kind {
	case "plan_not_found":
		return &Error{Op: opSubmit, Status: http.StatusNotFound, Detail: "Item not found"}
	case "invalid_args":
		return &Error{Op: opSubmit, Status: http.StatusUnprocessableEntity, Detail: "Invalid Args", Fields: m.Fields}
	case "unauthorized":
		return &Error{Op: opSubmit, Status: http.StatusForbidden, Detail: "Not authorized to submit task"}
	case "busy":
		return &Error{Op: opSubmit, Status: http.StatusConflict, Detail: "Worker already active"}
	}
	return nil
}

// refusalOfCode is the refusal that a close code means by itself. That of a busy server
// (1013) is not among them: others may say that too.
func refusalOfCode(code websocket.StatusCode) *Error {
	switch code {
	case closeUnknownPlan:
		return (&socketMessage{Kind: "plan_not_found"}).refusal()
	case closeInvalidArgs:
		return (&socketMessage{Kind: "invalid_args"}).refusal()
	case closeUnauthorised:
		return (&socketMessage{Kind: "unauthorized"}).refusal()
	case websocket.StatusInvalidFramePayloadData:
		return &Error{Op: opSubmit, Status: http.StatusUnprocessableEntity, Detail: "Invalid Request"}
	case websocket.StatusMessageTooBig: // uvicorn takes 16 MiB
		return &Error{Op: opSubmit, Status: http.StatusRequestEntityTooLarge, Detail: "Message too big"}
	}
	return nil
}

// errSlow is why events are dropped.
var errSlow = errors.New("blueapi: events were dropped because their consumer is too slow")

// kept is an update, or a gap, that nobody has taken yet.
type kept struct {
	raw []byte
	gap *Gap
}

// keep hands the updates on, and keeps those that nobody takes, so that the connection
// is read whatever the consumer does. What does not fit into limit bytes is dropped, and
// told as a gap.
func (s *socket) keep(ctx context.Context, updates <-chan []byte, limit int) {
	var queue []kept
	size := 0
	var next Event
	var out chan<- Event // not nil if next is to be handed on
	for updates != nil || out != nil {
		select {
		case raw, ok := <-updates:
			switch now := time.Now(); {
			case !ok:
				updates = nil
			case size == 0 || size+len(raw) <= limit:
				queue = append(queue, kept{raw: raw})
				size += len(raw)
			case queue[len(queue)-1].gap == nil:
				queue = append(queue, kept{gap: &Gap{From: now, Until: now, Missed: 1, Err: errSlow}})
			default:
				g := queue[len(queue)-1].gap
				g.Until = now
				g.Missed++
			}
		case out <- next:
			out = nil
		case <-ctx.Done():
			return
		}
		if out == nil && len(queue) > 0 {
			first := queue[0]
			queue[0] = kept{}
			queue = queue[1:]
			size -= len(first.raw)
			next, out = Event{At: time.Now(), Gap: first.gap}, s.events
			if first.gap == nil {
				next = decodeEvent(first.raw, next.At)
			}
		}
	}
}

// close ends the connection, and reports whether it had ended before. If the server has
// said its last word, it has a moment to do that itself, unless ctx has ended. If it has
// not, it aborts the plan at its next event.
func (s *socket) close(ctx context.Context, last bool) (ended bool) {
	if last {
		t := time.NewTimer(farewell)
		defer t.Stop()
		select {
		case <-s.ended:
		case <-t.C:
		case <-ctx.Done():
		}
	}
	select {
	case <-s.ended:
		ended = true
	default:
	}
	s.stop()
	_ = s.conn.CloseNow() // it is closed either way
	s.routines.Wait()
	return ended
}
