package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/adamant-go/adamant/blueapi"
)

// unknownText is what a user is told whose run has no known end: what was sent, what
// was seen, which task it is, what to check, and how to run it again on purpose.
func unknownText(v voice, plan string, r blueapi.Result, err error) string {
	other, hangs := "", false
	if e, ok := errors.AsType[*blueapi.RunError](err); ok {
		other = e.Other
		hangs = e.Reason == blueapi.EnvironmentChanged && refusal(e.Err) != nil
		if e.Reason == blueapi.Abandoned && e.TaskID != "" {
			err = &blueapi.RunError{Result: e.Result, Plan: e.Plan} // the cause is the interrupt alone
		}
	}
	var b strings.Builder
	b.WriteString(v.errorf("%v", err))
	seen, check := evidence(r, other)
	if hangs {
		seen = "the server hangs in a reload of its environment, and has forgotten all tasks"
	}
	sent := "the request to start task " + r.TaskID + ", once; it was not repeated"
	if r.TaskID == "" {
		sent = "the plan, by web socket, once; it was not repeated"
	}
	fmt.Fprintf(&b, "\n    sent:  %s", sent)
	fmt.Fprintf(&b, "\n    seen:  %s", seen)
	for i, line := range check {
		head := "check:"
		if i > 0 {
			head = "      "
		}
		fmt.Fprintf(&b, "\n    %s %s", head, line)
	}
	fmt.Fprintf(&b, "\n    again: only on purpose, when you know that plan %s did not run, or may run twice: by the same command, "+
		"but under another --key if it has one: under that one it comes back to this run", plan)
	return b.String()
}

// evidence is what was seen of a run that has no known end, and what to check.
func evidence(r blueapi.Result, other string) (seen string, check []string) {
	attach := fmt.Sprintf("'adamant attach %s' waits for the server and settles it", r.TaskID)
	if r.TaskID == "" { // over a web socket
		attach = "'adamant tasks': one of this plan may be it"
	}
	data := "its data: files of detectors, the number of the last scan, where the motors are"
	switch r.Reason {
	case blueapi.EnvironmentChanged:
		return "the server has a new environment, and has forgotten all tasks", []string{
			data,
			"if it was reloaded while the plan ran, that may go on unseen: only a restart of the server surely ends it",
		}
	case blueapi.RecordLost:
		return "it was started, and then its record was deleted by somebody", []string{
			"'adamant state': IDLE when it has ended", data,
		}
	case blueapi.Removed:
		return "its task was deleted by somebody, or is hidden from you, before it was seen to start", []string{
			"'adamant state', and who else works here", data,
		}
	case blueapi.Overtaken:
		return "another plan was started while its task was being deleted", []string{
			fmt.Sprintf("'adamant task %s' shows the other plan", other), data,
		}
	case blueapi.Stuck:
		return "the worker neither took it in time nor refused it, and was idle", []string{
			"'adamant state': RUNNING without a plan of somebody else's is this one",
			"'adamant env --reload' makes sure that it does not start any more",
		}
	case blueapi.Queued:
		return "another plan was started at the same moment, and runs", []string{
			fmt.Sprintf("'adamant wait %s', then 'adamant state': RUNNING again is this plan", other), attach,
		}
	case blueapi.Abandoned:
		return "the waiting was ended before it was clear", []string{attach}
	}
	if r.Started {
		return "it was started; nothing since", []string{attach}
	}
	return "nothing since", []string{attach, data}
}
