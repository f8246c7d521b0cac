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
	mu  sync.Mutex
	log []Run
}

// begin notes that a run begins, and returns how to note that it has ended.
func (r *runs) begin(t *task) (ended func(killed, aborted bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := len(r.log)
	r.log = append(r.log, Run{TaskID: t.id, Plan: t.plan.Name, Params: t.request.Params, Began: time.Now()})
	return func(killed, aborted bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.log[i].Ended, r.log[i].Killed, r.log[i].Aborted = time.Now(), killed, aborted && !killed
	}
}

// Runs returns every run of every plan so far, in the order in which they began,
// those of earlier lives of the server included. It is the truth that a client's
// word is measured by.
func (s *Server) Runs() []Run {
	s.runs.mu.Lock()
	defer s.runs.mu.Unlock()
	return slices.Clone(s.runs.log)
}
