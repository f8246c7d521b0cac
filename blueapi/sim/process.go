package sim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// How long the parts of a call take, in the order of what 1.21.1 takes on an
// idle machine. That they take time at all is what lets two requests pass each
// other as they do on the real server.
const (
	callTime   = 400 * time.Microsecond // a call into the worker's process
	threadTime = 200 * time.Microsecond // from the event loop to a thread
	turnTime   = 50 * time.Microsecond  // what has to be done in the event loop
)

// A process is one life of the server, from its start until it is killed. As in
// the real one there is an event loop, which does one thing at a time; threads
// for most handlers; and a second process with the worker, which answers one
// call at a time. Asynchronous parts of a handler hold the event loop while
// they call, so everybody else waits for them.
type process struct {
	ctx    context.Context // ends when the process is killed
	kill   context.CancelFunc
	server *Server
	loop   turns

	mu     sync.Mutex
	frozen chan struct{} // not nil while frozen; closed by the thaw
	env    blueapi.Environment
	sub    *subprocess
}

// A subprocess holds the worker. It ends, and a new one starts, with each
// reload.
type subprocess struct {
	calls turns
	// worker is nil once it was torn down; a call that arrives after that makes
	// a new one, as on the real server, and then the process never ends.
	worker  *worker
	closed  bool // takes no more calls
	revived bool
	queued  int // calls that were made and have not been answered
	drained chan struct{}
}

var (
	errNotFound = errors.New("not found")
	errInternal = errors.New("internal server error")
)

func (s *Server) newProcess() *process {
	p := &process{server: s}
	p.ctx, p.kill = context.WithCancel(context.Background())
	p.env = blueapi.Environment{ID: newID(), Initialized: true}
	p.sub = p.newSubprocess()
	return p
}

func (p *process) newSubprocess() *subprocess {
	return &subprocess{worker: p.newWorker(), drained: make(chan struct{})}
}

// newID makes a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// turns hands something out to one at a time, first come, first served.
type turns struct {
	mu    sync.Mutex
	busy  bool
	queue []chan struct{}
}

func (t *turns) take(ctx context.Context) error {
	t.mu.Lock()
	if !t.busy {
		t.busy = true
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.queue = append(t.queue, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
		// Whoever waits here dies with the process, and the queue too.
		return ctx.Err()
	}
}

func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.busy = false
		return
	}
	close(t.queue[0])
	t.queue = t.queue[1:]
}

// pause waits, or ends early with the process.
func (p *process) pause(d time.Duration) error { return sleep(p.ctx, d) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awake waits until the process is not frozen.
func (p *process) awake() error {
	for {
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		if frozen == nil {
			return p.ctx.Err()
		}
		select {
		case <-frozen:
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
}

// inLoop runs f in the event loop.
func (p *process) inLoop(f func() error) error {
	if err := p.loop.take(p.ctx); err != nil {
		return err
	}
	defer p.loop.give()
	if err := p.awake(); err != nil {
		return err
	}
	if err := p.pause(turnTime); err != nil || f == nil {
		return err
	}
	return f()
}

// inThread gets from the event loop into a thread.
func (p *process) inThread() error {
	if err := p.pause(threadTime); err != nil {
		return err
	}
	return p.awake()
}

// call runs f in the worker's process and waits for it.
func (p *process) call(f func(*worker) error) error {
	p.mu.Lock()
	sub := p.sub
	if sub.closed {
		p.mu.Unlock()
		return errInternal // ValueError: Pool not running
	}
	sub.queued++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if sub.queued--; sub.closed && sub.queued == 0 {
			close(sub.drained)
		}
	}()
	err := p.callIn(sub, f)
	if awake := p.awake(); awake != nil {
		return awake
	}
	return err
}

func (p *process) callIn(sub *subprocess, f func(*worker) error) error {
	if err := sub.calls.take(p.ctx); err != nil {
		return err
	}
	defer sub.calls.give()
	if err := p.pause(callTime); err != nil {
		return err
	}
	p.mu.Lock()
	if sub.worker == nil {
		sub.worker = p.newWorker()
		sub.revived = true
	}
	w := sub.worker
	p.mu.Unlock()
	return f(w)
}

func (p *process) environment() blueapi.Environment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.env
}

func (p *process) setEnvironment(id string, initialized bool, message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.env = blueapi.Environment{ID: id, Initialized: initialized}
	if message != "" {
		p.env.ErrorMessage = &message
	}
}

// defaultReloadTime and its third are what 1.21.1 took with its demo devices.
const defaultReloadTime = 6 * time.Second

// reload stops the worker's process and starts another. Until the old worker
// has stopped, the environment is said to be initialized, with its old id; and
// if somebody else calls meanwhile, that never changes, until the next reload.
func (p *process) reload() error {
	p.mu.Lock()
	sub, old := p.sub, p.env.ID
	closed := sub.closed
	p.mu.Unlock()
	total := p.server.ReloadTime
	if total <= 0 {
		total = defaultReloadTime
	}
	stopping := total / 3
	switch {
	case closed:
		p.setEnvironment(old, false, "ValueError: Pool not running")
	default:
		err := p.callIn(sub, func(w *worker) error {
			if err := p.pause(stopping); err != nil {
				return err
			}
			if err := w.stop(); err != nil {
				return err
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			sub.worker, sub.revived = nil, false
			if !sub.closed && sub.queued == 0 {
				close(sub.drained)
			}
			sub.closed = true
			return nil
		})
		if err != nil {
			p.setEnvironment(old, false, err.Error())
			break
		}
		select {
		case <-sub.drained:
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
		if p.isRevived(sub) {
			return nil // its process never ends, and we wait for that
		}
		p.setEnvironment(old, false, "")
	}
	id := newID()
	next := p.newSubprocess()
	p.mu.Lock()
	p.sub = next
	p.mu.Unlock()
	// Calls that arrive now wait behind the loading of plans and devices.
	err := p.callIn(next, func(*worker) error { return p.pause(total - stopping) })
	if err == nil {
		p.setEnvironment(id, true, "")
	}
	return err
}

func (p *process) isRevived(sub *subprocess) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return sub.revived
}
