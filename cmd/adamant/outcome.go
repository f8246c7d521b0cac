package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/adamant-go/adamant/blueapi"
)

// endOfRun turns what became of a run into words and an exit status: here and
// nowhere else. Under controller the words are blueapi's, and the status of a
// run that ended is 0, however it ended.
func endOfRun(v voice, f format, plan string, r blueapi.Result, err error) ending {
	if err == nil && r.Word == blueapi.Done && r.Outcome != nil {
		text, err := outcomeText(*r.Outcome)
		if err != nil {
			return ending{msg: v.errorf("%v", err), status: statusError}
		}
		if f == jsonText {
			outcome, _ := outcomeDict(r.Outcome) // outcomeText could read it too
			text = dumps(pyDict{{"task_id", r.TaskID}, {"outcome", outcome}}, 0) + "\n"
		}
		e := ending{out: text}
		if v == asAdamant && r.Outcome.Kind == "error" {
			e.status = statusFailed
		}
		return e
	}

	e := ending{status: statusUnknown}
	refused, answered := errors.AsType[*blueapi.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		e.status = statusInterrupted
		e.msg = v.errorf("interrupted; plan %s was not started", plan)
		if r.TaskID != "" {
			e.status = statusStillRunning
			e.msg = v.errorf("interrupted; plan %s may go on running: see 'adamant task %s'", plan, r.TaskID)
		}
		if v == asBlueapi {
			e.msg = "\nAborted!"
		}
	case answered && strings.HasPrefix(refused.Op, http.MethodPost) && refused.Status == http.StatusNotFound:
		e.status = statusUsage
		e.msg = v.errorf("Plan '%s' was not recognised", plan)
	case answered && refused.Fields != nil:
		e.status = statusUsage
		e.msg = v.errorf("Incorrect parameters supplied%s", fieldLines(refused.Fields))
	case answered && refused.Status == http.StatusConflict:
		e.status = statusBusy
		e.msg = v.errorf("the server is busy with another plan; plan %s was not started", plan)
	case answered && !denied(refused):
		e.status = statusError
		e.msg = v.errorf("plan %s: %s", plan, said(refused))
	case err != nil:
		e = endOfCall(v, "", err)
		if v == asAdamant && e.status == statusError && r.Word != blueapi.Unknown {
			e.status = statusNotStarted
			e.msg += "; plan " + plan + " was not started"
		}
	case r.Word == blueapi.Done:
		e.msg = v.errorf("plan %s ended, and how was not recorded (task %s)", plan, r.TaskID)
	case r.Word == blueapi.NotStarted:
		e.status = statusNotStarted
		e.msg = v.errorf("plan %s was not started", plan)
	default:
		e.msg = v.errorf("what became of plan %s is not known: see 'adamant task %s'", plan, r.TaskID)
	}
	if v == asBlueapi {
		e.status = statusError
		if answered && (refused.Status == http.StatusConflict || refused.Status >= 500) {
			e.msg = v.errorf("Remote control error: %d", refused.Status)
		}
	}
	return e
}

// endOfCall turns the error of a call into words and an exit status. What was
// asked for, such as "plan count", is named if the server does not have it.
func endOfCall(v voice, what string, err error) ending {
	e := ending{status: statusError}
	refused, answered := errors.AsType[*blueapi.Error](err)
	failed, unreachable := errors.AsType[*url.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		e.status = statusInterrupted
		e.msg = v.errorf("interrupted")
		if v == asBlueapi {
			e.msg = "\nAborted!"
		}
	case answered && denied(refused):
		e.status = statusNotAuthorised
		e.msg = v.errorf("Access denied. Please check your login status and try again.")
	case answered && what != "" && refused.Status == http.StatusNotFound:
		e.status = statusUsage
		e.msg = v.errorf("the server has no %s", what)
	case answered:
		e.msg = v.errorf("%s", said(refused))
	case unreachable && v == asBlueapi:
		e.msg = v.errorf("Failed to establish connection to blueapi server.")
	case unreachable:
		e.msg = v.errorf("cannot reach the server: %v", failed)
	default:
		e.msg = v.errorf("%v", err)
	}
	if v == asBlueapi {
		e.status = statusError
	}
	return e
}

func denied(e *blueapi.Error) bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

// said is the server's answer in one line.
func said(e *blueapi.Error) string {
	text := e.Detail
	if text == "" {
		text = strings.Join(strings.Fields(string(e.Body)), " ")
	}
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "..."
	}
	return fmt.Sprintf("the server answered %d: %s", e.Status, text)
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
			input, err := parsePython(f.Input)
			if err != nil {
				input = json.RawMessage(f.Input)
			}
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
