package blueapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"github.com/adamant-go/adamant/retry"
)

const (
	// maxTasks is how many tasks one run makes at most, one after another was
	// withdrawn.
	maxTasks = 5
	// maxStarts is how often the start of one task is tried, if nothing was
	// sent.
	maxStarts = retry.DefaultAttempts
	// runPatience is how long a run waits for a server that is away once the
	// request to start the plan was sent: then giving up costs more than
	// waiting.
	runPatience = time.Minute
	// lookPause is the least time between two looks at a task that has not
	// begun.
	lookPause = time.Second
	// startLimit is how long the server itself waits for a plan to start (5 s),
	// and a second more. Before that a task that has not begun may be about to.
	startLimit = 6 * time.Second
)

// RunTrace observes runs. Any function may be nil; they are called from the
// goroutine of the run.
type RunTrace struct {
	// Submitted: a task was stored.
	Submitted func(taskID string)
	// Starting: the request to start the task is about to be sent.
	Starting func(taskID string)
	// NotSent: not one byte of that request was sent. It may be tried again.
	NotSent func(taskID string)
	// Looking: it is unclear whether the request arrived, because of err; the
	// task is watched.
	Looking func(taskID string, err error)
	// Withdrawing: the task is being deleted so that it can never start.
	Withdrawing func(taskID string, err error)
	// Started: the server has taken the task.
	Started func(taskID string)
	// Watched: the task's record was read while the plan runs.
	Watched func(t Task)
	// Paused: the plan was paused by somebody; that is not its end.
	Paused func(taskID string)
	// Resumed: the plan that was paused goes on.
	Resumed func(taskID string)
	// Event: an event of the run's task, in order, or a gap in them. Documents whose
	// task an older server does not name are here too.
	Event func(e Event)
	// Blind: the broker has not confirmed the subscription in three seconds, or in half
	// of the caller's time, or refuses it. The run goes on by polling; events come when
	// the broker is back, unless it refused.
	Blind func(err error)
}

// or returns the trace, or one that observes nothing.
func (t *RunTrace) or() *RunTrace {
	if t == nil {
		return new(RunTrace)
	}
	return t
}

// Run is a plan that was started. Its methods must not be called concurrently.
type Run struct {
	client *Client
	broker *Broker   // of its events; nil means none
	trace  *RunTrace // never nil
	id     string    // of the run, for the journal
	plan   string
	task   string
	env    string
	ready  bool // it was initialised: without a broker a server never says so
	// seen is the task's record as last read; nil if it was not.
	seen   *Task
	begun  bool // the server has taken the task
	events stream
	paused bool // at the moment
	// interrupted says that it has been paused, after which no record is to be believed.
	interrupted bool
	endedBy     Verb    // as events told
	result      *Result // once it has ended
}

// TaskID is the task that the server runs.
func (r *Run) TaskID() string { return r.task }

// Run runs a plan, at most once, and waits for its end. The Result's Word is
// always set. The error is nil if the plan has ended, however it did; otherwise
// it is a [*RunError] that says whether it is safe to run the plan again.
//
// Once the request to start the plan was sent, Run waits for a server that is
// away for a minute, or Client.Wait if that is longer, each time that it is.
// Cancelling ctx ends the waiting, not the plan.
func (c *Client) Run(ctx context.Context, req TaskRequest) (Result, error) {
	r, err := c.Start(ctx, req)
	if err != nil {
		e, _ := errors.AsType[*RunError](err)
		return e.Result, err
	}
	defer r.Close()
	return r.Wait(ctx)
}

// Start starts a plan, at most once, and returns when the server has taken it.
// The error is a [*RunError] as of Run. The run must be closed.
//
// A task is put on the wire in at most one request to start it: the server may
// run it twice otherwise (measured on 1.21.1). If it stays unclear whether that
// request arrived, the task is deleted, which the server allows only before it
// begins, and then a new one is made.
func (c *Client) Start(ctx context.Context, req TaskRequest) (*Run, error) {
	return c.startRun(ctx, req, newRun(c, req.Name))
}

// StartApart is Start with a broker and a trace for this run alone, in the place of the
// client's: for a program that has plans run for several people. Either may be nil.
func (c *Client) StartApart(ctx context.Context, req TaskRequest, b *Broker, t *RunTrace) (*Run, error) {
	r := newRun(c, req.Name)
	r.broker, r.trace = b, t.or()
	return c.startRun(ctx, req, r)
}

func (c *Client) startRun(ctx context.Context, req TaskRequest, r *Run) (run *Run, err error) {
	s := &starter{client: c, req: req, run: r}
	defer s.run.closeUnless(&run)
	err = s.start(ctx)
	if err == nil {
		return s.run, nil
	}
	if e, ok := errors.AsType[*RunError](err); ok {
		_ = s.run.record(ctx, Entry{Step: StepEnded, Result: &e.Result}) // the word is the same without
	}
	return nil, err
}

// StartTask starts a task that was stored before, at most once, and returns when the
// server has taken it: Start from its second half on, for those who submit by
// themselves. It makes no other task; if the request to start this one was lost, it is
// deleted, and the error says Withdrawn. The run must be closed. The error is that of
// Task if there is no such task, and otherwise a [*RunError] as of Run.
func (c *Client) StartTask(ctx context.Context, id string) (run *Run, err error) {
	s := &starter{client: c, run: newRun(c, "")}
	s.run.task = id
	defer s.run.closeUnless(&run)
	err = s.startStored(ctx)
	if errors.Is(err, errAgain) {
		err = s.run.end(NotStarted, Withdrawn, s.putErr)
	}
	if err == nil {
		return s.run, nil
	}
	if e, ok := errors.AsType[*RunError](err); ok {
		_ = s.run.record(ctx, Entry{Step: StepEnded, Result: &e.Result}) // the word is the same without
	}
	return nil, err
}

// closeUnless closes the run unless it was returned, also if a function of the trace
// panics.
func (r *Run) closeUnless(returned **Run) {
	if *returned == nil {
		r.Close()
	}
}

func (s *starter) startStored(ctx context.Context) error {
	r := s.run
	env, err := s.client.Environment(ctx)
	if err != nil {
		return s.notStarted(ctx, err)
	}
	r.env, r.ready = env.ID, env.Initialized
	task, err := s.client.Task(ctx, r.task)
	switch {
	case isNotFound(err):
		return err
	case err != nil:
		return s.notStarted(ctx, err)
	}
	r.plan = task.Request.Name
	s.req = TaskRequest{Name: r.plan, Params: task.Request.Params}
	if err := r.record(ctx, Entry{Step: StepIntent, Request: &s.req}); err != nil {
		return r.end(NotStarted, JournalFailed, err)
	}
	r.events.open(ctx, r.broker)
	if !task.IsPending { // somebody else started it
		r.events.late = true
		return r.started(ctx)
	}
	r.events.ready(ctx, r.trace)
	return s.put(ctx)
}

func newRun(c *Client, plan string) *Run {
	return &Run{client: c, broker: c.Broker, trace: c.RunTrace.or(), id: newRunID(), plan: plan}
}

func newRunID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// record writes to the journal, if there is one. It does so even if ctx has
// ended, for what has happened has happened.
func (r *Run) record(ctx context.Context, e Entry) error {
	if r.client.Journal == nil || r.id == "" {
		return nil
	}
	e.RunID, e.At = r.id, time.Now()
	if e.Step > StepIntent {
		e.TaskID, e.EnvironmentID = r.task, r.env
	}
	return r.client.Journal.Record(context.WithoutCancel(ctx), e)
}

// end makes the error of a run that did not come to a known end.
func (r *Run) end(w Word, why Reason, err error) *RunError {
	return &RunError{Result: Result{Word: w, Reason: why, TaskID: r.task, Task: r.seen, Started: r.begun}, Plan: r.plan, Err: err}
}

// starter takes the steps from the intent to a plan that runs.
type starter struct {
	client *Client
	req    TaskRequest
	run    *Run

	putAt  time.Time
	putErr error // why it is unclear whether the request arrived
	// crashed says that it was sent by somebody who did not wait for the answer.
	crashed bool
	// queuedAt is since when another task has been in the worker's hand.
	queuedAt time.Time
}

// errRestless tells that no task lived long enough to be started.
var errRestless = errors.New("the server was restarted or reloaded each time that a task was stored")

// errAgain tells that the task was withdrawn, or was never sent, and that a new
// one may be made.
var errAgain = errors.New("blueapi: make a new task")

func (s *starter) start(ctx context.Context) error {
	r := s.run
	if err := r.record(ctx, Entry{Step: StepIntent, Request: &s.req}); err != nil {
		return r.end(NotStarted, JournalFailed, err)
	}
	r.events.open(ctx, r.broker)
	env, err := s.client.Environment(ctx)
	if err != nil {
		return s.notStarted(ctx, err)
	}
	r.env, r.ready = env.ID, env.Initialized
	r.events.ready(ctx, r.trace)
	tasks := maxTasks
	if retry.Nested(ctx) {
		tasks = 1 // the caller makes the others
	}
	for range tasks {
		if err := s.submit(ctx); err != nil {
			return err
		}
		err := s.put(ctx)
		if !errors.Is(err, errAgain) {
			return err
		}
	}
	return r.end(NotStarted, Withdrawn, s.putErr)
}

// submit stores a task in an environment whose id is known.
func (s *starter) submit(ctx context.Context) error {
	r := s.run
	for n := 1; ; n++ {
		id, err := s.client.SubmitTask(ctx, s.req)
		if err != nil {
			return s.notStarted(ctx, err)
		}
		env, err := s.client.Environment(ctx)
		if err != nil {
			return s.notStarted(ctx, err)
		}
		r.task = id
		same := env.ID == r.env
		r.env, r.ready = env.ID, env.Initialized
		if !same && n == maxTasks {
			return r.end(NotStarted, Unreachable, errRestless)
		}
		if same {
			if t := r.trace; t.Submitted != nil {
				t.Submitted(id)
			}
			return nil
		}
	}
}

// notStarted is the end of a run that failed before anything was sent that can
// start a plan.
func (s *starter) notStarted(ctx context.Context, err error) error {
	why := Unreachable
	switch {
	case endedByCaller(ctx, err):
		why = Interrupted
	case refusalOf(err) != nil && statusOf(err) < http.StatusInternalServerError:
		why = Refused
	}
	return s.run.end(NotStarted, why, err)
}

// put sends the request to start the task, and finds out what came of it. It
// returns nil if the plan was started.
func (s *starter) put(ctx context.Context) error {
	r, c := s.run, s.client
	for n := 1; ; n++ {
		if ctx.Err() != nil {
			return r.end(NotStarted, Interrupted, ctx.Err())
		}
		if err := r.record(ctx, Entry{Step: StepStarting}); errors.Is(err, ErrOtherStart) {
			return r.end(NotStarted, OtherStart, err)
		} else if err != nil {
			_ = c.DeleteTask(ctx, r.task)
			return r.end(NotStarted, JournalFailed, err)
		}
		if t := r.trace; t.Starting != nil {
			t.Starting(r.task)
		}
		err := s.putOnce(ctx)
		tries, _ := errors.AsType[*retry.Error](err)
		switch {
		case err == nil:
			return r.started(ctx)
		case tries == nil || tries.Sent:
			s.putErr = err
			return s.settle(ctx)
		}
		// Not one byte was written, so that no request to start this task has
		// ever been sent.
		if err := r.record(ctx, Entry{Step: StepNotSent}); err != nil {
			return r.end(NotStarted, JournalFailed, err)
		}
		if t := r.trace; t.NotSent != nil {
			t.NotSent(r.task)
		}
		if n == maxStarts || ctx.Err() != nil {
			return s.notStarted(ctx, err)
		}
		// Connections that exist may go on while new ones are refused, so that
		// the reads below need not wait for the outage to end.
		if err := sleep(ctx, retry.Backoff{}.Delay(n-1, mathrand.Float64())); err != nil {
			return s.notStarted(ctx, err)
		}
		env, err := c.Environment(ctx)
		if err != nil {
			return s.notStarted(ctx, err)
		}
		if env.ID != r.env {
			r.env, r.ready = env.ID, env.Initialized
			return errAgain
		}
		task, err := c.Task(ctx, r.task)
		switch {
		case isNotFound(err):
			return errAgain
		case err != nil:
			return s.notStarted(ctx, err)
		case !task.IsPending:
			return r.started(ctx) // somebody else started it
		}
	}
}

// settle finds out what became of a request to start the task that may have
// arrived, and of which it is not known what it did.
func (s *starter) settle(ctx context.Context) error {
	err := s.lookOrWithdraw(ctx)
	if e, ok := errors.AsType[*RunError](err); ok {
		e.blameCaller(ctx)
	}
	return err
}

// blameCaller makes the reason Abandoned if the server could not be asked because it was
// the caller who ended that.
func (e *RunError) blameCaller(ctx context.Context) {
	if e.Reason == Silent && endedByCaller(ctx, e.Err) {
		e.Reason = Abandoned
	}
}

// endedByCaller reports whether it was the caller who ended a call, by cancelling
// or by a deadline that left no time for another attempt.
func endedByCaller(ctx context.Context, err error) bool {
	tries, ok := errors.AsType[*retry.Error](err)
	return ctx.Err() != nil || ok && (tries.Reason == retry.Deadline || tries.Reason == retry.Cancelled)
}

// refused reports whether the application itself said that it does not start the
// task, so that it has not put it into its worker's queue.
func (s *starter) refused() bool {
	status := statusOf(s.putErr)
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError
}

func (s *starter) lookOrWithdraw(ctx context.Context) error {
	fence := s.refused()
	for {
		if !fence {
			pending, err := s.look(ctx)
			if err != nil {
				return err
			}
			if !pending {
				return s.run.started(ctx)
			}
		}
		again, err := s.withdraw(ctx)
		if !again {
			return err
		}
		fence = false
	}
}

func (r *Run) started(ctx context.Context) error {
	r.begun = true
	if t := r.trace; t.Started != nil {
		t.Started(r.task)
	}
	// The plan runs: a journal that fails now must not make us forget it.
	_ = r.record(ctx, Entry{Step: StepStarted})
	return nil
}
