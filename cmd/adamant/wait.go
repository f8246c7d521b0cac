package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

func (a *app) waitCommand() *cobra.Command {
	var timeout time.Duration
	f := compact
	cmd := &cobra.Command{
		Use:   "wait [OPTIONS] [TASK]",
		Short: "Wait quietly for the end of a run",
		Long: `Wait quietly for the end of a run, show how the plan ended, and exit as run does.

It is 'adamant attach' for scripts: nothing is shown meanwhile and nothing asked,
and an interrupt ends the waiting, not the plan.`,
		Example: statusTable,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			task, err := oneAtMost(cmd, args, "TASK")
			if err != nil {
				return err
			}
			a.ui.quiet = true
			return a.waitFor(cmd.Context(), task, timeout, f)
		},
	}
	flags := cmd.Flags()
	flags.Var((*duration)(&timeout), "timeout", "wait no longer than that: the plan goes on (for ever)")
	a.addOwn(flags, &f)
	return cmd
}

// waitFor waits for the end of a run.
func (a *app) waitFor(ctx context.Context, task string, timeout time.Duration, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	limited, cancel := withTimeout(ctx, timeout, 0)
	defer cancel()
	t, err := a.findTarget(ctx, limited, c, task)
	if err != nil {
		return err
	}
	defer t.journal.close()
	w := &follower{app: a, client: c, plan: t.run.Plan, o: runOptions{timeout: timeout}, f: f}
	c.RunTrace = &blueapi.RunTrace{
		Paused:  func(string) { w.pausedNow(true) },
		Resumed: func(string) { w.pausedNow(false) },
	}
	r, result, err := a.takeUp(limited, c, &t, true)
	if r == nil {
		return a.endOfPast(ctx, c, t.run, f, timeout, result, err)
	}
	defer r.Close()
	result, err = r.Wait(limited)
	return w.end(ctx, nil, result, err)
}
