package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

func (a *app) taskCommand() *cobra.Command {
	f := compact
	cmd := &cobra.Command{
		Use:   "task [OPTIONS] ID",
		Short: "Show what the server knows of a task",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{cmd, "Missing argument 'ID'."}
			}
			if err := atMost(cmd, args, 1); err != nil {
				return err
			}
			if err := notEmpty(cmd, args[0], "ID"); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			task, err := c.Task(cmd.Context(), args[0])
			if r := refusal(err); r != nil && r.Status == http.StatusNotFound {
				return ending{
					msg:    a.ui.voice.errorf("the server has no task %s; it forgets them all at a restart or reload", args[0]),
					status: statusError,
				}
			}
			if err != nil {
				return a.failed(cmd.Context(), c, "", err)
			}
			text, err := f.task(task)
			if err != nil {
				return err
			}
			return a.ui.result(text)
		},
	}
	a.addOwn(cmd.Flags(), &f)
	return cmd
}

// task shows one task.
func (f format) task(t blueapi.Task) (string, error) {
	if f == jsonText {
		dict, err := taskDict(t)
		if err != nil {
			return "", err
		}
		return dumps(dict, 0) + "\n", nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\n", t.ID, t.Request.Name, taskState(t))
	if t.Outcome != nil {
		text, err := outcomeText(*t.Outcome)
		if err != nil {
			return "", err
		}
		b.WriteString(indentText(text, "    "))
	}
	if f != full {
		return b.String(), nil
	}
	params, err := parsePython(t.Request.Params)
	if err != nil {
		return "", err
	}
	metadata, err := parsePython(t.Request.Metadata)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "    Parameters\n%s\n", indentText(dumps(params, 2), "        "))
	fmt.Fprintf(&b, "    Metadata\n%s\n", indentText(dumps(metadata, 2), "        "))
	for _, text := range t.Errors {
		fmt.Fprintf(&b, "    Error\n%s\n", indentText(strings.TrimFunc(text, isPySpace), "        "))
	}
	return b.String(), nil
}

func taskDict(t blueapi.Task) (pyDict, error) {
	params, err := parsePython(t.Request.Params)
	if err != nil {
		return nil, err
	}
	metadata, err := parsePython(t.Request.Metadata)
	if err != nil {
		return nil, err
	}
	outcome, err := outcomeDict(t.Outcome)
	if err != nil {
		return nil, err
	}
	return withExtra(pyDict{
		{"task_id", t.ID},
		{"task", pyDict{{"name", t.Request.Name}, {"params", params}, {"metadata", metadata}}},
		{"request_id", pyText(t.RequestID)},
		{"is_complete", t.IsComplete},
		{"is_pending", t.IsPending},
		{"errors", pyTexts(t.Errors)},
		{"outcome", outcome},
	}, t.Extra), nil
}

// taskState says how far a task is. A paused one counts as complete on the
// server.
func taskState(t blueapi.Task) string {
	switch {
	case t.IsPending:
		return "pending"
	case t.IsComplete:
		return "complete"
	default:
		return "running"
	}
}
