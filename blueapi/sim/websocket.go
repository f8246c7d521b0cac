package sim

import (
	"bufio"
	"maps"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// runPlanPath is where a WebSocket runs a plan.
const runPlanPath = "/api/v2/run_plan"

// maxMessage is uvicorn's limit for what a client sends, in bytes.
const maxMessage = 16 << 20

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
	maps.Copy(w.Header(), a.Header)
	// What the real one does with an Origin is a matter of its configuration.
	c, err := websocket.Accept(kept, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // it has answered
	}
	c.SetReadLimit(maxMessage)
	defer func() { _ = c.CloseNow() }() // it may have been closed in a better way
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
