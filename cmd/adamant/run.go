package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

// runOptions are the options of both run commands.
type runOptions struct {
	session string
	ground  ground
	follow  follow
	unused  float         // blueapi's timeout: accepted and, as there, not used
	timeout time.Duration // how long the plan is waited for; 0 is until its end

	given   *params // to be made out with the plan's schema; nil if the request has them
	noCheck bool
	dryRun  bool
}

// ground is whether a run is waited for.
type ground int

const (
	unsaidGround ground = iota // foreground
	foreground
	background
)

// follow is the way in which a run is followed.
type follow int

const (
	unsaidFollow follow = iota
	byWebSocket
	byStomp
)

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	f := compact
	cmd := a.newRunCommand(&o, &f)
	cmd.Use = "run [OPTIONS] NAME [PARAMETERS]..."
	cmd.Long = `Run a plan, once, and wait for its end.

The plan is never started a second time. If the server cannot be reached, is
busy or is lost on the way, the exit status says what became of the run.

` + aboutParams
	cmd.Example = statusTable
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request, err := givenRequest(cmd, args, &o)
		if err != nil {
			return err
		}
		return a.run(cmd.Context(), request, o, f)
	}
	cmd.ValidArgsFunction = a.completeRun
	flags := cmd.Flags()
	rename(flags, "instrument-session", "INSTRUMENT_SESSION", "BLUEAPI_CONTROLLER_RUN_INSTRUMENT_SESSION")
	addToggle(flags, &toggle[ground]{target: &o.ground, on: background}, "bg", "",
		"print the task's id when the plan has started, and do not wait")
	flags.BoolVar(&o.noCheck, "no-check", false, "leave it to the server to check the parameters")
	flags.BoolVar(&o.dryRun, "dry-run", false, "check the parameters and print what would be submitted, in JSON; submit nothing")
	flags.Var((*duration)(&o.timeout), "timeout", "wait no longer than that: the plan goes on (until its end)")
	a.addOwn(flags, &f)
	return cmd
}

func (a *app) controllerRun() *cobra.Command {
	var o runOptions
	f := compact // blueapi has one format for it
	cmd := a.newRunCommand(&o, &f)
	flags := cmd.Flags()
	addToggle(flags, &toggle[ground]{target: &o.ground, on: foreground, parse: either(foreground, background)},
		"foreground", "", "wait for the end of the plan (the default)", "fg")
	addToggle(flags, &toggle[ground]{target: &o.ground, on: background}, "background", "",
		"print the task's id when the plan has started, and do not wait", "bg")
	addToggle(flags, &toggle[follow]{target: &o.follow, on: byWebSocket, parse: either(byWebSocket, byStomp)},
		"ws", "", "accepted; the run is followed by asking for its state")
	addToggle(flags, &toggle[follow]{target: &o.follow, on: byStomp}, "stomp", "",
		"accepted if a broker is configured; the run is followed by asking for its state")
	flags.VarP(&o.unused, "timeout", "t", "accepted, and not used: blueapi does not use it either")
	return cmd
}

func (a *app) newRunCommand(o *runOptions, f *format) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] NAME [PARAMETERS]",
		Short: "Run a plan with parameters",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := runRequest(cmd, args, o)
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), request, *o, *f)
		},
	}
	cmd.Flags().StringVarP(&o.session, "instrument-session", "i", "", "whose data it is, such as cm12345-1 (required)")
	return cmd
}

// runRequest checks the arguments in click's order, so that the first mistake
// of several is the one that blueapi reports.
func runRequest(cmd *cobra.Command, args []string, o *runOptions) (r blueapi.TaskRequest, err error) {
	if len(args) == 0 {
		return r, usageError{cmd, "Missing argument 'NAME'."}
	}
	r.Name, r.Params = args[0], json.RawMessage("{}")
	if len(args) > 1 {
		if r.Params, err = parameters(args[1]); err != nil {
			return r, usageError{cmd, fmt.Sprintf("Invalid value for '[PARAMETERS]': Parameters %v", err)}
		}
	}
	if !cmd.Flags().Changed("instrument-session") {
		return r, usageError{cmd, "Missing option '-i' / '--instrument-session'."}
	}
	r.InstrumentSession = o.session
	return r, atMost(cmd, args, 2)
}

// parameters reads the JSON object that a plan's parameters are given as. An
// error says what the parameters are or must be.
func parameters(text string) (json.RawMessage, error) {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		at := ""
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = fmt.Sprintf(" (char %d)", max(e.Offset-1, 0)) // counted as Python counts
		}
		return nil, fmt.Errorf("are not valid JSON: %w%s", err, at)
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, errNotObject
	}
	return json.RawMessage(text), nil
}

// run runs a plan and ends with what became of it.
func (a *app) run(ctx context.Context, request blueapi.TaskRequest, o runOptions, f format) error {
	if err := a.checkFollow(o); err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	limited, cancel := withTimeout(ctx, o.timeout, 0)
	defer cancel()
	watching, stop := context.WithCancelCause(limited)
	defer stop(nil)
	c.RunTrace = a.ui.observer(a.level).runs()
	if a.ui.voice == asBlueapi {
		c.RunTrace.Paused = func(string) { stop(errPaused) } // as blueapi: its run ends there
	}

	end := func(result blueapi.Result, err error) error {
		if overdue(result) && ctx.Err() == nil {
			return endOfTimeout(f, request.Name, result, o.timeout)
		}
		e := endOfRun(a.ui.voice, f, request.Name, result, err)
		e.msg += a.whyBroken(ctx, c, err)
		return e
	}
	if done, err := a.prepare(limited, c, &request, o); done || err != nil {
		if failed, ok := errors.AsType[*blueapi.RunError](err); ok {
			return end(failed.Result, err)
		}
		return err
	}
	r, err := c.Start(limited, request)
	if err != nil {
		failed, _ := errors.AsType[*blueapi.RunError](err)
		return end(failed.Result, err)
	}
	if o.ground == background {
		return a.ui.result(startedText(r.TaskID(), f))
	}
	result, err := r.Wait(watching)
	if errors.Is(context.Cause(watching), errPaused) {
		result.Word, result.Reason, err = blueapi.Done, blueapi.NotRecorded, nil
	}
	return end(result, err)
}

func startedText(task string, f format) string {
	if f == jsonText {
		return dumps(pyDict{{"task_id", task}}, 0) + "\n"
	}
	return task + "\n"
}

// checkFollow refuses what blueapi refuses, and says what is done instead of
// what it would do.
func (a *app) checkFollow(o runOptions) error {
	if o.ground == background || o.follow == unsaidFollow {
		return nil
	}
	if o.follow == byWebSocket {
		a.ui.note("--ws: following by asking for the plan's state; " +
			"the server aborts a plan whose web socket is lost")
		return nil
	}
	c, err := a.config()
	if err != nil {
		return err
	}
	if !c.Stomp.Enabled {
		return ending{
			msg:    a.ui.voice.errorf("Stomp configuration required to run plans is missing or disabled"),
			status: statusError,
		}
	}
	return nil
}

var (
	errNotObject = errors.New("must be a JSON object with string keys")
	errPaused    = errors.New("the plan was paused by somebody")
)
