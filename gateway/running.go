package gateway

import (
	"slices"
	"sync"
	"time"
)

// Running is a plan that goes on, for all that callers' requests have shown.
type Running struct {
	// Task is the id that callers know.
	Task string `json:"task"`
	// Since is when the server was known to have taken it.
	Since time.Time `json:"since"`
}

// running are the plans that were started through the gateway and were not seen to have
// ended. The zero running is empty.
type running struct {
	mu    sync.Mutex
	tasks []Running // under their ids at the server
}

// began notes a plan that was started. The server runs one at a time: those before it
// have ended.
func (r *running) began(id string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.tasks, func(t Running) bool { return t.Task == id }) {
		r.tasks = []Running{{Task: id, Since: at}}
	}
}

func (r *running) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.tasks, func(t Running) bool { return t.Task == id })
}

// before returns the plan that went on at a time, for all that was known then.
func (r *running) before(at time.Time) (id string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tasks {
		if t.Since.Before(at) {
			return t.Task, true
		}
	}
	return "", false
}

// over notes that a plan has ended by a time at which the server was asked; "" means
// that none went on then.
func (r *running) over(id string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tasks = slices.DeleteFunc(r.tasks, func(t Running) bool {
		return (id == "" || id == t.Task) && t.Since.Before(at)
	})
}

func (r *running) list(names *aliases) []Running {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := []Running{}
	for _, t := range r.tasks {
		all = append(all, Running{Task: names.shown(t.Task), Since: t.Since})
	}
	return all
}
