package sim

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// The server's own time limits.
const (
	startLimit = 5 * time.Second  // for a plan to start, from its PUT
	stopLimit  = 30 * time.Second // for a plan to end, from a reload
)

// closeTime is from the end of a plan, when the worker is idle again, to the end
// of its task. In between the real one too can be told to begin the task again.
const closeTime = time.Millisecond

// A worker keeps the tasks and runs their plans, one at a time. It is built as
// the real one is (blueapi.worker.TaskWorker): begin puts a task into a channel
// with room for one, and a thread takes it from there. Nothing in it keeps a
// task that is in the channel, or running, from being put there again: only the
// checks of its callers do, and they are made earlier.
type worker struct {
	p       *process
	ctx     context.Context // ends when its process does
	channel chan *task      // nil is the order to stop
	stopped chan struct{}

	mu       sync.Mutex
	pending  tasks
	complete tasks
	current  *task // the last one taken; stays when it has ended
	state    blueapi.WorkerState
	engine   *engine                 // of the current task, or nil
	begins   map[chan struct{}]*task // who waits for an event of which task
	pipes    map[*pipe]bool          // WebSockets that want its events
	errors   []string                // that no event has told yet
	scans    int                     // how many runs were opened
	files    int                     // how many the detector has begun
	stage    struct{ x, y motor }

	publisher *publisher
	born      time.Time
	own       string // its trace, when it is nobody else's
}

type task struct {
	id       string
	request  blueapi.TaskSpec
	plan     *Plan
	args     Args
	complete bool
	pending  bool
	errors   []string
	outcome  any // nil, *success or *failure
	trace    string
}

// A record is a task on the wire.
type record struct {
	blueapi.Task
	Outcome any `json:"outcome"` // in the place of Task's, which leaves out empty members
}

type success struct {
	Kind   string          `json:"outcome"`
	Result json.RawMessage `json:"result"`
	Type   string          `json:"type"`
}

type failure struct {
	Kind    string `json:"outcome"`
	Type    string `json:"type"`
	Message string `json:"message"`
}

// tasks is a map that knows the order of insertion.
type tasks struct {
	byID  map[string]*task
	order []*task
}

func (ts *tasks) put(t *task) {
	if ts.byID == nil {
		ts.byID = make(map[string]*task)
	}
	if ts.byID[t.id] == nil {
		ts.order = append(ts.order, t)
	}
	ts.byID[t.id] = t
}

func (ts *tasks) take(id string) *task {
	t := ts.byID[id]
	if t == nil {
		return nil
	}
	delete(ts.byID, id)
	for i, o := range ts.order {
		if o == t {
			ts.order = append(ts.order[:i:i], ts.order[i+1:]...)
			break
		}
	}
	return t
}

func (p *process) newWorker(ctx context.Context) *worker {
	w := &worker{
		p:       p,
		ctx:     ctx,
		channel: make(chan *task, 1),
		stopped: make(chan struct{}),
		state:   blueapi.StateIdle,
		begins:  make(map[chan struct{}]*task),
		pipes:   make(map[*pipe]bool),
		born:    time.Now(),
		own:     randomHex(16),
	}
	w.stage.x = motor{name: "stage-x", at: w.born}
	w.stage.y = motor{name: "stage-y", at: w.born}
	w.publisher = newPublisher(ctx, p.server)
	p.server.wait.Go(w.run)
	return w
}

// run is the thread of the run engine.
func (w *worker) run() {
	defer close(w.stopped)
	for {
		select {
		case t := <-w.channel:
			if t == nil {
				w.leave()
				return
			}
			w.cycle(t)
		case <-w.ctx.Done():
			return
		}
	}
}

// leave publishes the state once more, if the worker has had no task at all. With one,
// the real worker's thread dies of a KeyError before it comes to that.
func (w *worker) leave() {
	w.mu.Lock()
	current, e := w.current, w.status(w.own)
	w.mu.Unlock()
	if current == nil {
		_ = w.publish(e) // of a failure nothing would be told
	}
}

func (w *worker) cycle(t *task) {
	w.mu.Lock()
	w.current = t
	t.pending = false
	w.mu.Unlock()

	outcome := w.execute(t)
	if w.ctx.Err() != nil {
		return
	}

	w.mu.Lock()
	t.outcome = outcome
	if f, ok := outcome.(*failure); ok {
		w.report(f.Message)
	}
	t.complete = true
	if w.pending.take(t.id) == nil {
		// It was deleted meanwhile, or ran twice: a KeyError, in Python's words,
		// and no event says that it has ended.
		w.report("'" + t.id + "'")
		w.mu.Unlock()
		return
	}
	w.complete.put(t)
	w.p.server.runs.record(t.id)
	e := w.status(w.own)
	w.mu.Unlock()

	err := w.publish(e)

	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.report(err.Error())
		return // and the next events tell the errors
	}
	w.errors = nil
}

// execute makes the plan, which may take long, and then has the run engine run it,
// until it is over or paused.
func (w *worker) execute(t *task) any {
	if t.plan.Prelude != nil {
		if err := t.plan.Prelude(w.ctx, t.args); err != nil {
			return failed(err)
		}
	}
	if w.ctx.Err() != nil {
		return failed(w.ctx.Err())
	}
	if s := w.workerState(); s != blueapi.StateIdle { // the plan before it is paused
		return failed(&PlanError{"RuntimeError", "The RunEngine is in a " + strings.ToLower(string(s)) + " state"})
	}
	e := w.newEngine(t)
	<-e.back
	_ = sleep(w.ctx, closeTime)
	result, err := e.outcome()
	if err != nil {
		return failed(err)
	}
	return succeeded(result)
}

// begin triggers a pending task and waits until something is heard of it.
// Its events belong to a trace, if one is given.
func (w *worker) begin(id, trace string) error {
	w.mu.Lock()
	t := w.pending.byID[id]
	if t == nil {
		w.mu.Unlock()
		return errNotFound
	}
	if w.state != blueapi.StateIdle {
		w.mu.Unlock()
		return errBusy
	}
	if t.complete {
		w.mu.Unlock()
		return errInternal
	}
	t.trace = trace
	begun := make(chan struct{})
	w.begins[begun] = t
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.begins, begun)
	}()
	select {
	case w.channel <- t:
	default:
		return errBusy
	}
	ctx, cancel := context.WithTimeout(w.ctx, startLimit)
	defer cancel()
	select {
	case <-begun:
		return nil
	case <-ctx.Done():
		return errInternal // and the task stays where it is
	}
}

// stop waits for the plan to end, but not for ever: then it goes on unseen.
func (w *worker) stop() error {
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case w.channel <- nil:
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
	select {
	case <-w.stopped:
		return w.ctx.Err()
	case <-limit.C:
		return errors.New("TimeoutError: Worker did not stop within 30.0 seconds")
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

func (w *worker) submit(plan *Plan, args Args, request blueapi.TaskRequest, user json.RawMessage) string {
	id := newID()
	metadata := append(append([]byte(`{"user":`), user...), `,"instrument_session":`...)
	metadata = append(metadata, appendString(nil, request.InstrumentSession)...)
	metadata = append(append(metadata, `,"blueapi_task_id":`...), appendString(nil, id)...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending.put(&task{
		id: id, plan: plan, args: args, pending: true,
		request: blueapi.TaskSpec{Name: plan.Name, Params: request.Params, Metadata: append(metadata, '}')},
	})
	return id
}

func (w *worker) task(id string) (record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.pending.byID[id]
	if t == nil {
		t = w.complete.byID[id]
	}
	if t == nil {
		return record{}, errNotFound
	}
	return t.record(), nil
}

func (w *worker) clear(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending.take(id) == nil && w.complete.take(id) == nil {
		return errNotFound
	}
	return nil
}

// active is the task that the worker has or had last, and whether it has ended.
func (w *worker) active() (id string, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil {
		return "", true
	}
	return w.current.id, w.current.complete
}

func (w *worker) list(status blueapi.TaskStatus) []record {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := []record{}
	for _, t := range w.pending.order {
		switch status {
		case blueapi.TaskComplete, blueapi.TaskError:
			continue
		case blueapi.TaskPending:
			if !t.pending {
				continue
			}
		case blueapi.TaskRunning:
			if t.pending || t.complete {
				continue
			}
		}
		found = append(found, t.record())
	}
	if status == "" || status == blueapi.TaskComplete {
		for _, t := range w.complete.order {
			found = append(found, t.record())
		}
	}
	return found
}

// trace is that of the request that began the current task, with the worker locked.
func (w *worker) trace() string {
	if w.current != nil && w.current.trace != "" {
		return w.current.trace
	}
	return w.p.trace
}

func (w *worker) workerState() blueapi.WorkerState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (t *task) record() record {
	return record{Outcome: t.outcome, Task: blueapi.Task{
		ID: t.id, Request: t.request, IsComplete: t.complete, IsPending: t.pending, Errors: append([]string{}, t.errors...),
	}}
}

func succeeded(result any) *success {
	raw, kind := pythonResult(result)
	return &success{"success", raw, kind}
}

func failed(err error) *failure {
	if e, ok := errors.AsType[*PlanError](err); ok {
		return &failure{"error", e.Type, e.Message}
	}
	return &failure{"error", "RuntimeError", err.Error()}
}

// pythonResult writes what a plan returned, and names its type, as Python would.
func pythonResult(result any) (json.RawMessage, string) {
	b, err := json.Marshal(result)
	if err != nil {
		return json.RawMessage("null"), "Opaque"
	}
	v, bad := parse(string(b))
	if bad != nil {
		return json.RawMessage("null"), "Opaque"
	}
	switch f := result.(type) {
	case float64:
		return json.RawMessage(pythonFloat(f)), "float"
	case float32:
		return json.RawMessage(pythonFloat(float64(f))), "float"
	}
	names := [...]string{null: "NoneType", boolean: "bool", integer: "int", float: "float", text: "str", list: "list", object: "dict"}
	return v.raw(), names[v.kind]
}
