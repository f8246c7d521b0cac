package sim

import (
	"cmp"
	"time"
)

// What 1.21.1 took with its demo devices: 4.3 to 7 s in all, a third of it for the
// end of the old process, and of that some 50 ms for the teardown.
const (
	defaultReloadTime   = 6 * time.Second
	defaultTeardownTime = 50 * time.Millisecond
)

// reload stops the worker's process and starts another, as the real one does in a
// thread of its own for each DELETE /environment: two may be under way.
func (p *process) reload() error {
	total := cmp.Or(p.server.ReloadTime, defaultReloadTime)
	ending := total / 3
	teardown := min(cmp.Or(p.server.TeardownTime, defaultTeardownTime), ending)
	if err := p.stop(teardown, ending-teardown); err != nil {
		return err
	}
	return p.startAgain(total - ending)
}

// stop tears the worker down and waits for the end of its process. Until then the environment is said to be initialized, with its old id. A call
// for the worker that came while it was torn down has it made again, in a process
// that then never ends, and neither does this: that is the wedge.
func (p *process) stop(teardown, end time.Duration) error {
	p.mu.Lock()
	sub, old, closed := p.sub, p.env.ID, p.sub.closed
	p.mu.Unlock()
	if closed {
		p.setEnvironment(old, false, "ValueError: Pool not running")
		return nil
	}
	if err := p.tearDown(sub, teardown); err != nil {
		if p.ctx.Err() != nil {
			return p.ctx.Err()
		}
		p.setEnvironment(old, false, err.Error())
		return nil // and its process goes on
	}
	select {
	case <-sub.drained:
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	if err := p.pause(end); err != nil {
		return err
	}
	p.mu.Lock()
	revived := sub.revived
	p.mu.Unlock()
	if revived {
		<-p.ctx.Done()
		return p.ctx.Err()
	}
	sub.exit()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.env.ID, p.env.Initialized = old, false // what another reload said of errors stays
	return nil
}

func (p *process) tearDown(sub *subprocess, d time.Duration) error {
	return sub.run(theWorker, func(w *worker) error {
		if err := p.pause(d); err != nil {
			return err
		}
		if err := w.stop(); err != nil {
			return err
		}
		if err := w.publisher.close(); err != nil {
			return errNoBroker
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		sub.worker, sub.loaded, sub.revived = nil, false, false
		if !sub.closed && sub.queued == 0 {
			close(sub.drained)
		}
		sub.closed = true
		return nil
	})
}

// startAgain starts a process and has it load the environment, which takes d. A
// call that comes meanwhile waits for that.
func (p *process) startAgain(d time.Duration) error {
	id := newID()
	next := p.newSubprocess(p.server.whatIsBroken())
	p.mu.Lock()
	p.sub = next
	p.mu.Unlock()
	err := next.run(theConfig, func(*worker) error {
		if err := p.pause(d); err != nil {
			return err
		}
		return next.setUp()
	})
	switch {
	case p.ctx.Err() != nil:
		return p.ctx.Err()
	case err != nil:
		p.setEnvironment(id, false, err.Error())
	default:
		p.setEnvironment(id, true, "")
	}
	return nil
}
