package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

// clearOptions are the options of clear.
type clearOptions struct {
	task   string // the only one
	all    bool   // whoever's
	yes    bool
	dryRun bool
}

func (a *app) clearCommand() *cobra.Command {
	var o clearOptions
	f := compact
	cmd := &cobra.Command{
		Use:   "clear [OPTIONS]",
		Short: "Delete tasks that were left behind and will not be started",
		Long: `Delete tasks that were left behind on the server: those of your runs whose program
has died, that have not begun. What became of such a run is found out first, and
recorded. A task that runs is never deleted, nor one whose program lives.

Tasks that the journal does not know may be somebody's who is about to start them:
they are deleted only if they are named, or all are meant.`,
		Example: statusTable,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			if o.all && o.task != "" {
				return usageError{cmd, "--task and --all-pending exclude each other."}
			}
			if o.all && !o.yes && !o.dryRun && !a.ui.canAsk() {
				return usageError{cmd, "--all-pending deletes tasks of others too: add --yes if that is meant."}
			}
			return a.clear(cmd.Context(), o, f)
		},
	}
	flags := cmd.Flags()
	flags.Var((*taskOption)(&o.task), "task", "only the task of this `ID`, whoever's it is")
	flags.BoolVar(&o.all, "all-pending", false, "all tasks that have not begun, whoever's they are; asks first")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&o.dryRun, "dry-run", false, "only say which tasks would be deleted")
	a.addOwn(flags, &f)
	return cmd
}

// clear deletes tasks and says what became of each.
func (a *app) clear(ctx context.Context, o clearOptions, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := a.knownRuns(ctx, c)
	if err != nil {
		return a.endOfJournal(ctx, err) // whose tasks they are must be known
	}
	defer j.close()
	tasks, err := a.tasksToClear(ctx, c, j, o)
	if err != nil {
		return err
	}
	if o.all && !o.yes && !o.dryRun && len(tasks) > 0 {
		for _, t := range tasks {
			a.ui.message("    " + t.ID + " " + t.Request.Name)
		}
		agreed, err := a.ui.ask(ctx, fmt.Sprintf("Delete these %d tasks, which may be of others?", len(tasks)))
		switch {
		case err != nil:
			return endOfInterrupt(a.ui.voice)
		case !agreed:
			return ending{msg: a.ui.voice.errorf("nothing was deleted"), status: statusError}
		}
	}
	s := sweep{client: c, journal: j, dryRun: o.dryRun}
	all := make([]cleared, 0, len(tasks))
	for _, t := range tasks {
		one, err := s.task(ctx, t)
		if err != nil {
			return a.endOfSweep(ctx, c, f, all, err)
		}
		all = append(all, one)
	}
	if len(all) == 0 && f != jsonText {
		a.ui.note("nothing is left behind")
	}
	e := ending{out: f.cleared(all)}
	for _, one := range all {
		if one.fate == clearUnknown {
			e.status = statusUnknown
		} else if o.task != "" && !one.gone() {
			e.status = statusError
		}
	}
	if e.status == statusDone {
		return a.ui.result(e.out)
	}
	return e
}

// tasksToClear are the tasks that may be deleted, as far as is known before each is
// looked at.
func (a *app) tasksToClear(ctx context.Context, c *blueapi.Client, j *runJournal, o clearOptions) ([]blueapi.Task, error) {
	if o.task != "" {
		t, err := c.Task(ctx, o.task)
		if r := refusal(err); r != nil && r.Status == http.StatusNotFound {
			return nil, ending{msg: a.ui.voice.errorf("the server has no task %s", o.task), status: statusError}
		}
		if err != nil {
			return nil, a.failed(ctx, c, "", err)
		}
		return []blueapi.Task{t}, nil
	}
	pending, err := c.Tasks(ctx, blueapi.TaskPending)
	if err != nil {
		return nil, a.failed(ctx, c, "", err)
	}
	if o.all {
		return pending, nil
	}
	own, err := j.tasks(ctx)
	if err != nil {
		return nil, a.endOfJournal(ctx, err)
	}
	var left []blueapi.Task
	for _, t := range pending {
		if own[t.ID] {
			left = append(left, t)
		}
	}
	return left, nil
}

// tasks returns the tasks at the server that the journal knows.
func (j *runJournal) tasks(ctx context.Context) (map[string]bool, error) {
	own := map[string]bool{}
	if j == nil {
		return own, nil
	}
	all, err := j.journal.Tasks(ctx, j.server)
	for _, t := range all {
		own[t] = true
	}
	return own, err
}

// endOfSweep is the end of a clear that could not go on. What was done is said.
func (a *app) endOfSweep(ctx context.Context, c *blueapi.Client, f format, done []cleared, err error) error {
	e, ok := errors.AsType[ending](a.failed(ctx, c, "", err))
	if journal.KindOf(err) != 0 || !ok {
		e, _ = errors.AsType[ending](a.endOfJournal(ctx, err))
	}
	if len(done) > 0 {
		e.out = f.cleared(done)
	}
	return e
}

// fate is what became of a task that was to be deleted.
type fate int

const (
	clearDeleted fate = iota
	clearWould        // it would be deleted
	clearGone         // somebody else was quicker
	clearBegun        // it has begun, or has ended: it is left alone
	clearInHand       // its program lives
	clearUnknown      // it may have begun at that moment, or before
)

// cleared is a task and what became of it.
type cleared struct {
	blueapi.Task
	run  string // its run, if the journal knows it
	fate fate
	err  error // why that is unknown
}

// gone reports whether the task is not there any more, or would not be.
func (c cleared) gone() bool {
	return c.fate == clearDeleted || c.fate == clearWould || c.fate == clearGone
}

// sweep deletes tasks.
type sweep struct {
	client  *blueapi.Client
	journal *runJournal // nil if there is none
	dryRun  bool
}

// task deletes a task if it has not begun and nobody has it in hand.
func (s sweep) task(ctx context.Context, t blueapi.Task) (cleared, error) {
	done := cleared{Task: t}
	if !t.IsPending {
		done.fate = clearBegun
		return done, nil
	}
	var run journal.Run
	if s.journal != nil {
		runs, err := s.journal.runs(ctx, journal.Query{Task: t.ID, Limit: 1})
		if err != nil {
			return done, err
		}
		if len(runs) > 0 {
			run, done.run = runs[0], runs[0].ID
		}
	}
	switch {
	case run.ID != "" && s.dryRun:
		lives, err := s.journal.journal.Owned(run.ID)
		done.fate = clearWould
		if lives {
			done.fate = clearInHand
		}
		return done, err
	case s.dryRun:
		done.fate = clearWould
		return done, nil
	case run.ID == "":
		return s.delete(ctx, done)
	}
	owned, err := s.journal.take(ctx, run.ID)
	if err != nil {
		return done, err
	}
	if !owned {
		done.fate = clearInHand
		return done, nil
	}
	if run, err = s.journal.find(ctx, run.ID); err != nil { // as it is now that nobody else changes it
		return done, err
	}
	if last, _ := run.Task(); last != t.ID || run.NotStarted() {
		return s.delete(ctx, done)
	}
	return s.settle(ctx, done, run)
}

// settle finds out whether a task was started whose run has died, and withdraws it if
// it was not.
func (s sweep) settle(ctx context.Context, done cleared, run journal.Run) (cleared, error) {
	_, env := run.Task()
	last := beforeEnd(run)
	r, err := s.client.Attach(ctx, blueapi.Attachment{
		RunID: run.ID, Plan: run.Plan, TaskID: done.ID, EnvironmentID: env,
		Step: runStep(last.Step), At: last.At, Owned: true,
	})
	if r != nil {
		r.Close()
		done.fate = clearBegun
		return done, nil
	}
	failed, ok := errors.AsType[*blueapi.RunError](err)
	switch {
	case !ok || failed.Reason == blueapi.Abandoned:
		return done, err
	case failed.Word == blueapi.Unknown:
		done.fate, done.err = clearUnknown, err
	}
	return done, nil
}

// delete deletes a task that nobody is known to have sent a request to start of. It is
// looked at right before, and the worker right after.
func (s sweep) delete(ctx context.Context, done cleared) (cleared, error) {
	t, err := s.client.Task(ctx, done.ID)
	if err == nil && !t.IsPending {
		done.fate = clearBegun
		return done, nil
	}
	if err == nil {
		err = s.client.DeleteTask(ctx, done.ID)
	}
	if r := refusal(err); r != nil && r.Status == http.StatusNotFound {
		done.fate = clearGone
		return done, nil
	}
	if err != nil {
		return done, err
	}
	current, err := s.client.WorkerTask(ctx)
	if err != nil || current == done.ID {
		done.fate, done.err = clearUnknown, err
		if err == nil {
			done.err = errBegunAtOnce
		}
	}
	return done, nil
}

var errBegunAtOnce = errors.New("the worker began it at that moment: the plan goes on, and its end cannot be seen")

// cleared lists what became of tasks, one a line, in json as a list.
func (f format) cleared(all []cleared) string {
	var b strings.Builder
	list := make([]any, len(all))
	for i, c := range all {
		list[i] = pyDict{{"task_id", c.ID}, {"plan", c.Request.Name}, {"run_id", orNull(c.run)}, {"deleted", c.fate == clearDeleted}, {"fate", c.words()}}
		fmt.Fprintf(&b, "%s %s: %s\n", c.ID, printable(c.Request.Name), printable(c.words()))
	}
	if f == jsonText {
		return dumps(list, 2) + "\n"
	}
	return b.String()
}

// words say what became of a task.
func (c cleared) words() string {
	switch c.fate {
	case clearWould:
		return "would be deleted"
	case clearGone:
		return "was deleted by somebody else"
	case clearInHand:
		return "left alone: the program that is to start it lives"
	case clearUnknown:
		return fmt.Sprintf("it is not known what became of it: %v", c.err)
	case clearBegun:
		if c.IsComplete {
			return "left alone: it has ended"
		}
		return "left alone: it has begun; 'adamant abort --task " + c.ID + "' ends it"
	case clearDeleted:
	}
	return "deleted"
}
