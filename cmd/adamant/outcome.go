package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
)

// endOfRun turns what became of a run into words and an exit status: here and
// nowhere else. Under controller the words are blueapi's where it has any, and
// the status of a run that ended is 0, however it ended.
func endOfRun(v voice, f format, plan string, r blueapi.Result, err error) ending {
	outcome := r.Outcome
	if v == asBlueapi && r.Word == blueapi.Done && outcome == nil && r.Task != nil {
		outcome = r.Task.Outcome // blueapi takes it for the truth
	}
	if r.Word == blueapi.Done && outcome != nil {
		return endOfPlan(v, f, r.TaskID, *outcome)
	}

	refused := refusal(err)
	e := ending{status: statusUnknown}
	if v == asAdamant && f == jsonText && r.Word != blueapi.NotStarted {
		e.out = taskOnly(r.TaskID)
	}
	switch r.Reason {
	case blueapi.NotRecorded:
		if r.EndedBy != 0 {
			e.status = statusAborted
			e.msg = v.errorf("plan %s was %s (task %s)", plan, participle(r.EndedBy), r.TaskID)
			break
		}
		e.msg = v.errorf("plan %s was paused, aborted or stopped; how it ended is not recorded (task %s)", plan, r.TaskID)
	case blueapi.Unpublished:
		e.msg = v.errorf("plan %s has ended, and its record says failed because the server could not reach its message broker: "+
			"it may not have begun, been broken off in the middle, or run to its end, which is not recorded; check its data (task %s)", plan, r.TaskID)
	case blueapi.Refused:
		if refused == nil { // by something else than blueapi
			return ending{msg: v.errorf("%v", err), status: statusError}
		}
		e = endOfRefusal(v, plan, refused)
	case blueapi.Busy:
		e.status = statusBusy
		e.msg = v.errorf("plan %s was not started: the server is busy with another plan", plan)
	case blueapi.Interrupted:
		e.status = statusInterrupted
		e.msg = v.errorf("interrupted; plan %s was not started", plan)
	case blueapi.Abandoned:
		e.msg = unknownText(v, plan, r, err)
		if r.Started {
			e = endOfLeaving(f, fmt.Sprintf("interrupted; plan %s %s", plan, goesOnText), r)
		}
	default:
		if r.Word == blueapi.NotStarted {
			e.status = statusNotStarted
			e.msg = v.errorf("%v", err)
		} else {
			e.msg = unknownText(v, plan, r, err)
		}
	}
	if v != asBlueapi {
		return e
	}
	e.status = statusError
	switch {
	case r.Reason == blueapi.Interrupted || r.Reason == blueapi.Abandoned:
		e.msg = aborted
	case r.Word == blueapi.NotStarted && r.Reason != blueapi.Refused && refused != nil:
		e.msg = v.errorf("Remote control error: %d", refused.Status)
	case r.Reason == blueapi.Unreachable:
		e.msg = v.errorf(noConnection)
	}
	return e
}

// What blueapi says on an interrupt, and of a server that it cannot reach.
const (
	aborted      = "\nAborted!"
	noConnection = "Failed to establish connection to blueapi server."
)

// endOfInterrupt is the end of a command that was interrupted before it did anything.
func endOfInterrupt(v voice) ending {
	if v == asBlueapi {
		return ending{msg: aborted, status: statusError}
	}
	return ending{msg: v.errorf("interrupted"), status: statusInterrupted}
}

// overdue reports whether a run was left by its caller while it waited.
func overdue(r blueapi.Result) bool {
	return r.Reason == blueapi.Interrupted || r.Reason == blueapi.Abandoned
}

// goesOnText is what most plans do whose user leaves them.
const goesOnText = "goes on"

// endOfLeaving is the end of a run whose user left it after it was started; what is
// said of it is a sentence.
func endOfLeaving(f format, what string, r blueapi.Result) ending {
	e := ending{
		msg:    asAdamant.errorf("%s: 'adamant attach %s' comes back to it", what, r.TaskID),
		status: statusStillRunning,
	}
	if f == jsonText {
		e.out = taskOnly(r.TaskID)
	}
	return e
}

// endOfTimeout is the end of a run that was waited for as long as the user said. If its
// plan was started, it does what is said.
func endOfTimeout(f format, plan, does string, r blueapi.Result, limit time.Duration, err error) ending {
	switch {
	case r.Word == blueapi.NotStarted:
		e := ending{msg: asAdamant.errorf("plan %s was not started within %v", plan, limit), status: statusNotStarted}
		if tries, ok := errors.AsType[*retry.Error](err); ok && tries.Attempts > 0 {
			e.msg += fmt.Sprintf(": %v", tries)
		}
		return e
	case r.Started:
		return endOfLeaving(f, fmt.Sprintf("plan %s has not ended within %v, and %s", plan, limit, does), r)
	}
	settles := "'adamant attach " + r.TaskID + "' settles it"
	if r.TaskID == "" { // over a web socket
		settles = "'adamant tasks' shows whether there is one of this plan"
	}
	e := ending{
		msg: asAdamant.errorf("it is not known after %v whether plan %s was started; it may still start or be running: %s",
			limit, plan, settles),
		status: statusUnknown,
	}
	if f == jsonText {
		e.out = taskOnly(r.TaskID)
	}
	return e
}

// taskOnly is the result of a run whose outcome is not known, in JSON.
func taskOnly(task string) string {
	return dumps(pyDict{{"task_id", task}, {"outcome", nil}}, 0) + "\n"
}

// endOfPlan is the end of a run whose plan has an outcome.
func endOfPlan(v voice, f format, task string, o blueapi.Outcome) ending {
	text, err := outcomeText(o)
	if err != nil {
		return ending{msg: v.errorf("%v", err), status: statusError}
	}
	if f == jsonText {
		outcome, _ := outcomeDict(&o) // outcomeText could read it too
		text = dumps(pyDict{{"task_id", task}, {"outcome", outcome}}, 0) + "\n"
	}
	e := ending{out: text}
	if v == asAdamant && o.Kind == "error" {
		e.status = statusFailed
	}
	return e
}

// endOfRefusal is the end of a run that the server refused before anything was
// started.
func endOfRefusal(v voice, plan string, refused *blueapi.Error) ending {
	switch {
	case denied(refused):
		return endOfCall(v, "", refused)
	case refused.Status == http.StatusNotFound:
		return ending{msg: v.errorf("Plan '%s' was not recognised", plan), status: statusUsage}
	case refused.Fields != nil:
		return ending{msg: v.errorf("Incorrect parameters supplied%s", fieldLines(refused.Fields)), status: statusUsage}
	default:
		return ending{msg: v.errorf("plan %s was not started: %v", plan, refused), status: statusError}
	}
}

// endOfCall turns the error of a call into words and an exit status. What was
// asked for, such as "plan count", is named if the server does not have it.
func endOfCall(v voice, what string, err error) ending {
	e := ending{msg: v.errorf("%v", err), status: statusError}
	tries, tried := errors.AsType[*retry.Error](err)
	switch refused := refusal(err); {
	case denied(refused):
		e.msg = v.errorf("Access denied. Please check your login status and try again.")
		e.status = statusNotAuthorised
	case refused != nil && refused.Status == http.StatusNotFound && what != "":
		e = ending{msg: v.errorf("the server has no %s", what), status: statusUsage}
	case tried && tries.Reason == retry.Cancelled, !tried && errors.Is(err, context.Canceled):
		return endOfInterrupt(v)
	case tried && refused == nil && v == asBlueapi:
		e.msg = v.errorf(noConnection)
	}
	if v == asBlueapi {
		e.status = statusError
	}
	return e
}

// refusal is the server's own refusal with which a call ended, if it did.
func refusal(err error) *blueapi.Error {
	if tries, ok := errors.AsType[*retry.Error](err); ok {
		err = tries.Err // and not that of an earlier attempt
	}
	if e, ok := errors.AsType[*blueapi.Error](err); ok && !e.Foreign {
		return e
	}
	return nil
}

func denied(e *blueapi.Error) bool {
	return e != nil && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// fieldLines lists what is wrong with parameters, in blueapi's words.
func fieldLines(fields []blueapi.InvalidField) string {
	var b strings.Builder
	for _, f := range fields {
		loc := f.Loc
		if len(loc) > 2 {
			loc = loc[2:] // without "body" and "params"
		}
		var name []string
		for _, step := range loc {
			if n, ok := step.(float64); ok {
				name = append(name, strconv.Itoa(int(n)))
			} else {
				name = append(name, fmt.Sprint(step))
			}
		}
		field := strings.Join(name, ".")
		b.WriteString("\n    ")
		switch f.Type {
		case "missing":
			fmt.Fprintf(&b, "Missing value for %s", pyQuote(field))
		case "extra_forbidden":
			fmt.Fprintf(&b, "Unexpected field %s", pyQuote(field))
		default:
			input, _ := parsePython(f.Input) // it came in JSON that could be read
			fmt.Fprintf(&b, "Invalid value %s for field %s: %s", pyRepr(input), field, f.Msg)
		}
	}
	return b.String()
}

// outcomeText is blueapi's sentence on how a plan ended, with its newline.
func outcomeText(o blueapi.Outcome) (string, error) {
	if o.Kind == "error" {
		return fmt.Sprintf("Plan failed: %s: %s\n", o.Type, o.Message), nil
	}
	result, err := parsePython(o.Result)
	switch {
	case err != nil:
		return "", fmt.Errorf("the result is not JSON: %w", err)
	case result != nil:
		return fmt.Sprintf("Plan succeeded: %s\n", pyStr(result)), nil
	case o.Type == "NoneType":
		return "Plan succeeded\n", nil
	default:
		return fmt.Sprintf("Plan succeeded but returned unserializable result of type '%s'\n", o.Type), nil
	}
}

func outcomeDict(o *blueapi.Outcome) (any, error) {
	if o == nil {
		return nil, nil
	}
	if o.Kind == "error" {
		return pyDict{{"outcome", o.Kind}, {"type", o.Type}, {"message", o.Message}}, nil
	}
	result, err := parsePython(o.Result)
	return pyDict{{"outcome", o.Kind}, {"result", result}, {"type", o.Type}}, err
}
