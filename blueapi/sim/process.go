package sim

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
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
	trace  string // of all requests that bring none of their own

	mu       sync.Mutex
	frozen   chan struct{} // not nil while frozen; closed by the thaw
	env      blueapi.Environment
	sub      *subprocess
	sessions map[*session]bool // WebSockets
	ending   bool              // it is to end, and takes no more sessions
}

var (
	errNotFound = errors.New("not found")
	errInternal = errors.New("internal server error")
)

func (s *Server) newProcess(broken string) *process {
	p := &process{server: s, trace: randomHex(16)}
	p.ctx, p.kill = context.WithCancel(context.Background())
	p.sub = p.newSubprocess(broken)
	p.env = blueapi.Environment{ID: newID(), Initialized: true}
	if err := p.sub.setUp(); err != nil {
		p.setEnvironment(p.env.ID, false, err.Error())
	}
	return p
}

// newID makes a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
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

// loseBroker has the worker notice that the broker is away.
func (p *process) loseBroker() {
	p.mu.Lock()
	w := p.sub.worker
	p.mu.Unlock()
	if w != nil {
		w.publisher.drop()
	}
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
