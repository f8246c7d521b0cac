package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

const (
	// askLimit is how long after a caller asked the worker may be read, to have what the
	// caller meant: the first attempt is within, and none that was made again.
	askLimit = 250 * time.Millisecond
	// unreadLimit is how long a command is kept that the gateway cannot read, and bind to
	// a plan: as long as one that it has bound.
	unreadLimit = time.Second
	// sightLimit is how old what was seen of the worker may be when a caller asks, to
	// be what the caller has in mind.
	sightLimit = 10 * time.Second
)

// sighting is which task the worker was last seen to have, by anybody who asked through
// the gateway. The zero sighting is none.
type sighting struct {
	mu   sync.Mutex
	task string
	at   time.Time
}

func (s *sighting) saw(task string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.After(s.at) {
		s.task, s.at = task, at
	}
}

// before returns what was seen shortly before a time.
func (s *sighting) before(at time.Time) (task string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.task, s.task != "" && s.at.Before(at) && at.Sub(s.at) < sightLimit
}

// notice learns from what callers read.
func (g *Gateway) notice(c *caller, out outcome) {
	if out.status != http.StatusOK {
		return
	}
	g.hub.answered(c)
	switch c.route.name {
	case "GET /tasks/{id}":
		var task blueapi.Task
		id := g.aliases.real(c.route.id)
		_, doubt := g.starts.isUnsettled(id)
		if !doubt && !g.running.has(id) && !g.unended.has(id) || json.Unmarshal(out.body, &task) != nil {
			return
		}
		if doubt && !task.IsPending {
			g.starts.settled(task.ID)
		}
		if task.Outcome != nil { // a paused one is complete too
			g.running.over(task.ID, out.sent)
			if g.hub.unheard() { // otherwise it is over when those who listen were told
				g.unended.over(task.ID, task.End())
			}
		}
	case "GET /worker/state":
		var state blueapi.WorkerState
		if json.Unmarshal(out.body, &state) == nil && state == blueapi.StateIdle {
			g.running.over("", out.sent)
		}
	case "GET /worker/task":
		var current taskID
		if json.Unmarshal(out.body, &current) == nil && current.ID != nil {
			g.worker.saw(*current.ID, out.sent)
		}
	case "GET /environment":
		var env blueapi.Environment
		if json.Unmarshal(out.body, &env) != nil || env.ID == "" {
			return
		}
		if before, changed := g.aliases.seen(env.ID, out.sent); changed {
			g.starts.outlived(env.ID, before)
			g.running.over("", out.sent)
		}
	}
}

// commandOf reads what is to be done to the plan that runs. It is not ok if blueapi
// might read it in another way, or refuse it.
func commandOf(op operation) (cmd blueapi.Command, ok bool) {
	var fields map[string]json.RawMessage
	if !readJSON(op, &fields) {
		return cmd, false
	}
	for key, value := range fields {
		var err error
		switch key {
		case "new_state":
			var target blueapi.WorkerState
			err = json.Unmarshal(value, &target)
			for _, v := range []blueapi.Verb{blueapi.Pause, blueapi.Resume, blueapi.Abort, blueapi.Stop} {
				if v.Target() == target {
					cmd.Verb = v
				}
			}
		case "defer":
			if string(value) == "null" {
				return cmd, false
			}
			err = json.Unmarshal(value, &cmd.Defer)
		case "reason":
			err = json.Unmarshal(value, &cmd.Reason)
		default:
			return cmd, false
		}
		if err != nil {
			return cmd, false
		}
	}
	return cmd, cmd.Verb != 0
}

// setState has a control command carried out, on the plan that was active when the
// caller asked for it.
func (g *Gateway) setState(ctx context.Context, c *caller, op operation) reply {
	cmd, ok := commandOf(op)
	if !ok { // the server will refuse it; if not, it was sent but once, and at once
		op.latest = time.Now().Add(unreadLimit)
		out, err := g.sendOnce(ctx, op)
		if err != nil {
			return failed(err, retry.Once)
		}
		return out.reply
	}
	look := c.reading("GET /worker/task", "/worker/task")
	look.urgent = true
	seen, err := g.call(ctx, look)
	if err != nil {
		return notSent(err)
	}
	var current taskID
	switch {
	case seen.status != http.StatusOK:
		return seen.reply
	case json.Unmarshal(seen.body, &current) != nil:
		return strange(seen.header)
	case current.ID != nil:
		cmd.TaskID = *current.ID
	}
	now := cmd.TaskID
	if seen.sent.Sub(c.at) > askLimit {
		// The server was away when the caller asked: another plan may run by now.
		if c.nested { // and knows how to ask again
			return refuse(seen.header, http.StatusServiceUnavailable, "what the worker does was not known in time").with(retryhttp.HeaderVerdict, verdictNotSent)
		}
		if task, known := g.worker.before(c.at); known {
			cmd.TaskID = task
		} else if task, known := g.running.before(c.at); known {
			cmd.TaskID = task
		}
	}
	g.worker.saw(now, seen.sent)
	if cmd.TaskID == "" { // no plan had begun, and none that begins now is meant
		c.did(Guarded)
		return g.uncontrolled(seen.header, &blueapi.ControlError{Verb: cmd.Verb, Reason: blueapi.NotActive, From: blueapi.StateIdle})
	}
	result, err := g.client.Control(ctx, cmd)
	var answer reply
	if e, ok := errors.AsType[*blueapi.ControlError](err); ok {
		answer = g.uncontrolled(seen.header, e)
		if e.Sent == 0 {
			c.did(Guarded)
		}
	} else {
		answer = like(seen.header, http.StatusAccepted, result.State)
		if result.Effect == blueapi.Seen {
			c.did(Settled)
		}
	}
	if warning := g.warning(result); warning != "" {
		answer = answer.with(headerWarning, warning)
	}
	return answer
}

// warning is what is to be said about a command besides whether it had its effect.
func (g *Gateway) warning(r blueapi.ControlResult) string {
	switch {
	case r.Other != "":
		return "it may have reached the plan of task " + g.aliases.shown(r.Other) + " instead"
	case r.Unanswered > 0:
		return "a request that was not answered may still be on its way, and reach whatever plan runs then"
	case r.Effect == blueapi.Accepted && !r.Checked:
		return "it was not possible to check that it reached the plan that was active before"
	}
	return ""
}

// uncontrolled is the answer to a control command that had no effect, or none that is
// known.
func (g *Gateway) uncontrolled(seen http.Header, e *blueapi.ControlError) reply {
	text := g.aliases.text(e.Error())
	switch e.Reason {
	case blueapi.NotActive, blueapi.NotCurrent, blueapi.AlreadyOver, blueapi.EndedByOthers:
		return refuse(seen, http.StatusBadRequest, text) // the first in the server's own words
	case blueapi.Denied, blueapi.Rejected:
		if answer, ok := refusalOf(seen, e.Err); ok {
			return answer
		}
		return refuse(seen, http.StatusBadRequest, text)
	case blueapi.ResumeBroken:
		return refuse(seen, http.StatusInternalServerError, text)
	case blueapi.ControlUnreachable:
		return refuse(seen, http.StatusServiceUnavailable, text).with(retryhttp.HeaderVerdict, verdictNotSent).again()
	case blueapi.ControlSilent, blueapi.ControlInterrupted:
		if e.Sent == 0 {
			return refuse(seen, http.StatusServiceUnavailable, text).with(retryhttp.HeaderVerdict, verdictNotSent)
		}
	}
	return refuse(seen, http.StatusGatewayTimeout, text).with(retryhttp.HeaderVerdict, verdictUnknown).with("X-Should-Retry", "false")
}
