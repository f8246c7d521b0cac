package blueapi

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"github.com/adamant-go/adamant/retry"
)

const (
	// reloadPoll is the time between two looks at the environment (blueapi's own
	// client takes half a second too).
	reloadPoll = 500 * time.Millisecond
	// idleReloadLimit is reloadLimit for a worker that was idle, which stops in
	// 1.3 s (1.21.1, its demo devices). A second request while it stops makes the
	// server reload twice.
	idleReloadLimit = 40 * time.Second
	// lostReloadLimit is the same when the request was not answered, so that it is
	// likely that it never arrived.
	lostReloadLimit = 6 * time.Second
)

// ReloadReason says why a reload failed.
type ReloadReason int

// The reasons of a ReloadError.
const (
	// PlanActive: a plan runs, starts or is paused. Nothing was sent.
	PlanActive ReloadReason = iota + 1
	// ReloadUnreachable: the server could not be asked. Nothing was sent.
	ReloadUnreachable
	// ReloadDenied: the server refused.
	ReloadDenied
	// ReloadFailed: there is a new environment, and loading it failed. Its
	// ErrorMessage says why.
	ReloadFailed
	// ReloadOverdue: the caller's context ended, or the server stopped answering,
	// before a new environment was seen. It may still come.
	ReloadOverdue
	// ReloadHangs: no new environment came, though the server was asked twice. It
	// has to be restarted.
	ReloadHangs
)

// ReloadError says why the environment was not reloaded, as far as is known.
type ReloadError struct {
	Reason ReloadReason
	// Environment is as last read.
	Environment Environment
	// State and TaskID are the worker's, if Reason is PlanActive.
	State  WorkerState
	TaskID string
	// Sent tells that the server may have been asked to reload.
	Sent bool
	// Err is the cause, if there is one.
	Err error
}

// Unwrap returns the cause.
func (e *ReloadError) Unwrap() error { return e.Err }

// Verdict says what the reload means to a call around it that retries: it is tried
// again if the server was not asked, because it was away or busy with a plan.
func (e *ReloadError) Verdict() retry.Verdict {
	switch e.Reason {
	case ReloadUnreachable:
		return retry.NotSent
	case PlanActive:
		return retry.Rejected
	}
	return retry.Fatal
}

func (e *ReloadError) Error() string {
	var s string
	switch e.Reason {
	case PlanActive:
		return fmt.Sprintf("the environment was not reloaded: task %s is active (worker %s), and its plan would go on unseen", e.TaskID, e.State)
	case ReloadUnreachable:
		s = "the environment was not reloaded: nothing was sent"
	case ReloadDenied:
		s = "the environment was not reloaded: the server refused"
	case ReloadFailed:
		s = "the environment was reloaded, and loading it failed"
		if e.Environment.ErrorMessage != nil {
			s += ": " + *e.Environment.ErrorMessage
		}
	case ReloadOverdue:
		s = "no new environment was seen in time; it may still come"
	case ReloadHangs:
		return "the server was asked twice and shows no new environment: it hangs, and has to be restarted"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Reload has the server make a new environment, and waits for it. All tasks are
// forgotten. Until the new environment shows, nothing else is sent by this client,
// whose other calls wait: a request that arrives while the old worker is being
// stopped can make the server hang for good (1.21.1).
//
// A server whose plan runs, starts or is paused is left alone, unless force is
// set: the plan would go on moving hardware, unseen, beside a worker that says it is
// idle. The error is nil or a [*ReloadError].
//
// How long to wait is the context's business: a reload takes some seconds, and 30
// more if a plan runs. If the request gets lost it is sent again after six seconds,
// or 75 if a plan runs.
func (c *Client) Reload(ctx context.Context, force bool) (Environment, error) {
	c.once.Do(c.setUp)
	for {
		first, err := c.hold.begin(ctx)
		if err != nil {
			return Environment{}, &ReloadError{Reason: ReloadUnreachable, Err: err}
		}
		if first {
			break
		}
		// Somebody's reload is under way; this one comes after it.
		if err := c.pass(ctx, "DELETE /environment"); err != nil {
			return Environment{}, &ReloadError{Reason: ReloadUnreachable, Err: err}
		}
		c.hold.leave()
	}
	r := reload{client: c}
	env, err := r.run(ctx, force)
	_, sent := c.hold.reloading()
	c.hold.end(!r.pending || time.Since(sent) > reloadLimit)
	return env, err
}

// reload is one reload, by the call that holds all others back.
type reload struct {
	client  *Client
	before  Environment
	idle    bool // the worker was, or there was none
	asked   int
	pending bool // the server may be reloading
}

func (r *reload) fail(why ReloadReason, env Environment, err error) error {
	if why == ReloadUnreachable && r.asked > 0 {
		why = ReloadOverdue
	}
	return &ReloadError{Reason: why, Environment: env, Sent: r.asked > 0, Err: err}
}

func (r *reload) run(ctx context.Context, force bool) (Environment, error) {
	c := r.client
	env, err := c.environment(ctx, how{})
	switch {
	case denied(err):
		return env, r.fail(ReloadDenied, env, err)
	case err != nil:
		return env, r.fail(ReloadUnreachable, env, err)
	}
	r.before = env
	for {
		answered, err := r.checkAndAsk(ctx, force)
		if err != nil {
			return env, err
		}
		env, err = r.await(ctx, answered)
		switch {
		case err != nil:
			return env, err
		case env.ID == r.before.ID && r.asked < 2 && !retry.Nested(ctx):
			continue // lost, or hanging, which a second request heals
		case env.ID == r.before.ID && r.asked < 2:
			return env, r.fail(ReloadOverdue, env, nil)
		case env.ID == r.before.ID:
			return env, r.fail(ReloadHangs, env, nil)
		}
		r.pending = false
		if !env.Initialized {
			return env, r.fail(ReloadFailed, env, nil)
		}
		return env, nil
	}
}

// checkAndAsk sends the request while what the check has found is new: somebody may have
// started a plan while it waited for a server that was away. So it is before the
// second request, though a check can make a reload hang that is under way: that request
// heals it.
func (r *reload) checkAndAsk(ctx context.Context, force bool) (answered bool, err error) {
	begin := time.Now()
	for n := 1; ; n++ {
		if r.asked == 0 || !force {
			if err := r.check(ctx, force); err != nil {
				return false, err
			}
		}
		answered, err = r.ask(ctx)
		tries, ok := errors.AsType[*retry.Error](err)
		if !ok || tries.Sent || tries.Reason != retry.Exhausted || n >= retry.DefaultAttempts && time.Since(begin) >= r.client.Wait {
			return answered, err
		}
		if err := sleep(ctx, retry.Backoff{}.Delay(min(n, retry.DefaultAttempts)-1, mathrand.Float64())); err != nil {
			return false, r.fail(ReloadUnreachable, r.before, err)
		}
	}
}

// check finds out whether a plan is active. A worker that cannot say is broken, and
// to be reloaded.
func (r *reload) check(ctx context.Context, force bool) error {
	c := r.client
	active := func(state WorkerState, task string) error {
		if force {
			return nil
		}
		r.pending = false // it answers: it is not being reloaded
		return &ReloadError{Reason: PlanActive, Environment: r.before, State: state, TaskID: task, Sent: r.asked > 0}
	}
	r.idle = false
	state, task, starting, err := c.lookAtWorker(ctx, how{free: true})
	switch {
	case state == "" && statusOf(err) == http.StatusInternalServerError:
		r.idle = true
		return nil
	case denied(err):
		return r.fail(ReloadDenied, r.before, err)
	case err != nil && state != "" && state != StateIdle:
		return active(state, task)
	case err != nil && !force:
		return r.fail(ReloadUnreachable, r.before, err)
	case err != nil:
		return nil //nolint:nilerr // by force: whatever it does
	case state != StateIdle, starting:
		return active(state, task)
	}
	r.idle = true
	return nil
}

// ask sends the request once. It is not answered if it may have arrived and nobody knows.
func (r *reload) ask(ctx context.Context) (answered bool, err error) {
	c := r.client
	c.hold.sent(r.before)
	err = c.do(ctx, operation{
		name: "DELETE /environment", method: http.MethodDelete, path: "/environment", safety: retry.Once, attempts: 1, free: true, fresh: true,
	}, nil)
	tries, failed := errors.AsType[*retry.Error](err)
	switch {
	case err == nil:
		r.asked++
		r.pending = true
		return true, nil
	case denied(err), failed && !tries.Sent, !failed && refusalOf(err) == nil:
		why := ReloadUnreachable
		if denied(err) {
			why = ReloadDenied
		}
		return false, r.fail(why, r.before, err)
	case refusalOf(err) != nil && (refusalOf(err).Foreign || statusOf(err) < http.StatusInternalServerError):
		r.asked++
		return false, r.fail(ReloadDenied, r.before, err)
	}
	r.asked++
	r.pending = true
	return false, nil
}

// await waits for a new environment, and returns the old one if the server was not
// seen to begin a reload in all the time that it may take.
func (r *reload) await(ctx context.Context, answered bool) (Environment, error) {
	limit, last := reloadLimit, r.before
	switch {
	case r.idle && answered:
		limit = idleReloadLimit
	case r.idle:
		limit = lostReloadLimit
	}
	for begin := time.Now(); ; {
		if err := sleep(ctx, reloadPoll); err != nil {
			return last, r.fail(ReloadOverdue, last, err)
		}
		env, err := r.client.environment(ctx, how{patience: reloadPatience})
		switch {
		case err != nil:
			return last, r.fail(ReloadOverdue, last, err)
		case env.ID != r.before.ID:
			return env, nil
		case env.Initialized != r.before.Initialized, answered && !env.Initialized:
			begin = time.Now() // it is being reloaded, and loading may take any time
			r.client.hold.sent(r.before)
		case time.Since(begin) > limit:
			return env, nil
		}
		last = env
	}
}

// reloadPatience is how long a server that is asked to reload may be away while the
// new environment is waited for.
const reloadPatience = time.Minute

// Wedged reports whether the server hangs in a reload, as 1.21 does when it was asked
// something while it stopped its old worker: it says that its environment is
// initialized, and answers nothing else. It is also true for a moment while a reload
// begins. Another Reload heals it.
func (c *Client) Wedged(ctx context.Context) (bool, error) {
	env, err := c.Environment(ctx)
	if err != nil || !env.Initialized {
		return false, err
	}
	_, err = c.WorkerState(ctx)
	switch {
	case statusOf(err) == http.StatusInternalServerError:
		return true, nil
	case err != nil:
		return false, err
	}
	return false, nil
}
