package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

func (a *app) resultCommand() *cobra.Command {
	f := compact
	cmd := &cobra.Command{
		Use:   "result [OPTIONS] [TASK]",
		Short: "Show how a plan has ended",
		Long: `Show how a plan has ended, as run does, and exit with the same status.

It is the plan of the TASK, or of the last run that was begun from this machine at
this server. The server is asked first; what it has forgotten is read in the
journal. If the plan has not ended the status is 9: 'adamant wait' waits for it.`,
		Example: statusTable,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			task, err := oneAtMost(cmd, args, "TASK")
			if err != nil {
				return err
			}
			return a.result(cmd.Context(), task, f)
		},
	}
	a.addOwn(cmd.Flags(), &f)
	return cmd
}

// result ends with what became of a plan, if it has ended.
func (a *app) result(ctx context.Context, named string, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := a.knownRuns(ctx, c)
	if err != nil && (named == "" || ctx.Err() != nil) {
		return a.endOfJournal(ctx, err)
	}
	defer j.close()
	c.Journal = nil // it is only read
	var run journal.Run
	found := false
	if j != nil {
		if named == "" {
			run, found, err = j.last(ctx)
		} else {
			run, found, err = j.named(ctx, named)
		}
		if err != nil {
			return a.endOfJournal(ctx, err)
		}
	}
	if !found && named == "" {
		return a.noRunHere()
	}
	if found && run.Server != j.server {
		return a.atAnotherServer(named, run)
	}
	task, _ := run.Task()
	if !found {
		task = named
	}
	if task == "" {
		return a.pastResult(ctx, j, run, f) // no task was ever started
	}
	record, err := c.Task(ctx, task)
	switch r := refusal(err); {
	case err == nil:
		return a.recordedResult(ctx, c, record, run, f)
	case found && run.End() != nil:
		a.ui.note("the server does not say how the plan ended (%v): this is what was recorded at %s", err, clock(run.Last().At))
		return a.pastResult(ctx, j, run, f)
	case r == nil || r.Status != http.StatusNotFound:
		return a.failed(ctx, c, "", err)
	case found:
		return a.pastResult(ctx, j, run, f)
	}
	return a.noSuchTask(task)
}

// recordedResult is how a plan has ended by the server's record of it, if it has. The
// journal, if it has the run, may tell by which verb, which the server does not.
func (a *app) recordedResult(ctx context.Context, c *blueapi.Client, t blueapi.Task, run journal.Run, f format) error {
	state := taskState(t)
	if t.IsComplete {
		// A paused plan's record says complete too, and then the wait would be long.
		waiting, leave := context.WithCancel(ctx)
		defer leave()
		c.RunTrace = &blueapi.RunTrace{Paused: func(string) { leave() }}
		r, err := c.Attach(ctx, blueapi.Attachment{Plan: t.Request.Name, TaskID: t.ID})
		if err != nil {
			return a.failed(ctx, c, "", err)
		}
		defer r.Close()
		result, err := r.Wait(waiting)
		if end := run.End(); end != nil {
			result = withVerb(result, verbOf(end.Reason))
		}
		if waiting.Err() == nil || ctx.Err() != nil || !overdue(result) {
			e := endOfRun(a.ui.voice, f, t.Request.Name, result, err)
			e.msg += a.whyBroken(ctx, c, err)
			return e
		}
		state = "paused"
	}
	e := ending{
		msg:    a.ui.voice.errorf("plan %s has not ended: it is %s; 'adamant wait %s' waits for its end", t.Request.Name, state, t.ID),
		status: statusStillRunning,
	}
	if f == jsonText {
		e.out = taskOnly(t.ID)
	}
	return e
}

// pastResult is how a run has ended by the journal, of which the server knows nothing.
func (a *app) pastResult(ctx context.Context, j *runJournal, run journal.Run, f format) error {
	lives, err := j.journal.Owned(run.ID)
	if err != nil {
		return a.endOfJournal(ctx, err)
	}
	task, _ := run.Task()
	end := run.End()
	switch {
	case end == nil && lives:
		return ending{
			msg:    a.ui.voice.errorf("plan %s has not ended: another process has it in hand; 'adamant wait' waits for its end", run.Plan),
			status: statusStillRunning,
		}
	case end == nil && run.NotStarted(), end != nil && end.Word == journal.NotStarted && reasonOf(end.Reason) == blueapi.Interrupted:
		return endOfUnstarted(run.Plan)
	case end == nil, end.Word == journal.Unknown:
		e := ending{
			msg: a.ui.voice.errorf("it is not known how plan %s ended (task %s), nor does the server know now; "+
				"%s looks what can be found out", run.Plan, orDash(task), attachText(run)),
			status: statusUnknown,
		}
		if f == jsonText {
			e.out = taskOnly(task)
		}
		return e
	case end.Outcome != "" && end.ResultSize > len(end.Result):
		return endOfLostResult(f, run)
	}
	result, err := keptResult(run)
	return endOfRun(a.ui.voice, f, run.Plan, result, err)
}

// endOfUnstarted is the end of a run whose program was ended before it started the plan.
func endOfUnstarted(plan string) ending {
	return ending{
		msg: asAdamant.errorf("plan %s was not started: the program that was to start it was ended before that; "+
			"it is safe to run it again", plan),
		status: statusNotStarted,
	}
}

// endOfLostResult is the end of a plan that has returned more than the journal keeps,
// which the server has forgotten.
func endOfLostResult(f format, run journal.Run) ending {
	end := run.End()
	task, _ := run.Task()
	e := ending{
		out: "Plan succeeded\n",
		msg: asAdamant.errorf("what plan %s returned is not kept: %d bytes of type %s", run.Plan, end.ResultSize, end.Type),
	}
	if f == jsonText {
		e.out = dumps(pyDict{{"task_id", task}, {"outcome", pyDict{
			{"outcome", end.Outcome}, {"type", end.Type}, {"result_size", pyInt(fmt.Sprint(end.ResultSize))},
		}}}, 0) + "\n"
	}
	return e
}
