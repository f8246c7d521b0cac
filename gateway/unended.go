package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

const (
	// keepEndAfter is how long after it was told an end is kept: if the gateway is killed
	// by then, those who listened may not have got it, and the next one tells it again.
	keepEndAfter = time.Second
	// maxUnended is how many runs are remembered whose end was not heard of.
	maxUnended = 1000
)

// unended are the runs whose plan was started through this gateway, or the one before
// it, and whose end was not kept. The zero unended is empty.
type unended struct {
	gateway *Gateway

	mu   sync.Mutex
	runs map[string]begunRun // by the task's id at the server
}

type begunRun struct {
	blueapi.Attachment
	before bool // an earlier gateway has started it
	mine   bool // its end is kept here; otherwise a session sees to that, or it was
}

// remember takes over what an earlier gateway left.
func (u *unended) remember(g *Gateway, begun []blueapi.Attachment) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gateway, u.runs = g, make(map[string]begunRun)
	for _, a := range begun {
		u.runs[a.TaskID] = begunRun{a, true, true}
	}
}

// keeper is the journal, as the gateway's client has it; nil if there is none.
func (g *Gateway) keeper() blueapi.Journal {
	if g.Journal == nil {
		return nil
	}
	return &g.unended
}

// Record keeps an entry, and learns from it which run a task is of.
func (u *unended) Record(ctx context.Context, e blueapi.Entry) error {
	if err := u.gateway.Journal.Record(ctx, e); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch e.Step {
	case blueapi.StepStarted:
		if len(u.runs) >= maxUnended {
			clear(u.runs) // the server runs one at a time: these are over
		}
		u.runs[e.TaskID] = begunRun{Attachment: blueapi.Attachment{RunID: e.RunID, TaskID: e.TaskID, EnvironmentID: e.EnvironmentID}}
	case blueapi.StepEnded:
		delete(u.runs, e.TaskID)
	case blueapi.StepIntent, blueapi.StepStarting, blueapi.StepNotSent, blueapi.StepWithdrawn:
	}
	return nil
}

// began tells that a task was started, and that its caller waits for the end by itself.
func (u *unended) began(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r, ok := u.runs[id]; ok {
		r.mine = true
		u.runs[id] = r
	}
}

// over keeps the end of a task, if nobody has.
func (u *unended) over(id string, result blueapi.Result) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r, ok := u.runs[id]
	if !ok || !r.mine {
		return
	}
	if r.mine = false; r.before {
		u.runs[id] = r // who comes back may still wait for it
	} else {
		delete(u.runs, id)
	}
	g := u.gateway
	if g.Journal == nil || r.RunID == "" {
		return
	}
	e := blueapi.Entry{
		RunID: r.RunID, Step: blueapi.StepEnded, At: time.Now(), TaskID: r.TaskID, EnvironmentID: r.EnvironmentID, Result: &result,
	}
	g.goOn(func() {
		sleep(g.life, keepEndAfter)
		_ = g.Journal.Record(context.WithoutCancel(g.life), e) // it has ended either way
	})
}

// has reports whether the end of a task is still to be kept.
func (u *unended) has(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.runs[id].mine
}

// isBefore reports whether an earlier gateway has started a task, and has not kept its
// end.
func (u *unended) isBefore(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.runs[id].before
}
