package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
)

// reloadTimeout is how long a new environment is waited for unless the user says:
// four times what the server needs that first waits for a plan to end (1.21.1: 30 s).
const reloadTimeout = 2 * time.Minute

// envOptions are the options of adamant's own env.
type envOptions struct {
	reload, force bool
	timeout       time.Duration
}

func (a *app) envCommand() *cobra.Command {
	o, f := envOptions{timeout: reloadTimeout}, compact
	cmd := &cobra.Command{
		Use:   "env [OPTIONS]",
		Short: "Show the environment of plans and devices, or load it anew",
		Long: `Show the environment of plans and devices, or load it anew.

A reload makes the server forget all its tasks. It is refused while a plan runs
or is paused: the plan would go on moving hardware, unseen, and the server would
say IDLE and take other plans beside it. Plans and devices that were added or
removed are listed.`,
		Example: statusTable,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			if o.force && !o.reload {
				return usageError{cmd, "--force is an option of --reload."}
			}
			if o.reload {
				return a.reloadEnv(cmd.Context(), o, f)
			}
			return a.showEnv(cmd.Context(), f.environment)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.reload, "reload", "r", false, "load it anew, and wait until that is done")
	flags.BoolVar(&o.force, "force", false, "reload even if a plan runs")
	flags.Var((*duration)(&o.timeout), "timeout", "wait no longer for the new environment (2m)")
	a.addOwn(flags, &f)
	return cmd
}

func (a *app) controllerEnv() *cobra.Command {
	var reload bool
	timeout := float(10)
	cmd := &cobra.Command{
		Use:   "env [OPTIONS]",
		Short: "Show the environment of plans and devices, or load it anew",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			if reload {
				return a.controllerReload(cmd.Context(), float64(timeout))
			}
			return a.showEnv(cmd.Context(), environmentRepr) // blueapi has one format for it
		},
	}
	flags := cmd.Flags()
	addToggle(flags, &toggle[bool]{target: &reload, on: true, parse: either(true, false)}, "reload", "r",
		"load it anew, and wait until that is done")
	flags.VarP(&timeout, "timeout", "t", "wait no longer for the new environment, in seconds (10)")
	return cmd
}

func (a *app) showEnv(ctx context.Context, format func(blueapi.Environment) string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	env, err := c.Environment(ctx)
	if err != nil {
		return a.failed(ctx, c, "", err)
	}
	return a.ui.result(format(env))
}

// reloadEnv reloads the environment and says what is new in it.
func (a *app) reloadEnv(ctx context.Context, o envOptions, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	limit := o.timeout
	if limit == 0 {
		limit = math.MaxInt64
	}
	limited, cancel := untilOverdue(ctx, c, limit)
	defer cancel()
	before, err := inventoryOf(ctx, c)
	if err != nil {
		e := &blueapi.ReloadError{Reason: blueapi.ReloadUnreachable, Err: err}
		if denied(refusal(err)) {
			e.Reason = blueapi.ReloadDenied
		}
		return endOfReload(f, e, ctx.Err() != nil, "")
	}
	stop := a.ui.progress("the new environment")
	env, err := c.Reload(limited, o.force)
	stop()
	if e, ok := errors.AsType[*blueapi.ReloadError](err); ok {
		return endOfReload(f, e, ctx.Err() != nil, planOf(ctx, c, e.TaskID))
	}
	after, err := inventoryOf(ctx, c)
	if err != nil {
		after = nil // the reload is done all the same
	}
	return a.ui.result(f.reloaded(env, before, after))
}

// controllerReload does what blueapi's client does: it reloads, whether or not a plan
// runs.
func (a *app) controllerReload(ctx context.Context, seconds float64) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := a.ui.result("Reloading environment\n"); err != nil {
		return err
	}
	limited, cancel := untilOverdue(ctx, c, durationOf(seconds))
	defer cancel()
	stop := a.ui.progress("the new environment")
	env, err := c.Reload(limited, false)
	if e, ok := errors.AsType[*blueapi.ReloadError](err); ok && !e.Sent {
		switch {
		case e.Reason == blueapi.PlanActive:
			a.ui.message("adamant: " + active(e, planOf(ctx, c, e.TaskID)) + ": " + leftBehind)
			env, err = c.Reload(limited, true)
		case e.Reason == blueapi.ReloadUnreachable && refusal(e.Err) != nil: // by a worker that cannot say what it does
			env, err = c.Reload(limited, true)
		}
	}
	stop()
	if e, ok := errors.AsType[*blueapi.ReloadError](err); ok {
		return endOfControllerReload(e, ctx.Err() != nil, seconds)
	}
	return a.ui.result("Environment is initialized\n" + environmentRepr(env))
}

// untilOverdue returns a context that ends some time after the server was last asked
// to reload, by a client that is not in use yet. It counts from then, as blueapi's
// client does, so that an outage before it is no reload that takes too long, nor is a
// request that was lost.
func untilOverdue(ctx context.Context, c *blueapi.Client, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	var mu sync.Mutex
	var timer *time.Timer
	c.Trace = retry.JoinTraces(c.Trace, &retry.Trace{Ended: func(_ context.Context, e retry.EndInfo) {
		if e.Op != "DELETE /environment" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		timer = time.AfterFunc(limit, cancel)
	}})
	context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	})
	return ctx, cancel
}

// planOf is the name of a task's plan, or "" if the server cannot tell.
func planOf(ctx context.Context, c *blueapi.Client, task string) string {
	if task == "" {
		return ""
	}
	t, err := c.Task(ctx, task)
	if err != nil {
		return ""
	}
	return t.Request.Name
}

// inventory is what an environment has, by name.
type inventory struct{ plans, devices []string }

// inventoryOf reads what the environment has; nil if it is broken.
func inventoryOf(ctx context.Context, c *blueapi.Client) (*inventory, error) {
	plans, err := c.Plans(ctx)
	if err != nil {
		return nil, unlessBroken(err)
	}
	devices, err := c.Devices(ctx)
	if err != nil {
		return nil, unlessBroken(err)
	}
	var i inventory
	for _, p := range plans {
		i.plans = append(i.plans, p.Name)
	}
	for _, d := range devices {
		i.devices = append(i.devices, d.Name)
	}
	return &i, nil
}

// unlessBroken forgets the error of a server whose environment is broken.
func unlessBroken(err error) error {
	if r := refusal(err); r != nil && r.Status == http.StatusInternalServerError {
		return nil
	}
	return err
}

// without lists what is in a and not in b.
func without(a, b []string) []any {
	left := []any{}
	for _, name := range a {
		if !slices.Contains(b, name) {
			left = append(left, name)
		}
	}
	return left
}

// environmentRepr is how Python shows blueapi's EnvironmentResponse.
func environmentRepr(e blueapi.Environment) string {
	return fmt.Sprintf("environment_id=UUID(%s) initialized=%s error_message=%s\n",
		pyQuote(e.ID), pyRepr(e.Initialized), pyRepr(pyText(e.ErrorMessage)))
}

// environment shows an environment.
func (f format) environment(e blueapi.Environment) string {
	if f == jsonText {
		return dumps(environmentDict(e), 0) + "\n"
	}
	state := "not initialized"
	if e.Initialized {
		state = "initialized"
	}
	if e.ErrorMessage != nil {
		state += ": " + *e.ErrorMessage
	}
	return e.ID + " " + state + "\n"
}

func environmentDict(e blueapi.Environment) pyDict {
	return withExtra(pyDict{
		{"environment_id", e.ID}, {"initialized", e.Initialized}, {"error_message", pyText(e.ErrorMessage)},
	}, e.Extra)
}

// reloaded shows a new environment and what it has that the one before had not, if
// both are known.
func (f format) reloaded(e blueapi.Environment, before, after *inventory) string {
	known := before != nil && after != nil
	if !known {
		before, after = new(inventory), new(inventory)
	}
	var changes pyDict
	var b strings.Builder
	for _, kind := range []struct {
		name, one string
		old, now  []string
	}{{"plans", "plan", before.plans, after.plans}, {"devices", "device", before.devices, after.devices}} {
		added, removed := without(kind.now, kind.old), without(kind.old, kind.now)
		changes = append(changes, pyItem{kind.name, pyDict{{"added", added}, {"removed", removed}}})
		for _, name := range added {
			fmt.Fprintf(&b, "%s added: %s\n", kind.one, name)
		}
		for _, name := range removed {
			fmt.Fprintf(&b, "%s removed: %s\n", kind.one, name)
		}
	}
	switch {
	case f != jsonText:
		return f.environment(e) + b.String()
	case !known:
		changes = pyDict{{"plans", nil}, {"devices", nil}}
	}
	return dumps(append(environmentDict(e), changes...), 0) + "\n"
}

// durationOf is a number of seconds as a duration, as far as that can say it.
func durationOf(seconds float64) time.Duration {
	switch {
	case !(seconds > 0): // not a number too
		return 0
	case seconds > math.MaxInt64/float64(time.Second):
		return math.MaxInt64
	}
	return time.Duration(seconds * float64(time.Second))
}
