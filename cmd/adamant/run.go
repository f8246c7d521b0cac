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
	// atTimeout is what becomes of the plan then.
	atTimeout atTimeout
	waitIdle  bool // wait until no other plan runs
	journal   journalOptions

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
		if err := unwatched(cmd, o); err != nil {
			return err
		}
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
	addToggle(flags, &toggle[follow]{target: &o.follow, on: byWebSocket}, "ws", "",
		"run over a web socket: the server aborts the plan if that is lost")
	flags.BoolVar(&o.noCheck, "no-check", false, "leave it to the server to check the parameters")
	flags.BoolVar(&o.dryRun, "dry-run", false, "check the parameters and print what would be submitted, in JSON; submit nothing")
	flags.Var((*duration)(&o.timeout), "timeout", "wait no longer than that for the plan's end (for ever)")
	flags.Var(&o.atTimeout, "at-timeout", "what becomes of a plan that takes longer (leave: it goes on)")
	flags.BoolVar(&o.waitIdle, "wait-idle", false, "if another plan runs, wait until it has ended")
	o.journal.add(flags)
	a.addOwn(flags, &f)
	return cmd
}

// unwatched refuses what would be done while the plan is watched, if it is not.
func unwatched(cmd *cobra.Command, o runOptions) error {
	for _, name := range []string{"ws", "at-timeout"} {
		if o.ground == background && cmd.Flags().Changed(name) {
			return usageError{cmd, fmt.Sprintf("--bg and --%s exclude each other: nobody watches the plan.", name)}
		}
	}
	return nil
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
		"ws", "", "run over a web socket: the server aborts the plan if that is lost")
	addToggle(flags, &toggle[follow]{target: &o.follow, on: byStomp}, "stomp", "",
		"follow by the broker's events, which are used anyway if a broker is configured")
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
	w, err := a.follower(c, request.Name, o, f)
	if err != nil {
		return err
	}
	defer w.close()
	if done, err := a.prepare(limited, c, &request, o); done || err != nil {
		if failed, ok := errors.AsType[*blueapi.RunError](err); ok {
			return w.end(ctx, nil, failed.Result, err)
		}
		return err
	}
	j, err := a.openJournal(limited, c, o.journal)
	if err != nil {
		return err
	}
	defer j.close()
	w.recordIn(j)
	if o.follow == byWebSocket && o.ground != background {
		if done, err := w.overWebSocket(ctx, limited, j, request); done {
			return err
		}
	}
	r, err := w.startOnce(limited, j, request)
	if failed, ok := errors.AsType[*blueapi.RunError](err); ok {
		if failed.Word == blueapi.Unknown && w.mustEnd(ctx, limited, failed.Result) {
			return w.settle(ctx, j, failed)
		}
		return w.end(ctx, nil, failed.Result, err)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if o.ground == background {
		return a.ui.result(startedText(r.TaskID(), f))
	}
	return w.follow(ctx, limited, r)
}

// start starts the plan, after others if the user will wait for them.
func (w *follower) start(ctx context.Context, request blueapi.TaskRequest) (*blueapi.Run, error) {
	for {
		hope := w.o.waitIdle && w.waitIdle(ctx)
		r, err := w.client.Start(ctx, request)
		failed, ok := errors.AsType[*blueapi.RunError](err)
		if !ok || !hope || !w.startAgain(ctx, failed.Result) {
			return r, err
		}
	}
}

// startAgain reports whether a plan of a user who waits for others was not started because
// of one, and time is left. Then a moment has passed.
func (w *follower) startAgain(ctx context.Context, r blueapi.Result) bool {
	return r.Reason == blueapi.Busy && sleep(ctx, idlePoll)
}

// sleep waits, and reports whether the context has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// idlePoll is how often it is looked whether the worker is idle.
const idlePoll = time.Second

// waitIdle waits until no plan runs and none is paused. If that cannot be read the start
// will tell why. There is no hope for that if the worker has panicked: then the
// environment must be reloaded.
func (w *follower) waitIdle(ctx context.Context) (hope bool) {
	stop := func() {}
	defer func() { stop() }()
	for said := blueapi.WorkerState(""); ; {
		state, err := w.client.WorkerState(ctx)
		switch {
		case err != nil, state == blueapi.StateIdle:
			return true
		case state == blueapi.StatePanicked:
			return false
		}
		if state != said {
			stop()
			stop = w.app.ui.progress(fmt.Sprintf("the other plan to end (the worker is %s)", state))
			said = state
		}
		if !sleep(ctx, idlePoll) {
			return false
		}
	}
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
		a.ui.note("--ws: the server aborts the plan if its connection is lost, as in a short outage; without --ws it does not")
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

var errNotObject = errors.New("must be a JSON object with string keys")
