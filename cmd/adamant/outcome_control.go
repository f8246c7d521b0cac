package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/adamant-go/adamant/blueapi"
)

// endOfControl turns what became of a control command into words and an exit status:
// here and nowhere else. That the user interrupted it is told apart from --timeout.
func endOfControl(v voice, f format, command blueapi.Command, r blueapi.ControlResult, err error, interrupted bool) ending {
	var e ending
	failed, ok := errors.AsType[*blueapi.ControlError](err)
	if ok {
		r = failed.ControlResult
		e = endOfFailedControl(v, failed, interrupted)
	} else {
		e.out = controlText(v, command, r)
	}
	if v == asAdamant && f == jsonText {
		e.out = controlJSON(r)
	}
	for _, warning := range controlWarnings(command.Verb, r) {
		if e.msg != "" {
			e.msg += "\n"
		}
		e.msg += "adamant: " + warning
	}
	switch {
	case v == asBlueapi && ok:
		e.status = statusError
	case v == asAdamant && r.Other != "":
		e.status = statusUnknown
	}
	return e
}

// controlText is the result of a command that had its effect.
func controlText(v voice, command blueapi.Command, r blueapi.ControlResult) string {
	if v == asBlueapi {
		if r.Effect == blueapi.TaskWithdrawn {
			r.State = blueapi.StateIdle // as far as this task goes
		}
		return fmt.Sprintf("<WorkerState.%s: %s>\n", r.State, pyQuote(string(r.State)))
	}
	done, doing := participles(command.Verb)
	if r.Effect == blueapi.TaskWithdrawn && !r.Checked {
		return "withdrawn: the plan had not begun\n"
	}
	if r.Effect == blueapi.TaskWithdrawn {
		return "withdrawn: the plan had not begun, and will not\n"
	}
	switch r.State {
	case blueapi.StatePaused, blueapi.StateIdle:
		if command.Verb == blueapi.Resume && r.Effect == blueapi.Seen && r.State == blueapi.StateIdle {
			return "over\n"
		}
		if command.Verb != blueapi.Pause || r.State == blueapi.StatePaused {
			return done + "\n"
		}
	case blueapi.StatePausing, blueapi.StateAborting, blueapi.StateStopping, blueapi.StateHalting:
		return doing + "\n"
	case blueapi.StateRunning:
		switch {
		case command.Verb == blueapi.Resume:
			return done + "\n"
		case command.Defer:
			return "pausing at the next checkpoint\n"
		}
	}
	return fmt.Sprintf("accepted; the worker is %s\n", r.State)
}

// participles are the words for what was done, and for what is being done.
func participles(verb blueapi.Verb) (done, doing string) {
	switch verb {
	case blueapi.Pause:
		return "paused", "pausing"
	case blueapi.Resume:
		return "resumed", "resuming"
	case blueapi.Abort:
		return "aborted", "aborting"
	case blueapi.Stop:
		return "stopped", "stopping"
	}
	return "", ""
}

// participle is the word for what was done.
func participle(verb blueapi.Verb) string {
	done, _ := participles(verb)
	return done
}

func controlJSON(r blueapi.ControlResult) string {
	var effect any
	switch r.Effect {
	case blueapi.Accepted:
		effect = "accepted"
	case blueapi.Seen:
		effect = "seen"
	case blueapi.TaskWithdrawn:
		effect = "withdrawn"
	}
	return dumps(pyDict{
		{"task_id", orNull(r.TaskID)},
		{"state", orNull(string(r.State))},
		{"effect", effect},
		{"sent", pyInt(fmt.Sprint(r.Sent))},
		{"unanswered", pyInt(fmt.Sprint(r.Unanswered))},
		{"other", orNull(r.Other)},
	}, 0) + "\n"
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// controlWarnings are what must be known besides the result.
func controlWarnings(verb blueapi.Verb, r blueapi.ControlResult) []string {
	var all []string
	if r.Effect == blueapi.Seen {
		all = append(all, fmt.Sprintf("the server did not say that it was done; its worker was then seen %s", r.State))
	}
	switch {
	case verb != blueapi.Resume || r.State != blueapi.StateIdle:
	case r.Effect == blueapi.Accepted:
		all = append(all, fmt.Sprintf("the resumed plan has ended; how it ended is not recorded (task %s)", r.TaskID))
	case r.Effect == blueapi.Seen:
		all = append(all, fmt.Sprintf("the plan is over: it was resumed, or ended by somebody else, which is not recorded (task %s)", r.TaskID))
	}
	if r.Other != "" {
		all = append(all, fmt.Sprintf("another plan (task %s) began meanwhile, and may have been reached instead: "+
			"'adamant task %s' shows it", r.Other, r.Other))
	} else if r.Effect == blueapi.Accepted && !r.Checked {
		all = append(all, fmt.Sprintf("the server could not be asked afterwards which plan was reached; it was task %s "+
			"within a second before", r.TaskID))
	}
	if r.Effect == blueapi.TaskWithdrawn && !r.Checked {
		all = append(all, fmt.Sprintf("the worker has another plan in hand: if a request to start task %s came just before that began, "+
			"its plan begins when that has ended, though the task is deleted; 'adamant state' shows it", r.TaskID))
	}
	if r.Unanswered > 0 {
		all = append(all, fmt.Sprintf("%d of %d requests were never answered: one may still arrive, and reach whatever plan "+
			"runs then", r.Unanswered, r.Sent))
	}
	return all
}

// endOfFailedControl is the end of a command that had no effect, or none that is
// known.
func endOfFailedControl(v voice, failed *blueapi.ControlError, interrupted bool) ending {
	done, _ := participles(failed.Verb)
	e := ending{status: statusError}
	switch failed.Reason {
	case blueapi.NotActive:
		e.msg = v.errorf("nothing to %s: the worker is %s", failed.Verb, failed.From)
		if failed.Err != nil {
			e.msg = v.errorf("nothing was sent: the worker has task %s, whose plan has not begun, and cannot be %s before it has", failed.TaskID, done)
		}
		if v == asBlueapi {
			e.msg = v.errorf("%v", failed) // the server's words
		}
	case blueapi.NotCurrent:
		e.msg = v.errorf("task %s is not the one that the worker has: nothing was sent", failed.TaskID)
	case blueapi.AlreadyOver:
		e.msg = v.errorf("the plan ended by itself before it was %s (task %s)", done, failed.TaskID)
	case blueapi.EndedByOthers:
		e.msg = v.errorf("the plan was not paused: it has been aborted or stopped by somebody else (task %s)", failed.TaskID)
	case blueapi.Denied:
		e = endOfCall(v, "", failed.Err)
	case blueapi.Rejected:
		e.msg = v.errorf("the plan was not %s: %v", done, failed.Err)
	case blueapi.ResumeBroken:
		e.status = statusUnknown
		e.msg = v.errorf("the plan was resumed, and has ended: the server failed while it ran. So does blueapi 1.21 if it "+
			"emits a document, and aborts it, or if it fails; which of them is not recorded (task %s)", failed.TaskID)
	case blueapi.ControlUnreachable:
		e.status = statusNotStarted
		e.msg = v.errorf("the server could not be asked, and nothing was sent: %v", failed.Err)
		if v == asBlueapi && refusal(failed.Err) == nil {
			e = endOfCall(v, "", failed.Err)
		}
	case blueapi.ControlSilent:
		e.status = statusUnknown
		e.msg = v.errorf("%s: 'adamant state' and 'adamant task %s' show it", unknownEffect(failed), failed.TaskID)
	case blueapi.ControlInterrupted:
		e = endOfLeftControl(v, failed, interrupted)
	}
	return e
}

// endOfLeftControl is the end of a command that was left by its user, or by its
// --timeout.
func endOfLeftControl(v voice, failed *blueapi.ControlError, interrupted bool) ending {
	switch {
	case failed.Sent == 0 && interrupted:
		e := endOfInterrupt(v)
		if v == asAdamant {
			e.msg += "; nothing was sent"
		}
		return e
	case failed.Sent == 0:
		return ending{msg: v.errorf("no time left; nothing was sent: %v", failed.Err), status: statusNotStarted}
	}
	how := "no time left: "
	if interrupted {
		how = "interrupted: "
	}
	e := ending{
		msg:    asAdamant.errorf("%s%s: 'adamant state' and 'adamant task %s' show it", how, unknownEffect(failed), failed.TaskID),
		status: statusUnknown,
	}
	if v == asBlueapi {
		e.msg = aborted + "\n" + e.msg
	}
	return e
}

// unknownEffect says that a request was sent and what it did is not known.
func unknownEffect(failed *blueapi.ControlError) string {
	s := fmt.Sprintf("a request to %s the plan of task %s was sent, and it is not known what became of it", failed.Verb, failed.TaskID)
	if failed.Verb == blueapi.Resume {
		s += " (the server answers when the plan has ended)"
	}
	return s
}

// endOfReload is the end of a reload that failed. Plan is the name of the one that
// keeps it from being done, if that is known.
func endOfReload(f format, failed *blueapi.ReloadError, interrupted bool, plan string) ending {
	v := asAdamant
	e := ending{status: statusError}
	switch failed.Reason {
	case blueapi.PlanActive:
		e.status = statusBusy
		e.msg = v.errorf("not reloaded: %s. With --force it would be reloaded all the same: %s",
			active(failed, plan), leftBehind)
	case blueapi.ReloadFailed:
		e.out = f.environment(failed.Environment)
		e.msg = v.errorf("%v", failed)
	case blueapi.ReloadDenied:
		e = endOfCall(v, "", failed.Err)
	case blueapi.ReloadUnreachable:
		e.status = statusNotStarted
		e.msg = v.errorf("not reloaded, nothing was sent: %v", failed.Err)
		if interrupted {
			e = endOfInterrupt(v)
		}
	case blueapi.ReloadOverdue:
		e.status = statusUnknown
		e.msg = v.errorf("the server was asked to reload, and shows no new environment yet; " +
			"it may still come, and until then nothing else should be asked but 'adamant env'")
		if interrupted {
			e.msg = v.errorf("interrupted: the server was asked to reload; until 'adamant env' shows a new id, " +
				"nothing else should be asked")
		}
	case blueapi.ReloadHangs:
		e.msg = v.errorf("%v", failed)
	}
	return e
}

// endOfControllerReload is the same in blueapi's words.
func endOfControllerReload(failed *blueapi.ReloadError, interrupted bool, seconds float64) ending {
	v := asBlueapi
	e := ending{msg: v.errorf("%v", failed), status: statusError}
	switch {
	case interrupted:
		e.msg = aborted
	case failed.Reason == blueapi.ReloadFailed && failed.Environment.ErrorMessage != nil:
		e.msg = v.errorf("Error reloading environment: %s", *failed.Environment.ErrorMessage)
	case failed.Reason == blueapi.ReloadOverdue && errors.Is(failed.Err, context.Canceled):
		e.msg = v.errorf("Failed to reload the environment within %s seconds, a server restart is recommended", pyFloat(seconds))
	case failed.Reason == blueapi.ReloadDenied, failed.Reason == blueapi.ReloadUnreachable:
		e = endOfCall(v, "", failed.Err)
	}
	return e
}

// active says what keeps an environment from being reloaded.
func active(failed *blueapi.ReloadError, plan string) string {
	if plan != "" {
		plan += ", "
	}
	return fmt.Sprintf("a plan is under way (%stask %s, worker %s)", plan, failed.TaskID, failed.State)
}

// leftBehind is what a reload does to a plan that is under way (measured on 1.21.1).
const leftBehind = "the plan goes on moving hardware, unseen, beside a worker that says IDLE and takes other plans"
