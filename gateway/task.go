package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// maxTasks is how many tasks are made at most in place of one whose start got lost, as
// for a run of blueapi's client.
const maxTasks = 5

// othersPause is the time between two looks at what another gateway does about a start.
const othersPause = 250 * time.Millisecond

// busy is what blueapi says to a request to start a task while another runs.
const busy = "Worker already active"

// startTask has a task started, at most once, and answers when that is clear. A caller
// who goes away before anything was sent takes the request back.
func (g *Gateway) startTask(ctx context.Context, c *caller, op operation) reply {
	g.hub.starting()
	id, ok := taskOf(op)
	if !ok { // the server will refuse it; if not, it was sent but once
		if err := g.starts.take(ctx); err != nil {
			return notSent(err)
		}
		defer g.starts.giveBack()
		out, err := g.sendOnce(ctx, op)
		if err != nil {
			return failed(err, retry.Once)
		}
		return out.reply
	}
	c.task = id
	who := c.credentials()
	if c.nested {
		who += "\nnested"
	}
	for asked := id; ; {
		id := g.aliases.real(asked)
		st, first, mine := g.starts.join(id, who)
		if first {
			detached, cancel := g.detached(ctx)
			st.cancel = cancel
			if !g.goOn(func() {
				defer cancel()
				g.starts.end(st, g.start(detached, st, c, op, id))
			}) {
				cancel()
				g.starts.end(st, turnAway(errClosed.Error()))
			}
		} else if mine {
			c.did(Joined)
		}
		select {
		case <-st.ended:
			if mine {
				return st.answer
			}
			// Who else asked may not be told what came of it, and one that was called off
			// says nothing: ask again.
		case <-ctx.Done():
			if mine {
				g.starts.leave(st)
			}
			text := "task " + asked + " was to be started, and its caller did not wait for what became of that"
			return refuse(nil, http.StatusGatewayTimeout, text).with(retryhttp.HeaderVerdict, verdictUnknown)
		}
	}
}

// taskOf reads which task is to be started. It is not ok if blueapi might read it in
// another way, or refuse it.
func taskOf(op operation) (id string, ok bool) {
	var fields map[string]json.RawMessage
	if !readJSON(op, &fields) || len(fields) != 1 {
		return "", false
	}
	err := json.Unmarshal(fields["task_id"], &id)
	return id, err == nil && id != ""
}

// readJSON reads the body of a request, if it is plain JSON beyond doubt. blueapi takes
// it whatever the parameters of its type are, and with a byte order mark (1.21.1).
func readJSON(op operation, into any) bool {
	kind, _, err := mime.ParseMediaType(op.header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return false
	}
	text := bytes.TrimPrefix(op.body, []byte("\ufeff"))
	if !utf8.Valid(text) {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if d.Decode(into) != nil {
		return false
	}
	_, err = d.Token()
	return errors.Is(err, io.EOF)
}

// sendOnce passes on a request that must not be sent twice.
func (g *Gateway) sendOnce(ctx context.Context, op operation) (outcome, error) {
	op.safety, op.fresh, op.silence = retry.Once, true, startSilenceLimit
	return g.call(ctx, op)
}

// startBlindly passes on a request to start a task: what comes of it is for the caller to
// find out, or there is nothing to start, as it seems.
func (g *Gateway) startBlindly(ctx context.Context, st *start, op operation, id string) reply {
	g.starts.commit(st)
	sent := time.Now()
	op.body = marshal(taskID{&id})
	out, err := g.sendOnce(ctx, op)
	if err == nil {
		if out.status == http.StatusOK {
			g.worker.saw(id, out.sent)
			g.hub.started(ctx, id)
			g.running.began(id, out.sent)
		}
		return out.reply
	}
	if tries, ok := errors.AsType[*retry.Error](err); !ok || !tries.Sent {
		return notSent(err)
	}
	g.starts.unclear(blueapi.Attachment{TaskID: id, Step: blueapi.StepStarting, At: sent, Owned: true}, false)
	if answer, ok := lastAnswer(err); ok {
		return answer
	}
	return g.unknown(nil, id, err)
}

// start starts a task for all who have asked for that.
func (g *Gateway) start(ctx context.Context, st *start, c *caller, op operation, id string) reply {
	var task blueapi.Task
	var seen http.Header
	read := func() (answer *reply) {
		if task, seen, answer = g.pending(ctx, st, c, op, id); answer == nil {
			id = task.ID
		}
		return answer
	}
	_, unsettled := g.starts.isUnsettled(id)
	if !unsettled && !c.nested {
		if answer := read(); answer != nil {
			return *answer
		}
	}
	if err := g.starts.take(ctx); err != nil {
		return notSent(err)
	}
	defer g.starts.giveBack()
	// Whoever had the turn may have left it so.
	switch before, err := g.sentBefore(ctx, id); {
	case err != nil:
		return notSent(err)
	case before != nil:
		return g.settle(ctx, st, c, before, seen)
	}
	if c.nested { // who asks finds out by itself, and must be left to it
		return g.startBlindly(ctx, st, op, id)
	}
	if unsettled { // and somebody else has settled it
		if answer := read(); answer != nil {
			return *answer
		}
	}
	if state, err := g.client.WorkerState(ctx); err == nil && state != blueapi.StateIdle {
		// The server would say so too, or, if its plan is paused, that it is broken.
		// Not asking leaves the task as it is.
		return refuse(seen, http.StatusConflict, busy)
	}
	return g.run(ctx, st, seen, id, &task)
}

// sentBefore returns the start of a task that was begun before and is not settled, here or
// by another gateway; nil if there is none. It waits for one that lives to settle its own,
// and lets other starts take their turn, which its caller has, meanwhile.
func (g *Gateway) sentBefore(ctx context.Context, id string) (*EarlierStart, error) {
	for g.StartOf != nil {
		before, err := g.StartOf(ctx, id)
		if err != nil {
			return nil, err
		}
		if before == nil {
			break
		}
		if before.Owned {
			return before, nil
		}
		g.starts.giveBack()
		sleep(ctx, othersPause)
		_ = g.starts.take(context.WithoutCancel(ctx)) // its caller gives it back
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	known, found := g.starts.isUnsettled(id)
	switch {
	case !found:
		return nil, nil
	case known.kept && g.StartOf != nil: // somebody else has settled it
		g.starts.settled(id)
		return nil, nil
	}
	return &EarlierStart{known.Attachment, func() {}}, nil
}

// pending reads a task that is to be started, and the header of the answer; or there is
// an answer for the caller already.
func (g *Gateway) pending(ctx context.Context, st *start, c *caller, op operation, id string) (task blueapi.Task, seen http.Header, answer *reply) {
	no := func(a reply) (blueapi.Task, http.Header, *reply) { return blueapi.Task{}, nil, &a }
	out, err := g.call(ctx, c.reading("GET /tasks/{id}", "/tasks/"+url.PathEscape(id)))
	switch {
	case err != nil:
		return no(notSent(err))
	case out.status == http.StatusNotFound:
		if next, found := g.aliases.successor(ctx, id); found {
			g.starts.goOnWith(id, next)
			return g.pending(ctx, st, c, op, next)
		}
		return no(g.startBlindly(ctx, st, op, id)) // there is nothing to start: the server says so
	case out.status != http.StatusOK:
		return no(out.reply)
	case json.Unmarshal(out.body, &task) != nil || task.ID != id:
		return no(strange(out.header))
	case !task.IsPending: // it was started, and is never started again (1.21.1): the server says so
		op.body = marshal(taskID{&id})
		out, err := g.call(ctx, op)
		if err != nil {
			return no(failed(err, op.safety))
		}
		return no(out.reply)
	}
	return task, out.header, nil
}

// settle finds out what became of a request that was sent before, and goes on from
// there.
func (g *Gateway) settle(ctx context.Context, st *start, c *caller, before *EarlierStart, seen http.Header) reply {
	defer before.Release()
	g.starts.commit(st)
	c.did(Settled)
	var content *blueapi.Task
	if task, err := g.client.Task(ctx, before.TaskID); err == nil && !c.nested {
		content = &task
	}
	run, err := g.client.Attach(ctx, before.Attachment)
	if err == nil {
		run.Close()
		return g.begun(ctx, seen, before.TaskID)
	}
	e, ok := errors.AsType[*blueapi.RunError](err)
	switch {
	case !ok: // it has no record, or cannot be asked for
		if gone, refused := refusalOf(seen, err); refused {
			g.starts.settled(before.TaskID)
			if next, found := g.aliases.successor(ctx, before.TaskID); found {
				g.starts.goOnWith(before.TaskID, next)
				return g.run(ctx, st, seen, next, content)
			}
			return gone
		}
		return g.unknown(seen, before.TaskID, err)
	case e.Word == blueapi.Unknown:
		return g.unknown(seen, before.TaskID, e)
	}
	g.starts.settled(before.TaskID)
	next, answer := g.withdrawn(ctx, seen, before.TaskID, content, e)
	if next == "" {
		return answer
	}
	return g.run(ctx, st, seen, next, content)
}

// run starts a task by the protocol of blueapi's client, and another in its place if
// that is lost.
func (g *Gateway) run(ctx context.Context, st *start, seen http.Header, id string, content *blueapi.Task) reply {
	for n := 1; ; n++ {
		asked := time.Now()
		run, err := g.client.StartTask(ctx, id)
		if looked, _ := g.starts.history(st); looked {
			callerOf(ctx).did(Settled)
		}
		if err == nil {
			run.Close()
			return g.begun(ctx, seen, id)
		}
		e, ok := errors.AsType[*blueapi.RunError](err)
		switch {
		case !ok: // it is gone
			next, found := g.aliases.successor(ctx, id)
			if !found || n == maxTasks {
				if gone, refused := refusalOf(seen, err); refused {
					return gone
				}
				return notSent(err)
			}
			g.starts.goOnWith(id, next)
			id = next
			continue
		case e.Word == blueapi.Unknown:
			g.starts.unclear(blueapi.Attachment{
				Plan: e.Plan, TaskID: id, Step: blueapi.StepStarting, At: asked, Owned: true,
			}, g.Journal != nil)
			return g.unknown(seen, id, e)
		}
		if e.Reason == blueapi.OtherStart && n < maxTasks { // another gateway was faster
			switch before, err := g.sentBefore(ctx, id); {
			case err != nil:
				return notSent(err)
			case before != nil:
				return g.settle(ctx, st, callerOf(ctx), before, seen)
			}
			continue
		}
		if !g.isWithdrawn(ctx, st, id, e) {
			return g.notStarted(seen, e)
		}
		next, answer := g.withdrawn(ctx, seen, id, content, e)
		if next == "" {
			return answer
		}
		if e.Reason != blueapi.Withdrawn || n == maxTasks {
			return g.notStarted(seen, e)
		}
		callerOf(ctx).did(Replaced)
		id = next
	}
}

// isWithdrawn reports whether a task that was not started was deleted.
func (g *Gateway) isWithdrawn(ctx context.Context, st *start, id string, e *blueapi.RunError) bool {
	if _, withdrawing := g.starts.history(st); withdrawing {
		return true
	}
	if e.Reason != blueapi.JournalFailed {
		return false
	}
	_, err := g.client.Task(ctx, id)
	gone, ok := refusalOf(nil, err)
	return ok && gone.status == http.StatusNotFound
}

// withdrawn deals with a task that was deleted so that it can never start: if it may,
// it puts another in its place, which it returns.
func (g *Gateway) withdrawn(ctx context.Context, seen http.Header, id string, content *blueapi.Task, e *blueapi.RunError) (next string, answer reply) {
	shown := g.aliases.shown(id)
	if g.Aliases && content != nil {
		var m struct {
			InstrumentSession string `json:"instrument_session"`
		}
		err := json.Unmarshal(content.Request.Metadata, &m)
		if err == nil {
			next, err = g.replace(ctx, id, shown, blueapi.TaskRequest{
				Name: content.Request.Name, Params: content.Request.Params, InstrumentSession: m.InstrumentSession,
			})
		}
		if err == nil {
			return next, reply{}
		}
	}
	if e.Reason == blueapi.Busy {
		return "", refuse(seen, http.StatusConflict, busy).with(retryhttp.HeaderVerdict, verdictWithdrawn)
	}
	if answer, ok := refusalOf(seen, e.Err); ok {
		return "", answer.with(retryhttp.HeaderVerdict, verdictWithdrawn)
	}
	text := "task " + shown + " was withdrawn, so that it will never start; make a new one: " + g.aliases.text(e.Error())
	return "", refuse(seen, http.StatusServiceUnavailable, text).with(retryhttp.HeaderVerdict, verdictWithdrawn).again()
}

// begun is the server's answer to the start of a task.
func (g *Gateway) begun(ctx context.Context, seen http.Header, id string) reply {
	g.starts.settled(id)
	g.unended.began(id)
	g.hub.started(ctx, id)
	now := time.Now()
	g.worker.saw(id, now)
	g.running.began(id, now)
	if seen == nil {
		seen = g.versions()
	}
	return like(seen, http.StatusOK, taskID{&id})
}

// versions is what the server says of itself with each answer.
func (g *Gateway) versions() http.Header {
	h := make(http.Header)
	if v := g.client.Version(); v.Server != "" {
		h.Set("X-Blueapi-Version", v.Server)
		h.Set("X-Api-Version", v.API)
	}
	return h
}

// notStarted is the answer if nothing was started, and the task is as before.
func (g *Gateway) notStarted(seen http.Header, e *blueapi.RunError) reply {
	if e.Reason == blueapi.Busy {
		return refuse(seen, http.StatusConflict, busy)
	}
	if answer, ok := refusalOf(seen, e.Err); ok {
		return answer
	}
	return refuse(seen, http.StatusServiceUnavailable, g.aliases.text(e.Error())).with(retryhttp.HeaderVerdict, verdictNotSent).again()
}

// notSent is the answer if the server could not be asked about the task.
func notSent(err error) reply {
	a := failed(err, retry.Safe)
	if a.status >= http.StatusInternalServerError {
		a = refuse(nil, http.StatusServiceUnavailable, "the task was not started: "+err.Error()).with(retryhttp.HeaderVerdict, verdictNotSent).again()
	}
	return a
}

// unknown is the answer if nobody knows whether the task was started.
func (g *Gateway) unknown(seen http.Header, id string, err error) reply {
	text := err.Error()
	if e, ok := errors.AsType[*blueapi.RunError](err); !ok || e.TaskID == "" {
		text = "task " + id + ": it is not known whether it was started: " + text
	}
	return refuse(seen, http.StatusGatewayTimeout, g.aliases.text(text)).with(retryhttp.HeaderVerdict, verdictUnknown).with("X-Should-Retry", "false")
}
