package blueapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// UnnamedError tells that a connection was lost before the server had named the task of
// a run over it, so that it is not known which task is the run's, if any.
type UnnamedError struct {
	// Tasks are those that have appeared since the request was sent, and ask for the
	// same. The run's may be one of them, or may still be to come.
	Tasks []Task
	// Err is what became of the connection.
	Err error
}

// Unwrap returns what became of the connection.
func (e *UnnamedError) Unwrap() error { return e.Err }

func (e *UnnamedError) Error() string {
	var b strings.Builder
	b.WriteString("the server has not named its task; ")
	switch len(e.Tasks) {
	case 0:
		b.WriteString("none like it has appeared")
	case 1:
		t := e.Tasks[0]
		fmt.Fprintf(&b, "only task %s is like it and has appeared since, which %s: unless somebody else asked for the same, that is this run", t.ID, progress(t))
	default:
		fmt.Fprintf(&b, "%d tasks like it have appeared since, of which one may be this run:", len(e.Tasks))
		for i, t := range e.Tasks {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, " %s, which %s", t.ID, progress(t))
		}
	}
	fmt.Fprintf(&b, " (%v)", e.Err)
	return b.String()
}

// progress says how far a task is.
func progress(t Task) string {
	switch o := t.Outcome; {
	case t.IsPending:
		return "has not begun"
	case o == nil:
		return "has begun"
	case o.Kind == "error":
		return "has ended with " + o.Type
	default:
		return "has ended in " + o.Kind
	}
}

// errNoAnswer is why it is unclear what became of a request whose connection seems well.
var errNoAnswer = errors.New("the server did not answer")

// cause is why it is unclear what became of the request.
func (w *socketRun) cause() error {
	if w.lost == nil {
		return errNoAnswer
	}
	return w.lost
}

// settle finds out what became of a request that may have arrived, and that the server
// has not answered. It returns nil if the server names the task after all.
func (w *socketRun) settle(ctx context.Context) error {
	if refused, err := w.refused(ctx); refused {
		return err
	}
	r := w.run
	if t := r.trace; t.Looking != nil {
		t.Looking("", w.cause())
	}
	for last := ""; ; {
		asked := time.Now()
		tasks, err := w.alike(ctx)
		if err != nil {
			return err
		}
		// A server takes that long to begin a plan, or to say that it does not.
		late := asked.After(w.sentAt.Add(startLimit))
		switch {
		case len(tasks) == 1 && !tasks[0].IsPending:
			return w.watchUnnamed(ctx, tasks[0].ID)
		case len(tasks) == 1 && late && last == tasks[0].ID && w.events == nil:
			return w.withdraw(ctx, tasks[0].ID)
		case len(tasks) == 1:
			last = tasks[0].ID
		case len(tasks) > 1 && late:
			return w.unnamed(tasks)
		}
		// The request may still be on its way, through a proxy or a network that
		// was away. What is sent twice runs twice, so it is waited for.
		if late && asked.After(w.sentAt.Add(r.patience().patience)) {
			return w.unnamed(tasks)
		}
		if done, err := w.listen(ctx); done {
			return err
		}
	}
}

// listen waits for the time between two looks. It is done if the server has named the
// task meanwhile, or refused the run.
func (w *socketRun) listen(ctx context.Context) (done bool, err error) {
	for end := time.Now().Add(lookPause); ; {
		if err := w.hear(ctx, time.Until(end)); err != nil || w.run.begun {
			return true, err
		}
		if refused, err := w.refused(ctx); refused {
			return true, err
		}
		if !time.Now().Before(end) {
			return false, nil
		}
	}
}

// refused ends a run that the server has refused.
func (w *socketRun) refused(ctx context.Context) (bool, error) {
	refusal := w.refusal()
	if refusal == nil {
		return false, nil
	}
	r := w.run
	r.task, r.seen = "", nil
	if refusal.Status != http.StatusConflict {
		return true, r.end(NotStarted, Refused, refusal)
	}
	w.tidy(ctx)
	return true, r.end(NotStarted, Busy, refusal)
}

// tidy deletes the task that a busy server leaves behind, which will never start (1.21).
// It does so only if it is clear which one that is: the request was made a task, so if a
// single one waits that is like it, it is that one.
func (w *socketRun) tidy(ctx context.Context) {
	tasks, err := w.alike(ctx)
	if err != nil {
		return
	}
	var waiting []string
	for _, t := range tasks {
		if t.IsPending {
			waiting = append(waiting, t.ID)
		}
	}
	if len(waiting) != 1 || w.client.DeleteTask(ctx, waiting[0]) != nil {
		return
	}
	w.run.task = waiting[0]
	_ = w.run.record(ctx, Entry{Step: StepWithdrawn}) // the word is the same without
}

// alike lists the tasks that have appeared since the request was sent and ask for the
// same.
func (w *socketRun) alike(ctx context.Context) ([]Task, error) {
	r, c := w.run, w.client
	tasks, err := c.tasks(ctx, "", r.patience())
	if err != nil {
		return nil, r.end(Unknown, Silent, err)
	}
	env, err := c.environment(ctx, r.patience())
	switch {
	case err != nil:
		return nil, r.end(Unknown, Silent, err)
	case env.ID != r.env || r.ready && !env.Initialized:
		return nil, r.end(Unknown, EnvironmentChanged, w.cause())
	}
	var found []Task
	for _, t := range tasks {
		if !w.before[t.ID] && w.req.isAskedBy(t.Request) {
			found = append(found, t)
		}
	}
	return found, nil
}

// isAskedBy reports whether a task asks for the same. Numbers that are equal as floating
// point count as the same: better one task too many than one too few.
func (r TaskRequest) isAskedBy(t TaskSpec) bool {
	var metadata struct {
		Session string `json:"instrument_session"`
	}
	var wanted, given any
	return t.Name == r.Name && json.Unmarshal(t.Metadata, &metadata) == nil && metadata.Session == r.InstrumentSession &&
		json.Unmarshal(r.Params, &wanted) == nil && json.Unmarshal(t.Params, &given) == nil && reflect.DeepEqual(wanted, given)
}

// unnamed is the end of a run whose task is not known.
func (w *socketRun) unnamed(tasks []Task) error {
	return w.run.end(Unknown, Silent, &UnnamedError{tasks, w.cause()})
}

// watchUnnamed watches the only task that may be the run's, until it is over or the
// server names the run's.
func (w *socketRun) watchUnnamed(ctx context.Context, id string) error {
	r := w.run
	r.task = id
	for {
		s := r.look(ctx)
		if e, ok := errors.AsType[*RunError](s.err); ok {
			e.Started = false // it may be somebody else's
			return e
		}
		r.saw(s)
		r.begun = false
		if s.over {
			break
		}
		if done, err := w.listen(ctx); done {
			return err
		}
	}
	tasks, err := w.alike(ctx)
	if err != nil {
		tasks = []Task{*r.seen}
	}
	return w.unnamed(tasks)
}

// withdraw deletes the only task that may be the run's, which does not begin. The
// connection has ended, so that nothing else can come of the request.
func (w *socketRun) withdraw(ctx context.Context, id string) error {
	r := w.run
	r.task = id
	probe := *r
	probe.id = "" // nothing is to be recorded of a task that may be somebody else's
	s := &starter{client: w.client, req: w.req, run: &probe, putAt: w.sentAt, putErr: w.cause(), crashed: true}
	err := s.settle(ctx)
	if err == nil {
		return w.watchUnnamed(ctx, id)
	}
	e, ok := errors.AsType[*RunError](err)
	if !ok { // it was withdrawn, and there will be no other
		e = r.end(NotStarted, Withdrawn, w.cause())
	}
	e.Started = false
	if e.Word == NotStarted {
		_ = r.record(ctx, Entry{Step: StepWithdrawn}) // the word is the same without
	}
	return e
}
