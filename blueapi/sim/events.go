package sim

import (
	"fmt"
	"strings"

	"github.com/adamant-go/adamant/blueapi"
)

// An event is what a worker tells of itself, for the broker and for WebSockets.
type event struct {
	task string // that it is about; empty if there is none
	// loose says that the broker is not told which task it is about, as with
	// documents.
	loose bool
	trace string
	body  wired
}

// A wired body is JSON on the wire, and in Python's words in the text of an error.
type wired interface {
	wire() []byte
	python() string
}

type workerEvent struct {
	State    blueapi.WorkerState `json:"state"`
	Task     *taskStatus         `json:"task_status"`
	Errors   []string            `json:"errors"`
	Warnings []string            `json:"warnings"`
}

type taskStatus struct {
	ID       string `json:"task_id"`
	Result   any    `json:"result"`
	Complete bool   `json:"task_complete"`
	Failed   bool   `json:"task_failed"`
}

func (e *workerEvent) wire() []byte { return marshal(e) }

func (e *workerEvent) python() string {
	status := "None"
	if t := e.Task; t != nil {
		result := "None"
		switch r := t.Result.(type) {
		case *failure:
			result = "TaskError(outcome='error', type=" + pythonRepr(r.Type) + ", message=" + pythonRepr(r.Message) + ")"
		case *success:
			v, _ := parse(string(r.Result))
			result = "TaskResult(outcome='success', result=" + v.python() + ", type=" + pythonRepr(r.Type) + ")"
		}
		status = "TaskStatus(task_id=" + pythonRepr(t.ID) + ", result=" + result +
			", task_complete=" + pythonBool(t.Complete) + ", task_failed=" + pythonBool(t.Failed) + ")"
	}
	return fmt.Sprintf("state=<WorkerState.%s: '%[1]s'> task_status=%s errors=%s warnings=[]", e.State, status, pythonList(e.Errors))
}

// maxErrors bounds what a worker keeps of errors that are still to be told, in
// bytes. The real one keeps them all: without a broker they grow fivefold with
// each plan.
const maxErrors = 64 << 10

// report notes an error of the task and of the worker, with the worker locked.
func (w *worker) report(text string) {
	if w.current != nil {
		w.current.errors = append(w.current.errors, text)
	}
	size := len(text)
	for _, e := range w.errors {
		size += len(e)
	}
	if size <= maxErrors {
		w.errors = append(w.errors, text)
	}
}

// status is the event that tells the worker's state, with the worker locked.
func (w *worker) status(trace string) event {
	body := &workerEvent{State: w.state, Errors: append([]string{}, w.errors...), Warnings: []string{}}
	e := event{trace: trace, body: body}
	if t := w.current; t != nil {
		e.task = t.id
		body.Task = &taskStatus{ID: t.id, Result: t.outcome, Complete: t.complete, Failed: len(t.errors) > 0}
	}
	return e
}

// setState changes the state and tells of it. That nobody may have heard of it is
// an error, and the state is changed all the same.
func (w *worker) setState(s blueapi.WorkerState) error {
	w.mu.Lock()
	w.state = s
	e := w.status(w.trace())
	w.mu.Unlock()
	return w.publish(e)
}

// publish hands an event to all who want it, in the order in which they came: the
// broker, whoever waits for the start of a task, and WebSockets. A dead worker
// tells nothing.
func (w *worker) publish(e event) error {
	if isClosed(w.ctx.Done()) {
		return nil
	}
	failures := w.publisher.publish(e)
	w.mu.Lock()
	if _, ok := e.body.(*workerEvent); ok {
		for ch, t := range w.begins {
			if t.id == e.task {
				close(ch)
				delete(w.begins, ch)
			}
		}
	}
	for p := range w.pipes {
		p.put(e)
	}
	w.mu.Unlock()
	if failures == 0 {
		return nil
	}
	exceptions := "s"
	if failures == 1 {
		exceptions = ""
	}
	return &PlanError{"ExceptionGroup", fmt.Sprintf("Error(s) publishing event: %s (%d sub-exception%s)", e.body.python(), failures, exceptions)}
}

// traceOf is the trace that a request belongs to, if it says so: version, trace,
// span and flags, in hexadecimal digits.
func traceOf(x *Exchange) string {
	parts := strings.Split(x.Header.Get("Traceparent"), "-")
	if len(parts) != 4 || len(parts[1]) != 32 {
		return ""
	}
	return parts[1]
}

// python is the value as Python's repr has it.
func (v value) python() string {
	switch v.kind {
	case null:
		return "None"
	case boolean:
		return pythonBool(v.text == "true")
	case text:
		return pythonRepr(v.text)
	case list:
		items := make([]string, len(v.items))
		for i, item := range v.items {
			items[i] = item.python()
		}
		return "[" + strings.Join(items, ", ") + "]"
	case object:
		members := make([]string, len(v.members))
		for i, m := range v.members {
			members[i] = pythonRepr(m.name) + ": " + m.value.python()
		}
		return "{" + strings.Join(members, ", ") + "}"
	}
	return v.text
}

func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func pythonList(texts []string) string {
	items := make([]string, len(texts))
	for i, t := range texts {
		items[i] = pythonRepr(t)
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// pythonRepr writes a text as Python does: in single quotes, or in double ones if
// there are single quotes in it and no double ones.
func pythonRepr(s string) string {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteRune(quote)
	return b.String()
}
