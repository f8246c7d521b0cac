package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

// controlOptions are the options of a control command.
type controlOptions struct {
	command blueapi.Command
	yes     bool          // a resume needs no confirmation
	timeout time.Duration // 0: as long as it takes
}

// isTaskID tells what can be nothing but the id of a task, which is a UUID (1.21).
func isTaskID(s string) bool {
	_, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	return err == nil && len(s) == 36 && strings.Count(s, "-") == 4
}

// controlTimeout is how long a command of adamant's own takes at most, besides
// --wait, if the user does not say: more than its guard, its send and the reading
// of its effect need in an outage of some seconds.
const controlTimeout = time.Minute

// controlCommand is the command of a verb.
func (a *app) controlCommand(verb blueapi.Verb, v voice) *cobra.Command {
	o := controlOptions{command: blueapi.Command{Verb: verb}}
	f := compact
	cmd := &cobra.Command{
		Use:  verb.String() + " [OPTIONS]",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			most := 0
			if verb == blueapi.Abort {
				most = 1
			}
			if err := atMost(cmd, args, most); err != nil {
				return err
			}
			if len(args) > 0 && v == asAdamant && isTaskID(args[0]) {
				return usageError{cmd, fmt.Sprintf("%s is the id of a task: write --task %[1]s. What is given without that is the reason.", args[0])}
			}
			if len(args) > 0 {
				o.command.Reason = args[0]
			}
			return a.control(cmd.Context(), o, f)
		},
	}
	flags := cmd.Flags()
	switch verb {
	case blueapi.Pause:
		cmd.Short = "Pause the plan that runs"
		addToggle(flags, &toggle[bool]{target: &o.command.Defer, on: true, parse: either(true, false)}, "defer", "",
			"let it go on to its next checkpoint")
	case blueapi.Resume:
		cmd.Short = "Resume the plan that is paused"
	case blueapi.Abort:
		cmd.Use = "abort [OPTIONS] [REASON]"
		cmd.Short = "End the plan that runs, and mark its data as failed"
	case blueapi.Stop:
		cmd.Short = "End the plan that runs, and mark its data as good"
	}
	if v == asBlueapi {
		return cmd
	}
	cmd.Long = cmd.Short + `.

It is sent only while the worker was seen to have the task within the last
second. If another plan may have been reached instead, that is said.

Without --task it is meant for the run that you began from this machine and that
has no end, if the worker has it or may yet start it; otherwise for the one that
runs, and then it is said whose that is.`
	cmd.Example = statusTable
	flags.Var((*taskOption)(&o.command.TaskID), "task", "the `ID` of the task that it is meant for (yours, or else the one that runs)")
	timeout := "give up after that (1m, and what --wait allows)"
	if verb == blueapi.Resume {
		cmd.Long = cmd.Short + ", and wait for its end.\n\n" + aboutResume + "\nAt a terminal you are asked whether to go on."
		timeout = "give up waiting after that; the plan goes on (never)"
		flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	} else {
		o.timeout = controlTimeout
	}
	flags.Var((*duration)(&o.timeout), "timeout", timeout)
	a.addOwn(flags, &f)
	return cmd
}

// control sends a control command and ends with what became of it.
func (a *app) control(ctx context.Context, o controlOptions, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if o.command.Verb == blueapi.Resume {
		if err := a.warnOfResume(ctx, c, o, f); err != nil {
			return err
		}
	}
	limited, cancel := withTimeout(ctx, o.timeout, c.Wait)
	defer cancel()
	result, err := a.command(limited, c, o.command)
	e := endOfControl(a.ui.voice, f, o.command, result, err, ctx.Err() != nil)
	if refusal(err) != nil {
		e.msg += a.whyBroken(ctx, c, err)
	}
	return e
}

// command sends a control command. One of adamant's own that names no task is for the
// user's run.
func (a *app) command(ctx context.Context, c *blueapi.Client, command blueapi.Command) (blueapi.ControlResult, error) {
	var own *runJournal
	if a.ui.voice == asAdamant {
		own = a.ownRuns(ctx, c)
		defer own.close()
	}
	if command.TaskID == "" && a.ui.voice == asAdamant {
		var err error
		if command.TaskID, err = a.ownTask(ctx, c, own); err != nil {
			return blueapi.ControlResult{}, unasked(ctx, command.Verb, err)
		}
	}
	if command.Verb == blueapi.Resume {
		defer a.ui.progress("the resumed plan to end")()
	}
	result, err := c.Control(ctx, command)
	if result.Effect == blueapi.TaskWithdrawn && result.Checked {
		own.noteWithdrawn(ctx, result.TaskID)
	}
	return result, err
}

// aboutResume is what must be known before a plan is resumed (measured on 1.21.1).
const aboutResume = `A resumed plan that emits a document is aborted by the server (blueapi 1.21).
Until it ends, the server answers nothing else: it cannot be aborted or stopped.
How it ended is recorded nowhere.
`

// warnOfResume says what a resume does, if there is a plan to resume, and asks at a
// terminal whether to go on.
func (a *app) warnOfResume(ctx context.Context, c *blueapi.Client, o controlOptions, f format) error {
	state, err := c.WorkerState(ctx)
	if err != nil {
		if a.ui.voice == asBlueapi {
			return a.failed(ctx, c, "", err)
		}
		e := endOfControl(a.ui.voice, f, o.command, blueapi.ControlResult{}, unasked(ctx, o.command.Verb, err), ctx.Err() != nil)
		e.msg += a.whyBroken(ctx, c, err)
		return e
	}
	if state != blueapi.StatePaused || o.yes {
		return nil // there is nothing to resume, which the command will say
	}
	a.ui.message("adamant: " + aboutResume[:len(aboutResume)-1])
	if a.ui.voice == asBlueapi || !a.ui.canAsk() {
		return nil
	}
	agreed, err := a.ui.ask(ctx, "Resume the plan?")
	switch {
	case err != nil:
		return endOfInterrupt(a.ui.voice)
	case !agreed:
		return ending{msg: a.ui.voice.errorf("not resumed"), status: statusError}
	}
	return nil
}

// withTimeout limits a context to a time, 0 being no limit, and what may be waited
// for a server that is away.
func withTimeout(ctx context.Context, limit, wait time.Duration) (context.Context, context.CancelFunc) {
	if limit == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit+wait)
}
