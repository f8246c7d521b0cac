package sim

import (
	"context"
	"sync"
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

// attach has a pipe take all events from now on.
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
