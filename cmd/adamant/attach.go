package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

func (a *app) attachCommand() *cobra.Command {
	cmd := a.comeBackCommand("attach", true)
	cmd.Short = "Come back to a run, and wait for its end"
	cmd.Long = `Come back to a run, and wait for its end, as run does.

The run is the one of the TASK, or the last one that was begun from this machine
at this server and has no known end. If the program that began it has died, this
one takes its place: what became of the plan is found out and recorded, and a
task of which it is unclear whether it was started is withdrawn if it has not
begun. No plan is ever started by this.

While that program lives, and if the TASK is somebody else's, it is only watched.`
	return cmd
}

func (a *app) watchCommand() *cobra.Command {
	cmd := a.comeBackCommand("watch", false)
	cmd.Short = "Watch a run to its end, and leave it as it is"
	cmd.Long = `Watch a run to its end, and leave it as it is.

The run is the one of the TASK, which may be somebody else's, or the last one that
was begun from this machine at this server and has no known end. Nothing is
recorded: 'adamant attach' does that.`
	return cmd
}

func (a *app) comeBackCommand(name string, own bool) *cobra.Command {
	var o runOptions
	f := compact
	cmd := &cobra.Command{
		Use:     name + " [OPTIONS] [TASK]",
		Example: statusTable,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			task, err := oneAtMost(cmd, args, "TASK")
			if err != nil {
				return err
			}
			return a.comeBack(cmd.Context(), task, own, o, f)
		},
	}
	flags := cmd.Flags()
	flags.Var((*duration)(&o.timeout), "timeout", "wait no longer than that for the plan's end (for ever)")
	if own {
		flags.Var(&o.atTimeout, "at-timeout", "what becomes of a plan that takes longer (leave: it goes on)")
	}
	a.addOwn(flags, &f)
	return cmd
}

// comeBack comes back to a run and follows it to its end.
func (a *app) comeBack(ctx context.Context, task string, own bool, o runOptions, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	limited, cancel := withTimeout(ctx, o.timeout, 0)
	defer cancel()
	t, err := a.findTarget(ctx, limited, c, task)
	if err != nil {
		return err
	}
	defer t.journal.close()
	w, err := a.follower(c, t.run.Plan, o, f)
	if err != nil {
		return err
	}
	defer w.close()
	w.recordIn(t.journal)
	r, result, err := a.takeUp(limited, c, &t, own)
	if r == nil {
		failed, ok := errors.AsType[*blueapi.RunError](err)
		if ok && failed.Word == blueapi.Unknown && w.mustEnd(ctx, limited, failed.Result) && t.journal.inHand() == t.run.ID {
			return w.settle(ctx, t.journal, failed)
		}
		return a.endOfPast(ctx, c, t.run, f, o.timeout, result, err)
	}
	defer r.Close()
	return w.follow(ctx, limited, r)
}

// target is a run that a command comes back to.
type target struct {
	journal *runJournal // nil if there is none
	// run is what the journal has of it. Of a task that the journal does not know it
	// has the plan only, and no id.
	run  journal.Run
	task string // of such a run
}

// findTarget finds the run of a task, or of an id, or that of the user who names none.
// The server is not asked for longer than limited.
func (a *app) findTarget(ctx, limited context.Context, c *blueapi.Client, named string) (t target, err error) {
	if t.journal, err = a.knownRuns(ctx, c); err != nil {
		if named == "" || ctx.Err() != nil {
			return t, a.endOfJournal(ctx, err)
		}
		a.ui.note("the journal: %s; task %s is watched as somebody else's", journalTrouble(err), named)
		err = nil
	}
	known := false
	if t.journal != nil {
		if named == "" {
			t.run, known, err = t.journal.unsettled(ctx)
		} else {
			t.run, known, err = t.journal.named(ctx, named)
		}
	}
	switch {
	case err != nil:
		err = a.endOfJournal(ctx, err)
	case known && t.run.Server != t.journal.server:
		err = a.atAnotherServer(named, t.run)
	case known:
		return t, nil
	case named == "":
		err = ending{
			msg: a.ui.voice.errorf("no run that you began from here at this server is without a known end; " +
				"'adamant last' shows the last one, and a TASK may be anybody's"),
			status: statusError,
		}
	default:
		t.task = named
		t.run.Plan, err = a.planOfTask(limited, c, named)
		if err == nil {
			return t, nil
		}
	}
	t.journal.close()
	return t, err
}

// atAnotherServer is the end of a command for a run at a server that is not asked.
func (a *app) atAnotherServer(named string, run journal.Run) error {
	return ending{msg: a.ui.voice.errorf("%s is of a run at another server: add -h %s", named, run.Server), status: statusUsage}
}

// noSuchTask is the end of a command for a task that nobody knows.
func (a *app) noSuchTask(task string) error {
	return ending{
		msg: a.ui.voice.errorf("neither the server nor the journal knows a task %s; "+
			"'adamant tasks' and 'adamant history' list those that they know", task),
		status: statusError,
	}
}

// planOfTask is the plan of a task that the journal does not know. The error is how the
// command ends.
func (a *app) planOfTask(ctx context.Context, c *blueapi.Client, task string) (string, error) {
	t, err := c.Task(ctx, task)
	if r := refusal(err); r != nil && r.Status == http.StatusNotFound {
		return "", a.noSuchTask(task)
	}
	if err != nil {
		return "", a.failed(ctx, c, "", err)
	}
	return t.Request.Name, nil
}

// named returns the run of a task, at any server, or the one that has it for an id.
func (j *runJournal) named(ctx context.Context, name string) (run journal.Run, found bool, err error) {
	for _, q := range []journal.Query{{Task: name, Limit: 1}, {ID: name, Limit: 1}} {
		runs, err := j.journal.Runs(ctx, q)
		if err != nil {
			return run, false, err
		}
		if len(runs) > 0 {
			return runs[0], true, nil
		}
	}
	return run, false, nil
}

// unsettled returns the last run at the server that has no known end.
func (j *runJournal) unsettled(ctx context.Context) (run journal.Run, found bool, err error) {
	all, err := j.allUnsettled(ctx)
	if len(all) == 0 {
		return run, false, err
	}
	return all[0], true, nil
}

// attachText is how to come back to a run.
func attachText(r journal.Run) string {
	task, _ := r.Task()
	return "'adamant attach " + cmp.Or(task, r.ID) + "'"
}

// maxUnsettled is how many runs without a known end are looked at. Who does not wait
// for the ends of his plans leaves one each time.
const maxUnsettled = 1000

// allUnsettled returns the runs at the server that have no known end, those that were
// begun last first.
func (j *runJournal) allUnsettled(ctx context.Context) ([]journal.Run, error) {
	open, err := j.runs(ctx, journal.Query{Unfinished: true, Limit: maxUnsettled})
	if err != nil {
		return nil, err
	}
	unknown, err := j.runs(ctx, journal.Query{Word: journal.Unknown, Limit: maxUnsettled})
	if err != nil {
		return nil, err
	}
	for _, r := range unknown {
		if mayBeSettled(r) {
			open = append(open, r)
		}
	}
	slices.SortStableFunc(open, func(a, b journal.Run) int { return b.At.Compare(a.At) })
	return open, nil
}

// mayBeSettled reports whether more can be learnt of a run that ended unknown: whether
// the server had not forgotten its task, or lost it, when it was last asked.
func mayBeSettled(r journal.Run) bool {
	if task, _ := r.Task(); task == "" {
		return false
	}
	switch reasonOf(r.End().Reason) {
	case blueapi.Silent, blueapi.Stuck, blueapi.Queued, blueapi.Abandoned, 0:
		return true
	}
	return false
}

// ownerPoll is how often it is looked how far the owner of a run has come.
const ownerPoll = 200 * time.Millisecond

// takeUp goes on with a run: what it returns is to be followed and closed. It is nil if
// the run has a known end, or if it turned out to have one, which result and err are, as
// those of Client.Run; or err is how the command ends. A run whose owner lives is left to
// that until its plan has been started, for what is not started yet may be withdrawn, and
// another task made for it.
func (a *app) takeUp(ctx context.Context, c *blueapi.Client, t *target, own bool) (*blueapi.Run, blueapi.Result, error) {
	if t.run.ID == "" {
		return attached(c.Attach(ctx, blueapi.Attachment{Plan: t.run.Plan, TaskID: t.task}))
	}
	owned, err := a.awaitTurn(ctx, t, own)
	if err != nil {
		return nil, blueapi.Result{}, err
	}
	run := t.run
	if end := run.End(); end != nil && end.Word != journal.Unknown {
		a.ui.note("plan %s, begun at %s, has ended before", run.Plan, clock(run.At))
		result, err := keptResult(run)
		return nil, result, err
	}
	if own && !owned {
		a.ui.note("the run is in the hands of another process: watching it")
	}
	last := beforeEnd(run)
	task, env := run.Task()
	return attached(c.Attach(ctx, blueapi.Attachment{
		RunID: run.ID, Plan: run.Plan, TaskID: task, EnvironmentID: env,
		Step: runStep(last.Step), At: last.At, Owned: owned,
	}))
}

// awaitTurn waits until a run can be gone on with: until it is owned by this process,
// which it tries to be if own is set, or has been started or ended by its owner, or has
// none and nobody is to be it. The target then has the run as it is.
func (a *app) awaitTurn(ctx context.Context, t *target, own bool) (owned bool, err error) {
	stop := func() {}
	defer func() { stop() }()
	poll := time.NewTicker(ownerPoll)
	defer poll.Stop()
	for waiting := false; ; waiting = true {
		// Also when no time is left: what is said then must be true of the run.
		owned, lives, err := t.journal.turn(context.WithoutCancel(ctx), t, own)
		switch {
		case err != nil:
			return false, a.endOfJournal(ctx, err)
		case owned, !own && !lives, t.run.End() != nil, beforeEnd(t.run).Step == journal.Started:
			return owned, nil
		case !waiting:
			stop = a.ui.progress(fmt.Sprintf("another process to start plan %s", t.run.Plan))
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return false, ending{
				msg: a.ui.voice.errorf("another process has plan %s in hand, and has not started it yet; "+
					"'adamant attach' comes back to it", t.run.Plan),
				status: statusStillRunning,
			}
		}
	}
}

// turn tells whose a run is, and makes it this process's if it is nobody's and own is
// set. Then it reads the run, which only its owner changes.
func (j *runJournal) turn(ctx context.Context, t *target, own bool) (owned, lives bool, err error) {
	if own {
		owned, err = j.take(ctx, t.run.ID)
	}
	lives = owned
	if err == nil && !owned {
		lives, err = j.journal.Owned(t.run.ID)
	}
	if err != nil {
		return false, false, err
	}
	run, err := j.find(ctx, t.run.ID)
	if err == nil {
		t.run = run
	}
	return owned, lives, err
}

// endOfPast is the end of a command that came back to a run which is over, or could not
// come back to it.
func (a *app) endOfPast(ctx context.Context, c *blueapi.Client, run journal.Run, f format, limit time.Duration, r blueapi.Result, err error) error {
	if e, ok := errors.AsType[ending](err); ok {
		return e
	}
	if r.Word == 0 {
		return a.failed(ctx, c, "", err)
	}
	if r.Word == blueapi.NotStarted && r.Reason == blueapi.Interrupted {
		return endOfUnstarted(run.Plan)
	}
	if overdue(r) && ctx.Err() == nil {
		return endOfTimeout(f, run.Plan, goesOnText, r, limit, err)
	}
	if end := run.End(); r.Outcome != nil && end != nil && end.ResultSize > len(end.Result) {
		task, err := c.Task(ctx, r.TaskID)
		if err != nil || task.Outcome == nil {
			return endOfLostResult(f, run)
		}
		r.Outcome = task.Outcome
	}
	e := endOfRun(a.ui.voice, f, run.Plan, r, err)
	e.msg += a.whyBroken(ctx, c, err)
	return e
}

func attached(r *blueapi.Run, err error) (*blueapi.Run, blueapi.Result, error) {
	if failed, ok := errors.AsType[*blueapi.RunError](err); ok {
		return nil, failed.Result, err
	}
	return r, blueapi.Result{}, err
}

// beforeEnd is the last step of a run that is no end.
func beforeEnd(r journal.Run) journal.Entry {
	for _, e := range slices.Backward(r.Entries) {
		if e.Step != journal.Ended {
			return e
		}
	}
	return journal.Entry{Step: journal.Intent, At: r.At}
}
