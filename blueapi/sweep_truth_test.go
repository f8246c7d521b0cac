package blueapi_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// judge compares what a run has said with what the server really did: now are the runs
// when the word was said, later those when nothing more could happen.
func (c sweepCase) judge(w *sweepWorld, p played, now, later []sim.Run) string {
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	r := p.result
	if len(later) > 1 {
		bad("%d runs", len(later))
	}
	if len(c.hits) == 1 && r.Word != blueapi.Done && !c.has("restart", "reload", "text 500", "another client") {
		bad("one fault of the network took the plan")
	}
	if blueapi.WordOf(p.err) != r.Word {
		bad("word %v, error %v", r.Word, p.err)
	}
	switch r.Word {
	case blueapi.Done:
		c.judgeDone(w, p, now, bad)
	case blueapi.NotStarted:
		if len(later) != 0 {
			bad("not started, but %d runs", len(later))
		}
		if why := c.notStarted(w, r.Reason); why != "" {
			bad("%s", why)
		}
	case blueapi.Unknown:
		if why := c.unknown(w, r.Reason); why != "" {
			bad("%s", why)
		}
	default:
		bad("no word")
	}
	if p.took > c.series.limit {
		bad("took %v", p.took)
	}
	if len(now) == 1 && !now[0].Ended.IsZero() && !c.has("broker ") && !slices.ContainsFunc(c.hits, func(h hit) bool { return !h.frame }) {
		if late := p.ended.Sub(now[0].Ended); late > time.Second+time.Duration(len(c.hits))*time.Second {
			bad("%v after the plan's end", late)
		}
	}
	if c.series.broker {
		wrong = append(wrong, c.judgeEvents(w, p)...)
	}
	if len(wrong) == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%v, reason %d, %v; at %q)", strings.Join(wrong, ", "), r.Word, r.Reason, p.err, w.struck)
}

func (c sweepCase) judgeDone(w *sweepWorld, p played, now []sim.Run, bad func(string, ...any)) {
	r := p.result
	var run *sim.Run
	n := 0
	for i := range now {
		if now[i].TaskID == r.TaskID {
			run = &now[i]
			n++
		}
	}
	switch {
	case n == 0 && (r.Reason == blueapi.Unpublished || c.has("pauses")):
		return // it could not begin
	case n != 1, run == nil || run.Ended.IsZero() || run.Killed:
		bad("done, but %d runs of it: %+v", n, run)
		return
	}
	touched := run.Aborted || c.has("pauses")
	switch r.Reason {
	case blueapi.Ended:
		if r.Outcome == nil || r.Outcome.Kind != "success" && !c.has("broker ") || run.Aborted {
			bad("outcome %+v of %+v", r.Outcome, *run)
		}
	case blueapi.NotRecorded:
		if !touched || r.Outcome != nil {
			bad("not recorded, though it was left alone")
		}
	case blueapi.Unpublished:
		if !c.has("broker ") || r.Outcome != nil {
			bad("unpublished, though the broker was there")
		}
	default:
		bad("done for no reason")
	}
}

// notStarted says what is wrong with a reason of NotStarted.
func (c sweepCase) notStarted(w *sweepWorld, why blueapi.Reason) string {
	switch why {
	case blueapi.Busy:
		if !c.has("starts", "pauses") && !w.hasStruck("PUT /worker/task twice") {
			return "busy, though nobody else was there"
		}
	case blueapi.Unreachable:
		if !c.has("frozen for 10s", "restart", "reload", "12 s", "silence", "late") {
			return "unreachable, though it was there"
		}
	case blueapi.Withdrawn, blueapi.Refused, blueapi.JournalFailed, blueapi.Interrupted:
		return "not started for a wrong reason"
	default:
		return "not started for no reason"
	}
	return ""
}

// unknown says what is wrong with a reason of Unknown.
func (c sweepCase) unknown(w *sweepWorld, why blueapi.Reason) string {
	switch why {
	case blueapi.EnvironmentChanged:
		if !c.has("restart", "reload") {
			return "there was no restart"
		}
	case blueapi.RecordLost:
		// Begun within the withdrawal's own round trip, or deleted by somebody.
		if !c.has("deletes", "reload") && !w.hasStruck("PUT /worker/task late") && !w.hasStruck("DELETE") {
			return "nobody deleted its record"
		}
	case blueapi.Removed:
		if !c.has("deletes", "reload") && !w.hasStruck("DELETE") {
			return "nobody removed it"
		}
	case blueapi.Overtaken, blueapi.Queued:
		if !c.has("starts") {
			return "nobody else started a plan"
		}
	case blueapi.Stuck:
		// Or a plan that another client has paused or ended since made a text 500.
		if !w.hasStruck("PUT /worker/task text 500") && !c.has("starts") {
			return "the worker was not stuck"
		}
	case blueapi.Silent:
		if !c.has("reload") { // which hangs when it is asked things
			return "silent, though it was there"
		}
	case blueapi.Abandoned:
		return "unknown for a wrong reason"
	default:
		return "unknown for no reason"
	}
	return ""
}

// judgeEvents compares the events that were told with those that were published: they
// come in order, none twice and none of another task, and where one is missing a gap
// says so; but for what the broker itself has lost without a sign. What is published
// several times, as by a server that was restarted without its broker, is told once.
func (c sweepCase) judgeEvents(w *sweepWorld, p played) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	w.mu.Lock()
	defer w.mu.Unlock()
	var published []blueapi.Event
	for _, e := range w.published {
		again := len(published) > 0 && string(e.Raw) == string(published[len(published)-1].Raw)
		if e.TaskID == p.result.TaskID && !again {
			published = append(published, e)
		}
	}
	missing := func(events []blueapi.Event) (n int) {
		for _, e := range events {
			if w.lost[string(e.Raw)] > 0 {
				w.lost[string(e.Raw)]--
			} else {
				n++
			}
		}
		return n
	}
	gap := w.record.blind != nil
	next := 0
	for _, e := range w.record.events {
		if e.Gap != nil {
			gap = true
			continue
		}
		if e.TaskID != p.result.TaskID {
			bad("an event of %s", e.TaskID)
			continue
		}
		i := next
		for i < len(published) && string(published[i].Raw) != string(e.Raw) {
			i++
		}
		if i == len(published) {
			bad("twice, or out of order: %s", e.Raw)
			continue
		}
		if n := missing(published[next:i]); n > 0 && !gap {
			bad("%d events are missing without a gap", n)
		}
		next, gap = i+1, false
	}
	open := false // the last gap has no end yet
	for _, e := range w.record.events {
		if e.Gap != nil {
			open = e.Gap.Until.IsZero()
		}
	}
	if p.result.Word == blueapi.Done && next < len(published) && !gap && !open && w.record.blind == nil {
		bad("%d events are missing at the end", len(published)-next)
	}
	return wrong
}

// sweepLimit is how long a run may take whose plan takes at most 6 s: a server that is
// away is waited for a minute, and a reload that somebody else has begun for 40 s.
const sweepLimit = 150 * time.Second
