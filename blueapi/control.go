package blueapi

import (
	"context"
	"encoding/json"
	"errors"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"github.com/adamant-go/adamant/retry"
)

const (
	// guardAge is how old the knowledge may be, that the task is active, when the
	// first byte of a command is written.
	guardAge = time.Second
	// maxCommands is how often a command is tried: sent, or found to be too late
	// to send.
	maxCommands = retry.DefaultAttempts
	// maxGuards is how often a guard is read anew because its last answer was slow
	// to come, and may have been old when it came.
	maxGuards = 3
	// beginLimit is how long a plan that was taken by the worker and does not run
	// yet is waited for before it is aborted or stopped: the server gives it 5 s.
	beginLimit = 10 * time.Second
)

// Control sends a control command. The server's form of it names no task, so each
// time before it is sent a guard is read: that the worker has the task it is meant
// for and is in a state to which the command applies. If that was longer than a second
// ago when the first byte is written, nothing is, and the guard is read again.
//
// If an answer is lost, the worker is read, and the command is sent again only if
// it can have had no effect (and not at all inside a caller that retries). The plan may
// end, and another start, between guard and send; then nothing can keep the command from
// reaching the other, and the result says so (Other).
//
// An abort or stop of a task that has not begun deletes the task. The error is nil or
// a [*ControlError], which has the result too.
func (c *Client) Control(ctx context.Context, cmd Command) (ControlResult, error) {
	c.once.Do(c.setUp)
	k := control{client: c, cmd: cmd, begin: time.Now()}
	k.result.TaskID = cmd.TaskID
	err := k.run(ctx)
	if e, ok := errors.AsType[*ControlError](err); ok {
		return e.ControlResult, e
	}
	return k.result, err
}

// control is one control command on its way.
type control struct {
	client *Client
	cmd    Command
	begin  time.Time
	result ControlResult
	from   WorkerState
	asked  bool // the worker was, which task it has
	// unclear is how many requests may have had an effect that was not seen, and
	// unanswered how many of them may still be on their way.
	unclear    int
	unanswered int
	refusals   int   // 400s
	broken     bool  // the last request was answered by a text 500
	cause      error // why the last request is unclear, or was refused
}

func (k *control) fail(why ControlReason, err error) error {
	e := &ControlError{ControlResult: k.result, Verb: k.cmd.Verb, Reason: why, From: k.from, Err: err}
	e.Unanswered = k.unanswered
	return e
}

// stuck is the end of a command because the server could not be asked.
func (k *control) stuck(ctx context.Context, err error) error {
	switch {
	case endedByCaller(ctx, err):
		return k.fail(ControlInterrupted, err)
	case k.unclear > k.refusals:
		return k.fail(ControlSilent, err)
	case k.unclear > 0:
		return k.fail(Rejected, k.cause)
	case denied(err):
		return k.fail(Denied, err)
	}
	return k.fail(ControlUnreachable, err)
}

// run tries until the command has had its effect, or cannot have one.
func (k *control) run(ctx context.Context) error {
	for n := 0; ; n++ {
		if n > 0 {
			if err := sleep(ctx, retry.Backoff{}.Delay(min(n, maxCommands)-1, mathrand.Float64())); err != nil {
				return k.stuck(ctx, err)
			}
		}
		g, err := k.guard(ctx)
		for k.cmd.Verb == Resume && k.unclear > 0 && isSilence(err) && ctx.Err() == nil {
			g, err = k.guard(ctx) // it answers nobody while a resumed plan runs (1.21.1)
		}
		if err != nil {
			return k.stuck(ctx, err)
		}
		ready, g, err := k.consider(ctx, g)
		if !ready {
			return err
		}
		if n >= maxCommands && time.Since(k.begin) >= k.client.Wait || k.unclear > 0 && retry.Nested(ctx) {
			return k.exhausted()
		}
		if done, err := k.send(ctx, g); done || err != nil {
			return err
		}
	}
}

// exhausted is the end of a command that was tried often enough.
func (k *control) exhausted() error {
	switch {
	case k.unclear > k.refusals:
		return k.fail(ControlSilent, k.cause)
	case k.unclear > 0:
		return k.fail(Rejected, k.cause)
	}
	return k.fail(ControlUnreachable, k.cause)
}

// consider decides what the guard means, and waits while the worker is between two
// states. It returns true, and the last guard, if the command is to be sent;
// otherwise how it ends: nil if it has had its effect.
func (k *control) consider(ctx context.Context, g guard) (ready bool, last guard, err error) {
	for {
		switch {
		case g.task != k.result.TaskID || g.task == "":
			return false, g, k.elsewhere(ctx, g)
		case k.unclear > 0 && k.effective(g.state):
			return false, g, k.seen(g.state)
		case k.cmd.Verb.applies(g.state):
			return true, g, nil
		case k.unclear > 0 && g.state != StateIdle && g.state != StatePanicked:
			// On its way from one state to another: what to, is yet to be seen.
		case k.unclear > 0:
			return false, g, k.over(ctx, g)
		default:
			starting, err := k.starting(ctx, g)
			if err != nil {
				return false, g, err
			}
			if !starting {
				return false, g, k.fail(NotActive, nil)
			}
		}
		if time.Since(k.begin) > max(beginLimit, k.client.Wait) {
			return false, g, k.inVain()
		}
		if err := sleep(ctx, retry.Backoff{}.Delay(0, mathrand.Float64())); err != nil {
			return false, g, k.stuck(ctx, err)
		}
		if g, err = k.guard(ctx); err != nil {
			return false, g, k.stuck(ctx, err)
		}
	}
}

// errNotBegun is why a plan that will run cannot be ended yet.
var errNotBegun = errors.New("its plan has not begun, and may at any moment")

// inVain is the end of a command that has waited for a state it can be sent in.
func (k *control) inVain() error {
	switch {
	case k.unclear > k.refusals:
		return k.fail(ControlSilent, k.cause)
	case k.unclear > 0:
		return k.fail(Rejected, k.cause)
	}
	return k.fail(NotActive, errNotBegun)
}

// effective reports whether a state is one that the command leads to, and that the
// worker was not in when it was sent.
func (k *control) effective(s WorkerState) bool {
	switch k.cmd.Verb {
	case Pause:
		return s == StatePaused || s == StatePausing
	case Resume:
		return s == StateRunning
	case Abort, Stop:
		return s == StateAborting || s == StateStopping || s == StateHalting
	}
	return false
}

// seen is the end of a command whose effect was read.
func (k *control) seen(state WorkerState) error {
	k.result.Effect, k.result.State, k.result.Checked = Seen, state, k.result.Other == ""
	k.result.Unanswered = max(0, k.unanswered-1) // one of them had the effect
	return nil
}

// starting reports whether the plan that is to be aborted or stopped has been taken
// by the worker and does not run yet.
func (k *control) starting(ctx context.Context, g guard) (bool, error) {
	if !k.cmd.Verb.ends() || g.state != StateIdle {
		return false, nil
	}
	t, err := k.client.task(ctx, g.task, how{urgent: true})
	switch {
	case isNotFound(err):
		return false, nil
	case err != nil:
		return false, k.stuck(ctx, err)
	}
	return !t.IsPending && !t.IsComplete, nil
}

// over is the end of a command that was sent and found the plan ended.
func (k *control) over(ctx context.Context, g guard) error {
	if k.cmd.Verb == Resume {
		if k.broken {
			return k.fail(ResumeBroken, k.cause)
		}
		return k.seen(g.state) // resumed or ended by somebody: no record tells which
	}
	was, err := k.wasInterrupted(ctx)
	switch {
	case isNotFound(err):
		return k.fail(ControlSilent, k.cause)
	case err != nil:
		return k.stuck(ctx, err)
	case !was:
		return k.fail(AlreadyOver, nil)
	case k.cmd.Verb == Pause:
		return k.fail(EndedByOthers, nil)
	}
	return k.seen(g.state)
}

// wasInterrupted reports whether the plan was paused, aborted or stopped by anybody.
func (k *control) wasInterrupted(ctx context.Context) (bool, error) {
	t, err := k.client.task(ctx, k.result.TaskID, how{urgent: true})
	return err == nil && t.Outcome != nil && t.Outcome.Type == interrupted, err
}

// elsewhere is the end of a command whose task the worker does not have.
func (k *control) elsewhere(ctx context.Context, g guard) error {
	switch {
	case k.result.TaskID == "":
		if g.task != "" {
			k.from = StateIdle // before that plan began
		}
		return k.fail(NotActive, nil)
	case k.result.Sent == 0:
		if k.cmd.Verb.ends() {
			return k.withdraw(ctx)
		}
		return k.fail(NotCurrent, nil)
	}
	was, err := k.wasInterrupted(ctx)
	if !isNotFound(err) && err != nil {
		return k.stuck(ctx, err)
	}
	if err != nil || !was && k.unanswered > 0 || k.othersHit(ctx, g.task) {
		k.result.Other = g.task
	}
	switch {
	case err != nil: // its record is gone too: nobody knows which of them it was
		return k.fail(ControlSilent, k.cause)
	case !was:
		return k.fail(AlreadyOver, nil)
	case k.cmd.Verb == Pause:
		return k.fail(EndedByOthers, nil)
	}
	return k.seen(StateIdle) // as far as this task goes
}

// othersHit reports whether the command may have reached another plan although ours
// was interrupted, which somebody else may have done: if the worker's task, or one that
// ended after ours, was interrupted too, or may be about to be.
func (k *control) othersHit(ctx context.Context, current string) bool {
	c, now := k.client, how{urgent: true}
	state, err := c.workerState(ctx, now)
	switch {
	case err == nil && state == StatePaused && k.cmd.Verb == Resume:
		return false // it would run
	case err != nil || state != StateRunning && state != StateIdle || k.cmd.Defer:
		return true
	}
	tasks, err := c.tasks(ctx, "", now)
	if err != nil {
		return true
	}
	var after, seen bool      // ours; the worker's
	for _, t := range tasks { // those that have ended come last, in that order
		seen = seen || t.ID == current
		switch {
		case t.ID == k.result.TaskID:
			after = true
		case (after || t.ID == current) && t.IsComplete && t.Outcome != nil && t.Outcome.Type == interrupted:
			return true
		}
	}
	return !seen // not shown to this user, or deleted
}

// withdraw deletes the task if it has not begun, so that a request to start it that
// is still under way finds nothing.
func (k *control) withdraw(ctx context.Context) error {
	c := k.client
	switch begun, sent, err := c.deletePending(ctx, k.result.TaskID, how{urgent: true}); {
	case isNotFound(err):
		return k.fail(NotCurrent, nil)
	case err != nil:
		if sent { // it may be deleted
			k.unclear++
			k.result.Sent++
		}
		return k.stuck(ctx, err)
	case begun:
		return k.beganMeanwhile(ctx)
	}
	state, current, starting, err := c.lookAtWorker(ctx, how{urgent: true})
	switch {
	case err != nil:
		// It was deleted, and it is not known whether that was in time.
		k.unclear++
		k.result.Sent++
		return k.stuck(ctx, err)
	case current == k.result.TaskID:
		return k.run(ctx) // it was not: the worker had taken it
	}
	// While the worker has another plan, or makes one, the task may be in its queue
	// behind that, where deleting it does not reach it.
	k.result.Effect, k.result.State, k.result.Checked = TaskWithdrawn, state, state == StateIdle && !starting
	return nil
}

// beganMeanwhile is how to go on with a task that is neither pending nor was the
// worker's a moment ago.
func (k *control) beganMeanwhile(ctx context.Context) error {
	current, err := k.client.workerTask(ctx, how{urgent: true})
	switch {
	case err != nil:
		return k.stuck(ctx, err)
	case current == k.result.TaskID:
		return k.run(ctx)
	}
	return k.fail(NotCurrent, nil)
}

// send sends the command once. It is done if the server accepted it.
func (k *control) send(ctx context.Context, g guard) (done bool, err error) {
	state, lost, err := k.ask(ctx, g)
	tries, failed := errors.AsType[*retry.Error](err)
	byCaller := ctx.Err() != nil || !lost && endedByCaller(ctx, err)
	switch {
	case err == nil:
		k.result.Sent++
		return true, k.accepted(ctx, state)
	case failed && !tries.Sent:
		k.cause = err
		if byCaller {
			return true, k.stuck(ctx, err)
		}
		return false, nil
	case !failed && refusalOf(err) == nil:
		return true, k.stuck(ctx, err) // it did not come to a call
	}
	k.result.Sent++
	k.cause, k.broken = err, false
	switch status := statusOf(err); {
	case denied(err):
		return true, k.fail(Denied, err)
	case status == http.StatusBadRequest && k.refusals == 0:
		// The worker was in another state: somebody else was quicker, or a proxy has
		// sent the request twice and this is the second answer. The guard will tell.
		k.refusals++
	case status >= http.StatusBadRequest && status < http.StatusInternalServerError:
		return true, k.fail(Rejected, err)
	case status == http.StatusInternalServerError:
		k.broken = true
	default:
		k.unanswered++
	}
	k.unclear++
	if byCaller {
		return true, k.fail(ControlInterrupted, err)
	}
	return false, nil
}

// ask sends the command, and looks at the worker while the answer is awaited, which
// may never come: a resume has no limit, and an abort is urgent. It is lost if the
// worker answers, and is where it was.
func (k *control) ask(ctx context.Context, g guard) (state WorkerState, lost bool, err error) {
	asking, giveUp := context.WithCancel(ctx)
	defer giveUp()
	looking, stop := context.WithCancel(ctx)
	defer stop()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		state, err = k.client.setState(asking, k.cmd, g.at.Add(guardAge))
		stop()
	}()
	if lost = k.watch(looking, k.patience()); lost {
		giveUp()
	}
	<-answered
	return state, lost && err != nil, err
}

// patience is how many answers of the worker tell that a command that has none is lost.
// A request that is only late, and a second one, are one too many: what a network holds
// back for a second comes within three. A resume is not urgent.
func (k *control) patience() int {
	if k.cmd.Verb == Resume {
		return 10
	}
	return 4
}

// watch reports that the worker has answered so many looks, one a second, since the
// command was sent: it does one thing after another (1.21.1), so that the command or its
// answer is lost, or late.
func (k *control) watch(ctx context.Context, enough int) bool {
	for answers := 0; answers < enough; {
		if err := sleep(ctx, lookPause); err != nil {
			return false
		}
		state, err := k.client.workerState(ctx, how{urgent: true})
		if err != nil {
			continue
		}
		if answers++; state != k.from {
			return sleep(ctx, lookPause) == nil // it has had its effect, and a moment for the answer
		}
	}
	return true
}

// accepted is the end of a command that the server took. It is checked which plan it
// reached.
func (k *control) accepted(ctx context.Context, state WorkerState) error {
	k.result.Effect, k.result.State = Accepted, state
	k.result.Unanswered = k.unanswered
	current, err := k.client.workerTask(ctx, how{urgent: true})
	switch {
	case err != nil:
		return nil //nolint:nilerr // it was accepted, and Checked says the rest
	case current == k.result.TaskID:
		k.result.Checked = true
		return nil
	}
	was, err := k.wasInterrupted(ctx)
	switch {
	case err == nil && !was:
		k.result.Effect, k.result.Other = 0, current
		return k.fail(AlreadyOver, nil)
	case err != nil || k.othersHit(ctx, current):
		k.result.Other = current
	default:
		k.result.Checked = true
	}
	return nil
}

// stateChange is the body of PUT /worker/state.
type stateChange struct {
	NewState WorkerState `json:"new_state"`
	Defer    bool        `json:"defer"`
	Reason   *string     `json:"reason,omitempty"`
}

// setState makes one attempt to put the worker into a state, which is not begun after
// latest.
func (c *Client) setState(ctx context.Context, cmd Command, latest time.Time) (WorkerState, error) {
	change := stateChange{NewState: cmd.Verb.Target(), Defer: cmd.Defer}
	if cmd.Reason != "" {
		change.Reason = &cmd.Reason
	}
	var state WorkerState
	op := operation{
		name: "PUT /worker/state", method: http.MethodPut, path: "/worker/state", in: change,
		safety: retry.Once, attempts: 1, silence: startSilenceLimit, urgent: true, notBegunAfter: latest, // on the guard's connection: dialling would age it
		check: func(answer []byte) bool { return json.Unmarshal(answer, &state) == nil && state != "" },
	}
	if cmd.Verb == Resume {
		op.silence = -1 // it is answered when the plan has ended (1.21.1)
	}
	err := c.do(ctx, op, nil)
	return state, err
}
