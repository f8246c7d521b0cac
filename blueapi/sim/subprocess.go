package sim

import (
	"context"
	"time"
)

// A subprocess is the worker's process, one life of the environment. It answers
// one call at a time. Its fields are guarded by the process's mutex.
type subprocess struct {
	p      *process
	ctx    context.Context // ends when it does, and its plans with it
	exit   context.CancelFunc
	calls  turns
	broken string // what is wrong with the environment; empty if it loads

	loaded bool
	worker *worker // nil before it is made, and after it was torn down
	closed bool    // takes no more calls
	// revived says that a call made a worker anew after the old one was torn
	// down. Such a process never ends.
	revived bool
	killed  bool          // and nobody has noticed
	queued  int           // calls that were made and have not been answered
	drained chan struct{} // closed once it is closed and nothing is queued
}

// contextTime is what loading plans and devices takes where nobody expects it: in
// a process that was torn down, or whose environment is broken.
const contextTime = 400 * time.Millisecond

// A loadError is what is wrong with an environment.
type loadError struct{ text string }

func (e *loadError) Error() string { return e.text }

// A need is what a call makes use of in the worker's process, and loads or makes
// if it is not there.
type need int

const (
	theConfig  need = iota // which is always there
	theContext             // plans and devices
	theWorker
)

func (p *process) newSubprocess(broken string) *subprocess {
	sub := &subprocess{p: p, broken: broken, drained: make(chan struct{})}
	sub.ctx, sub.exit = context.WithCancel(p.ctx)
	return sub
}

// setUp is the first call of a process, less the time that it takes.
func (sub *subprocess) setUp() error {
	p := sub.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if sub.broken != "" {
		return &loadError{sub.broken}
	}
	sub.loaded = true
	sub.worker = p.newWorker(sub.ctx)
	if sub.worker.publisher.start() != nil {
		return errNoBroker
	}
	return nil
}

// errNoBroker is the message of an environment whose worker works.
var errNoBroker = &loadError{"ConnectFailedException: The source message was blank"}

// call runs f in the worker's process and waits for it. Its argument is nil
// unless the worker is what it needs.
func (p *process) call(what need, f func(*worker) error) error {
	p.mu.Lock()
	sub := p.sub
	if sub.closed {
		p.mu.Unlock()
		return errInternal // ValueError: Pool not running
	}
	sub.queued++
	p.mu.Unlock()
	err := sub.run(what, f)
	p.mu.Lock()
	if sub.queued--; sub.closed && sub.queued == 0 {
		close(sub.drained)
	}
	p.mu.Unlock()
	if awake := p.awake(); awake != nil {
		return awake
	}
	return err
}

// run waits for its turn, and answers never if the process was killed.
func (sub *subprocess) run(what need, f func(*worker) error) error {
	if err := sub.calls.take(sub.p.ctx); err != nil {
		return err
	}
	defer sub.calls.give()
	if err := sub.p.pause(callTime); err != nil {
		return err
	}
	w, err := sub.provide(what)
	if err == nil && sub.ctx.Err() == nil {
		err = f(w)
	}
	if sub.isKilled() {
		<-sub.p.ctx.Done()
		return sub.p.ctx.Err()
	}
	return err
}

func (sub *subprocess) isKilled() bool {
	sub.p.mu.Lock()
	defer sub.p.mu.Unlock()
	return sub.killed
}

func (sub *subprocess) provide(what need) (*worker, error) {
	p := sub.p
	p.mu.Lock()
	load := what >= theContext && !sub.loaded
	p.mu.Unlock()
	if load {
		if err := p.pause(contextTime); err != nil {
			return nil, err
		}
		if sub.broken != "" {
			return nil, &loadError{sub.broken}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if load {
		sub.loaded = true
	}
	if what == theWorker && sub.worker == nil {
		sub.worker, sub.revived = p.newWorker(sub.ctx), true
	}
	return sub.worker, nil
}

// KillWorker kills the worker's process, as the kernel does when memory runs out.
// The plan is gone and the server does not notice: GET /environment and /healthz
// say that all is well, and everything else waits for an answer that never comes,
// asynchronous handlers such as that of GET /tasks with the whole server. Only
// Restart helps.
func (s *Server) KillWorker() {
	p := s.alive()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sub.killed = true
	p.sub.exit()
}
