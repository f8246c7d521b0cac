package sim

import (
	"time"

	"github.com/coder/websocket"
)

// Terminate ends the server as SIGTERM does, and starts it again d after that. It
// takes no more connections and lets go of WebSockets (1012), whose plans are
// aborted at their next event. Then it waits for requests that are being dealt with
// and for the plan, for 30 s.
func (s *Server) Terminate(d time.Duration) {
	s.start()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.process
	if s.closed || p == nil {
		return
	}
	for _, l := range s.open {
		_ = l.Close()
	}
	s.open = nil
	h := s.http
	s.wait.Go(func() {
		sessions := p.release()
		_ = h.Shutdown(p.ctx)
		for _, ended := range sessions {
			select {
			case <-ended:
			case <-p.ctx.Done():
			}
		}
		p.mu.Lock()
		sub := p.sub
		p.mu.Unlock()
		_ = sub.run(theWorker, func(w *worker) error { return w.stop() }) // and whatever it says, it ends
		s.mu.Lock()
		if s.process != p {
			s.mu.Unlock()
			return // killed meanwhile
		}
		s.down()
		s.mu.Unlock()
		s.upAfter(d)
	})
}

// upAfter starts the server again when d has passed.
func (s *Server) upAfter(d time.Duration) {
	if sleep(s.ctx, d) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.up()
	}
}

// release closes all WebSockets, and returns what is closed when their sessions have
// ended.
func (p *process) release() (ended []<-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
	for session := range p.sessions {
		ended = append(ended, session.ended)
		p.server.wait.Go(func() { session.close(websocket.StatusServiceRestart, "") })
	}
	return ended
}
