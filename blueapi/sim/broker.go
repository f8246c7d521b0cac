package sim

import (
	"context"
	"math"
	"net"
	"slices"
	"sync"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// brokerAddr is where the broker listens in the server's network.
const brokerAddr = "broker.sim:61613"

// A brokerHost is the machine that the message broker runs on.
type brokerHost struct {
	// inside is the server's own way to the broker, which no fault of the network
	// touches: that is where clients are.
	inside memnet.Network

	mu     sync.Mutex
	broker *stomp.Broker // nil while it is stopped
	open   []net.Listener
	ports  []string // addresses of the real network
	faults []stomp.Fault
}

// wanted tells whether anybody would notice what is published.
func (h *brokerHost) wanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.broker != nil && (len(h.faults) > 0 || h.broker.Subscribers(blueapi.DefaultDestination) > 0)
}

// StartBroker starts the server's message broker, if it was stopped or away from
// the start. The server finds out within 10.8 s, as it asks no oftener; at once, if
// it never had a connection to it. Then events of a plan may come more than once,
// until the environment is reloaded (1.21.1).
func (s *Server) StartBroker() {
	s.start()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.startBroker()
	}
}

// startBroker is called with the server locked.
func (s *Server) startBroker() {
	h := &s.broker
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broker != nil {
		return
	}
	h.broker = new(stomp.Broker)
	h.broker.Inject(h.faults...)
	for _, n := range []*memnet.Network{&h.inside, &s.network} {
		l, err := n.Listen(brokerAddr)
		if err != nil {
			panic(err) // nobody else can listen there
		}
		s.serveBroker(l)
	}
	for _, port := range h.ports {
		if l, err := listenTCP(port); err == nil {
			s.serveBroker(l)
		}
	}
}

// serveBroker is called with the server and the broker's host locked.
func (s *Server) serveBroker(l net.Listener) {
	b := s.broker.broker
	s.broker.open = append(s.broker.open, l)
	s.wait.Go(func() { _ = b.Serve(l) })
}

// StopBroker stops the server's message broker: all connections to it end, and new
// ones are refused. What is published meanwhile is lost, and the real server takes
// it ill (1.21.1): a plan that is started does not run; one that runs goes on until
// it has something to publish, and is recorded as failed in any case; a pause or an
// abort gets text 500, and the plan goes on.
func (s *Server) StopBroker() {
	s.start()
	s.mu.Lock()
	s.stopBroker()
	p := s.process
	s.mu.Unlock()
	if p != nil {
		p.loseBroker()
	}
}

// stopBroker is called with the server locked.
func (s *Server) stopBroker() {
	h := &s.broker
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broker == nil {
		return
	}
	for _, l := range h.open {
		_ = l.Close()
	}
	h.open = nil
	b := h.broker
	h.broker = nil
	b.Disconnect()
	s.wait.Go(func() { _ = b.Close() }) // which waits for faults, and they may be who stops it
}

// DialBroker connects to the server's message broker, whatever the address, through
// the server's Network, which knows it as broker.sim:61613. It accepts every login.
func (s *Server) DialBroker(ctx context.Context, network, _ string) (net.Conn, error) {
	s.start()
	return s.network.DialContext(ctx, network, brokerAddr)
}

// ListenBroker has the message broker listen on the real network too, such as
// 127.0.0.1:0, and returns the address.
func (s *Server) ListenBroker(addr string) (string, error) {
	s.start()
	l, err := listenTCP(addr)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.broker
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broker == nil {
		_ = l.Close() // until it is up again
	} else {
		s.serveBroker(l)
	}
	h.ports = append(h.ports, l.Addr().String())
	return l.Addr().String(), nil
}

// InjectBroker puts faults before the message broker, the first one nearest to its
// clients, and those injected earlier behind them. The server is a client of it:
// what it sends are the frames that match stomp.Receives("SEND").
func (s *Server) InjectBroker(faults ...stomp.Fault) {
	h := &s.broker
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = slices.Concat(faults, h.faults)
	if h.broker != nil {
		h.broker.Inject(faults...)
	}
}

// HealBroker removes all faults of the message broker. Frames that are in one stay
// in it.
func (s *Server) HealBroker() {
	h := &s.broker
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = nil
	if h.broker != nil {
		h.broker.Inject()
	}
}

// unbounded is a buffer that never makes a writer wait: a plan does not wait for the
// broker to take its events.
const unbounded = math.MaxInt
