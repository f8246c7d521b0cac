package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
)

// Each way in which a run can end, in both voices.
func TestEndOfRun(t *testing.T) {
	t.Parallel()
	outcome := func(o blueapi.Outcome) blueapi.Result {
		return blueapi.Result{Word: blueapi.Done, Reason: blueapi.Ended, TaskID: "T", Outcome: &o}
	}
	began := &blueapi.Task{ID: "T"}
	interrupted := &blueapi.Task{ID: "T", Outcome: &blueapi.Outcome{
		Kind: "error", Type: "RunEngineInterrupted", Message: "paused",
	}}
	away := &retry.Error{
		Op: "GET /environment", Reason: retry.Outlasted, Attempts: 5, Took: 2.5e9, Err: errors.New("refused"),
	}
	refused := func(op string, status int, detail string) error {
		return &retry.Error{
			Op: op, Reason: retry.Hopeless, Attempts: 1,
			Err: &blueapi.Error{Op: op, Status: status, Detail: detail},
		}
	}
	for _, tt := range []struct {
		name         string
		result       blueapi.Result
		err          error // cause, if the word is not Done
		own, blueapi ending
	}{
		{
			"succeeded", outcome(blueapi.Outcome{Kind: "success", Type: "int", Result: json.RawMessage("42")}), nil,
			ending{out: "Plan succeeded: 42\n"},
			ending{out: "Plan succeeded: 42\n"},
		},
		{
			"failed", outcome(blueapi.Outcome{Kind: "error", Type: "ValueError", Message: "boom"}), nil,
			ending{out: "Plan failed: ValueError: boom\n", status: statusFailed},
			ending{out: "Plan failed: ValueError: boom\n"},
		},
		{
			"paused, aborted or stopped",
			blueapi.Result{Word: blueapi.Done, Reason: blueapi.NotRecorded, TaskID: "T", Task: interrupted},
			nil,
			ending{
				msg:    "adamant: plan nap was paused, aborted or stopped; how it ended is not recorded (task T)",
				status: statusUnknown,
			},
			ending{out: "Plan failed: RunEngineInterrupted: paused\n"},
		},
		{
			"unknown plan",
			blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Refused},
			refused("POST /tasks", 404, "Item not found"),
			ending{msg: "adamant: Plan 'nap' was not recognised", status: statusUsage},
			ending{msg: "Error: Plan 'nap' was not recognised", status: statusError},
		},
		{
			"denied",
			blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Refused},
			refused("POST /tasks", 403, "Not authorized to submit task"),
			ending{
				msg:    "adamant: Access denied. Please check your login status and try again.",
				status: statusNotAuthorised,
			},
			ending{msg: "Error: Access denied. Please check your login status and try again.", status: statusError},
		},
		{
			"refused otherwise",
			blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Refused},
			refused("POST /tasks", 418, "no"),
			ending{msg: "adamant: plan nap was not started: POST /tasks: 418 I'm a teapot: no", status: statusError},
			ending{msg: "Error: plan nap was not started: POST /tasks: 418 I'm a teapot: no", status: statusError},
		},
		{
			"busy",
			blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Busy, TaskID: "T"},
			refused("PUT /worker/task", 409, "Worker already active"),
			ending{msg: "adamant: plan nap was not started: the server is busy with another plan", status: statusBusy},
			ending{msg: "Error: Remote control error: 409", status: statusError},
		},
		{
			"unreachable",
			blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Unreachable},
			away,
			ending{
				msg: "adamant: plan nap was not started: the server could not be reached, and nothing was started: " +
					"GET /environment: refused (the outage lasted too long; 5 attempts in 2.5 s)",
				status: statusNotStarted,
			},
			ending{msg: "Error: Failed to establish connection to blueapi server.", status: statusError},
		},
		{
			"server's error",
			blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Unreachable},
			refused("POST /tasks", 500, "Internal Server Error"),
			ending{
				msg: "adamant: plan nap was not started: the server could not be reached, and nothing was started: " +
					"POST /tasks: POST /tasks: 500 Internal Server Error: Internal Server Error",
				status: statusNotStarted,
			},
			ending{msg: "Error: Remote control error: 500", status: statusError},
		},
		{
			"withdrawn",
			blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Withdrawn, TaskID: "T"},
			nil,
			ending{
				msg: "adamant: plan nap was not started: " +
					"the request to start it got lost each time, and was withdrawn",
				status: statusNotStarted,
			},
			ending{
				msg: "Error: plan nap was not started: " +
					"the request to start it got lost each time, and was withdrawn",
				status: statusError,
			},
		},
		{
			"unknown",
			blueapi.Result{Word: blueapi.Unknown, Reason: blueapi.Removed, TaskID: "T"},
			nil,
			ending{
				msg: "adamant: plan nap (task T): it is not known whether it ran: " +
					"its task was deleted by somebody before it was seen to start",
				status: statusUnknown,
			},
			ending{
				msg: "Error: plan nap (task T): it is not known whether it ran: " +
					"its task was deleted by somebody before it was seen to start",
				status: statusError,
			},
		},
		{
			"interrupted",
			blueapi.Result{Word: blueapi.NotStarted, Reason: blueapi.Interrupted},
			nil,
			ending{msg: "adamant: interrupted; plan nap was not started", status: statusInterrupted},
			ending{msg: "\nAborted!", status: statusError},
		},
		{
			"interrupted while starting",
			blueapi.Result{Word: blueapi.Unknown, Reason: blueapi.Abandoned, TaskID: "T"},
			nil,
			ending{
				msg: "adamant: plan nap (task T): it is not known whether it ran: interrupted after the request " +
					"to start it was sent; it may still start or be running",
				status: statusUnknown,
			},
			ending{msg: "\nAborted!", status: statusError},
		},
		{
			"interrupted while running",
			blueapi.Result{Word: blueapi.Unknown, Reason: blueapi.Abandoned, TaskID: "T", Task: began},
			nil,
			ending{msg: "adamant: interrupted; plan nap goes on: 'adamant attach T' comes back to it", status: statusStillRunning},
			ending{msg: "\nAborted!", status: statusError},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.result.Started = tt.result.Task != nil
			var err error
			if tt.result.Word != blueapi.Done {
				err = &blueapi.RunError{Result: tt.result, Plan: "nap", Err: tt.err}
			}
			if got := withoutAdvice(endOfRun(asAdamant, compact, "nap", tt.result, err)); got != tt.own {
				t.Errorf("own:\n got %+v (%d)\nwant %+v (%d)", got, got.status, tt.own, tt.own.status)
			}
			if got := withoutAdvice(endOfRun(asBlueapi, compact, "nap", tt.result, err)); got != tt.blueapi {
				t.Errorf("blueapi's:\n got %+v (%d)\nwant %+v (%d)", got, got.status, tt.blueapi, tt.blueapi.status)
			}
		})
	}
}

// withoutAdvice leaves of the message about an unknown run what it says first; the
// whole is in testdata/unknown.txt.
func withoutAdvice(e ending) ending {
	e.msg, _, _ = strings.Cut(e.msg, "\n    sent: ")
	return e
}
