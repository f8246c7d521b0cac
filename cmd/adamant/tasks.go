package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

func (a *app) tasksCommand() *cobra.Command {
	f := compact
	var status taskStatus
	var plan string
	var mine bool
	cmd := &cobra.Command{
		Use:   "tasks [OPTIONS]",
		Short: "List the tasks that the server knows",
		Long: `List the tasks that the server knows: those that wait or run, then those that
are over. It forgets them all at a restart or reload.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			ctx := cmd.Context()
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			tasks, err := c.Tasks(ctx, blueapi.TaskStatus(status))
			if err != nil {
				return a.failed(ctx, c, "", err)
			}
			if plan != "" {
				tasks = slices.DeleteFunc(tasks, func(t blueapi.Task) bool { return t.Request.Name != plan })
			}
			if mine {
				if tasks, err = a.ownTasks(ctx, c, tasks); err != nil {
					return err
				}
			}
			text, err := f.tasks(tasks)
			if err != nil {
				return err
			}
			return a.ui.result(text)
		},
	}
	flags := cmd.Flags()
	flags.Var(&status, "status", "only these; a paused or failed task counts as complete on the server")
	flags.StringVar(&plan, "plan", "", "only those of this `PLAN`")
	flags.BoolVar(&mine, "mine", false, "only those that you started from this machine")
	a.addOwn(flags, &f)
	return cmd
}

// ownTasks returns those of tasks that the journal knows.
func (a *app) ownTasks(ctx context.Context, c *blueapi.Client, tasks []blueapi.Task) ([]blueapi.Task, error) {
	j, err := a.knownRuns(ctx, c)
	if err != nil {
		return nil, a.endOfJournal(ctx, err)
	}
	defer j.close()
	own, err := j.tasks(ctx)
	if err != nil {
		return nil, a.endOfJournal(ctx, err)
	}
	return slices.DeleteFunc(tasks, func(t blueapi.Task) bool { return !own[t.ID] }), nil
}

// taskStatus is a status of tasks as a user gives it, or "" for all.
type taskStatus blueapi.TaskStatus

// Set reads a status.
func (s *taskStatus) Set(text string) error {
	status := blueapi.TaskStatus(strings.ToUpper(text))
	known := []blueapi.TaskStatus{blueapi.TaskPending, blueapi.TaskRunning, blueapi.TaskComplete, blueapi.TaskError}
	if !slices.Contains(known, status) {
		return fmt.Errorf("'%s' is not one of 'pending', 'running', 'complete', 'error'", text)
	}
	*s = taskStatus(status)
	return nil
}

func (s *taskStatus) String() string { return "" }

// Type is how the help shows what to give.
func (s *taskStatus) Type() string { return "[pending|running|complete|error]" }

// tasks lists tasks, one a line if compact, in json as a list.
func (f format) tasks(tasks []blueapi.Task) (string, error) {
	var b strings.Builder
	list := make([]any, len(tasks))
	width := 0
	for _, t := range tasks {
		width = max(width, utf8.RuneCountInString(oneLine(t.Request.Name)))
	}
	for i, t := range tasks {
		switch f {
		case jsonText:
			dict, err := taskDict(t)
			if err != nil {
				return "", err
			}
			list[i] = dict
		case full:
			text, err := f.task(t)
			if err != nil {
				return "", err
			}
			b.WriteString(text)
		default:
			line := fmt.Sprintf("%-36s  %-8s  %-*s  %s",
				t.ID, taskState(t), width, oneLine(t.Request.Name), oneLine(shortOutcome(t.Outcome)))
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	if f == jsonText {
		return dumps(list, 2) + "\n", nil
	}
	return b.String(), nil
}

// shortOutcome says in a few words how a task ended.
func shortOutcome(o *blueapi.Outcome) string {
	switch {
	case o == nil:
		return ""
	case o.Kind != "error":
		return o.Kind
	case o.Type == interruptedType:
		return "paused, aborted or stopped"
	}
	return o.Type + ": " + o.Message
}

// interruptedType is the type of the outcome of a plan that was paused, aborted or
// stopped (1.21).
const interruptedType = "RunEngineInterrupted"

// oneLine shows a text of any length in one line of a table.
func oneLine(s string) string {
	const most = 60
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "..."
	}
	return printable(s)
}
