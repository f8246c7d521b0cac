package sim

import (
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// A Run is one time that a plan really ran.
type Run struct {
	TaskID string
	Plan   string
	Params json.RawMessage
	// Began is when the run engine began, after any prelude.
	Began time.Time
	// Ended is zero while the plan runs.
	Ended time.Time
	// Killed says that the server, or its worker's process, ended before the plan.
	Killed bool
	// Aborted says that the plan was aborted or stopped.
	Aborted bool
}

type runs struct {
	mu       sync.Mutex
	log      []*Run
	recorded map[string]time.Time // by task
}

// record notes that the record of a task says now that it is over.
func (r *runs) record(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.recorded == nil {
		r.recorded = make(map[string]time.Time)
	}
	r.recorded[id] = time.Now()
}

// Recorded returns when the record of a task came to say that it is over, and the zero
// time if it never did. That can be later than the end of the run, and is said of plans too
// that could not begin: while the broker is away, to publish takes its time.
func (s *Server) Recorded(taskID string) time.Time {
	s.runs.mu.Lock()
	defer s.runs.mu.Unlock()
	return s.runs.recorded[taskID]
}

// begin notes that a run begins.
func (r *runs) begin(t *task) *Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := &Run{TaskID: t.id, Plan: t.plan.Name, Params: t.request.Params, Began: time.Now()}
	r.log = append(r.log, run)
	return run
}

// forget takes back what begin noted.
func (r *runs) forget(run *Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = slices.DeleteFunc(r.log, func(o *Run) bool { return o == run })
}

func (r *runs) end(run *Run, killed, aborted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.Ended, run.Killed, run.Aborted = time.Now(), killed, aborted && !killed
}

// Runs returns every run of every plan so far, in the order in which they began,
// those of earlier lives of the server included. It is the truth that a client's
// word is measured by.
func (s *Server) Runs() []Run {
	s.runs.mu.Lock()
	defer s.runs.mu.Unlock()
	list := make([]Run, len(s.runs.log))
	for i, r := range s.runs.log {
		list[i] = *r
	}
	return list
}
