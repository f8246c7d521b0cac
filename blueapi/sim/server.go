// Package sim is a blueapi server in memory that fails when told to, for tests
// of programs that use blueapi. Start with a zero Server and its DialContext:
//
//	var s sim.Server
//	defer s.Close()
//	c := blueapi.Client{Transport: &http.Transport{DialContext: s.DialContext}}
//
// It is an image of blueapi 1.21.1: of its REST API (less the pages of its own
// documentation), of the events that it publishes to a message broker (DialBroker)
// and of plans that are run by WebSocket. It agrees byte for byte with recordings,
// and is built like the real one inside, so that it has its races too: a task whose
// PUT is sent twice into a stalled server runs twice. Inject makes it fail, and
// InjectBroker and StopBroker its broker.
//
// A program that is not in Go, or is run by hand, does the same by ControlHandler.
// There, and on command lines, a fault is said in words, as in
//
//	lose-answer PUT /worker/task first=1
//
// ParseFault makes a Fault of them; the list of faults gives the very words back
// that were injected.
//
// It keeps to virtual time in a bubble of testing/synctest, and needs no port.
package sim

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
)

// addr is where the server listens in its own network.
const addr = "blueapi.sim:8000"

// idleTimeout is uvicorn's.
const idleTimeout = 5 * time.Second

// Server is a blueapi server. The zero value is ready; its fields are set before
// anything else is done with it, and its methods may be called at any time from
// any goroutine. It must be closed.
type Server struct {
	// Plans are what the server can run, beside append_line, count, echo, fail,
	// many_events, moves, nap, returns, slow_start, stuck and unserialisable. A
	// plan of such a name replaces it.
	Plans []Plan
	// ReloadTime is how long DELETE /environment takes, 6 s if it is 0. In the
	// first third of it the old worker is stopping and GET /environment says
	// that all is as before.
	ReloadTime time.Duration
	// TeardownTime is the part of that third in which a request that needs the
	// worker wedges the reload: the worker is made again, in a process that then
	// never ends, until the next DELETE /environment. Afterwards everything but
	// GET /environment and /healthz gets text 500 until the new process is there.
	// 0 means 50 ms, as on an idle machine; a busy one takes longer.
	TeardownTime time.Duration
	// NoBroker says that the server's message broker is away when the server starts,
	// until StartBroker: the environment says that it is not initialized, and a plan
	// that is started does not run, but is recorded as failed as if it had.
	NoBroker bool
	// Token is what clients must bear, in an Authorization header or cookie; empty,
	// if the server asks nobody who they are.
	Token string
	// Issuer is the identity provider of a server with a Token; it only shows in
	// GET /config/oidc and GET /logout. Empty means https://identity.example/realms/demo.
	Issuer string

	once    sync.Once
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	network memnet.Network
	broker  brokerHost
	wait    sync.WaitGroup // everything that runs
	plans   []Plan
	paths   []endpoint
	runs    runs
	files   files

	mu      sync.Mutex
	process *process // nil while the server is down
	http    *http.Server
	ports   []string // addresses of the real network
	open    []net.Listener
	connMu  sync.Mutex
	conns   map[net.Conn]bool
	faults  []injected
	log     []Exchange
	closed  bool
	broken  string // what is wrong with the environments to come
}

// start makes the server on first use.
func (s *Server) start() {
	s.once.Do(func() {
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.plans = s.builtin()
		s.paths = newEndpoints()
		for _, p := range s.Plans {
			s.plans = append(slices.DeleteFunc(s.plans, func(q Plan) bool { return q.Name == p.Name }), p)
		}
		s.conns = make(map[net.Conn]bool)
		s.broker.inside.Buffer = unbounded
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.NoBroker {
			s.startBroker()
		}
		s.up()
	})
}

// up starts a process and has it listen, with the server locked.
func (s *Server) up() {
	s.process = s.newProcess(s.broken)
	s.http = &http.Server{Handler: s.Handler(), IdleTimeout: idleTimeout, ConnState: s.track}
	l, err := s.network.Listen(addr)
	if err != nil {
		panic(err) // nobody else can listen there
	}
	s.listen(s.http, l)
	for _, port := range s.ports {
		if l, err := listenTCP(port); err == nil {
			s.listen(s.http, l)
		}
	}
}

func (s *Server) listen(h *http.Server, l net.Listener) {
	s.open = append(s.open, l)
	s.wait.Go(func() { _ = h.Serve(l) })
}

func (s *Server) track(c net.Conn, state http.ConnState) {
	s.connMu.Lock()
	defer s.connMu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
	}
}

// hold keeps account of a connection that net/http has let go of.
func (s *Server) hold(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.connMu.Lock()
	defer s.connMu.Unlock()
	s.conns[c] = true
	return true
}

func (s *Server) letGo(c net.Conn) {
	s.connMu.Lock()
	defer s.connMu.Unlock()
	delete(s.conns, c)
}

// down kills the process, with the server locked.
func (s *Server) down() {
	if s.process == nil {
		return
	}
	s.process.kill()
	s.process = nil
	for _, l := range s.open {
		_ = l.Close()
	}
	s.open = nil
	s.connMu.Lock()
	conns := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.connMu.Unlock()
	for _, c := range conns {
		reset(c)
		_ = c.Close()
	}
	_ = s.http.Close()
}

// Close ends the server and waits until all that it started has ended.
func (s *Server) Close() {
	s.start()
	s.cancel()
	s.mu.Lock()
	s.closed = true
	s.down()
	s.stopBroker()
	s.mu.Unlock()
	s.wait.Wait()
}

// DialContext connects to the server, whatever the address, through its Network.
func (s *Server) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	s.start()
	return s.network.DialContext(ctx, network, addr)
}

// Network is what DialContext dials through. It can fail too (Set), it knows every
// attempt to connect (Dials), and before first use it can be made slow (Latency).
func (s *Server) Network() *memnet.Network { return &s.network }

// Listen has the server listen on the real network too, such as 127.0.0.1:0, and
// returns the address.
func (s *Server) Listen(addr string) (string, error) {
	s.start()
	l, err := listenTCP(addr)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		_ = l.Close() // until it is up again
	} else {
		s.listen(s.http, l)
	}
	s.ports = append(s.ports, l.Addr().String())
	return l.Addr().String(), nil
}

// Handler serves as DialContext's connections are served, for those who bring
// their own http.Server.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.start()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // the request was cut off
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		s.wait.Add(1)
		x := Exchange{
			N: len(s.log) + 1, Time: time.Now(), Method: r.Method, URL: r.URL, Host: r.Host,
			Header: r.Header.Clone(), Body: body, server: s,
		}
		s.log = append(s.log, x)
		faults := s.faults
		s.mu.Unlock()
		defer s.wait.Done()
		a := s.pass(&x, faults)
		if a.End == Whole {
			s.mu.Lock()
			s.log[x.N-1].Status = a.Status
			s.mu.Unlock()
		}
		s.write(w, r, a)
	})
}

// pass leads an exchange through the faults to the server.
func (s *Server) pass(x *Exchange, faults []injected) Answer {
	if len(faults) > 0 {
		return faults[0].fault(x, func() Answer { return s.pass(x, faults[1:]) })
	}
	if p := s.alive(); p != nil {
		return p.serve(x)
	}
	return Answer{End: Reset}
}

func (s *Server) alive() *process {
	s.start()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

func (s *Server) plan(name string) (*Plan, error) {
	for i := range s.plans {
		if s.plans[i].Name == name {
			return &s.plans[i], nil
		}
	}
	return nil, errNotFound
}

// injected is a fault and the words for it, if it was made of words.
type injected struct {
	fault Fault
	words string
}

// Inject adds faults. They stand in line: the one injected first sees a request
// first.
func (s *Server) Inject(faults ...Fault) {
	for _, f := range faults {
		s.inject(injected{fault: f})
	}
}

func (s *Server) inject(f injected) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(slices.Clip(s.faults), f)
}

// Heal removes all faults. Requests that are in one stay in it.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Exchanges returns all requests that arrived whole, in that order, those that a
// fault has lost included.
func (s *Server) Exchanges() []Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// Restart kills the server and starts it again after d: connections are reset and
// refused, tasks are forgotten, the plan ends, and the environment is new.
func (s *Server) Restart(d time.Duration) {
	s.start()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.process == nil {
		return
	}
	s.down()
	s.wait.Go(func() { s.upAfter(d) })
}

// Reload does what DELETE /environment does.
func (s *Server) Reload() {
	if p := s.alive(); p != nil {
		s.wait.Go(func() { _ = p.reload() })
	}
}

// Break has no environment load any more, be it at a start, a restart or a reload,
// with this message, such as "ModuleNotFoundError: No module named 'scans'"; the
// empty one has them load again. An environment that is there stays as it is.
func (s *Server) Break(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = message
}

func (s *Server) whatIsBroken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// Freeze stops the server's process but not its worker (SIGSTOP): connections
// and requests are taken by the kernel and nothing answers until Unfreeze.
func (s *Server) Freeze() {
	if p := s.alive(); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.frozen == nil {
			p.frozen = make(chan struct{})
		}
	}
}

// Unfreeze undoes Freeze. All requests that have come meanwhile are then dealt
// with together.
func (s *Server) Unfreeze() {
	if p := s.alive(); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.frozen != nil {
			close(p.frozen)
			p.frozen = nil
		}
	}
}

func listenTCP(addr string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
}
