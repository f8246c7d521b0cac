package main

import (
	"context"
	"errors"
	"testing"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
)

// Each way in which a control command can end, in both voices.
// arrive warns of a request that was never answered.
const arrive = "\nadamant: 1 of 1 requests were never answered: one may still arrive, and reach whatever plan runs then"

func TestEndOfControl(t *testing.T) {
	t.Parallel()
	away := &retry.Error{Op: "GET /worker/task", Reason: retry.Outlasted, Attempts: 5, Took: 2.5e9, Err: errors.New("refused")}
	const awayText = "GET /worker/task: refused (the outage lasted too long; 5 attempts in 2.5 s)"
	refused := func(status int, detail string) error {
		return &blueapi.Error{Op: "PUT /worker/state", Status: status, Detail: detail}
	}
	done := func(state blueapi.WorkerState, effect blueapi.Effect) blueapi.ControlResult {
		return blueapi.ControlResult{TaskID: "T", State: state, Effect: effect, Sent: 1, Checked: effect == blueapi.Accepted}
	}
	failed := func(verb blueapi.Verb, why blueapi.ControlReason, r blueapi.ControlResult, err error) *blueapi.ControlError {
		r.TaskID = "T"
		return &blueapi.ControlError{ControlResult: r, Verb: verb, Reason: why, From: blueapi.StateIdle, Err: err}
	}
	for _, tt := range []struct {
		name         string
		command      blueapi.Command
		result       blueapi.ControlResult
		err          *blueapi.ControlError
		interrupted  bool
		own, blueapi ending
	}{
		{
			name: "paused", command: blueapi.Command{Verb: blueapi.Pause}, result: done(blueapi.StatePaused, blueapi.Accepted),
			own: ending{out: "paused\n"}, blueapi: ending{out: "<WorkerState.PAUSED: 'PAUSED'>\n"},
		},
		{
			name: "pausing", command: blueapi.Command{Verb: blueapi.Pause}, result: done(blueapi.StatePausing, blueapi.Accepted),
			own: ending{out: "pausing\n"}, blueapi: ending{out: "<WorkerState.PAUSING: 'PAUSING'>\n"},
		},
		{
			name: "pausing at a checkpoint", command: blueapi.Command{Verb: blueapi.Pause, Defer: true},
			result: done(blueapi.StateRunning, blueapi.Accepted),
			own:    ending{out: "pausing at the next checkpoint\n"}, blueapi: ending{out: "<WorkerState.RUNNING: 'RUNNING'>\n"},
		},
		{
			name: "not paused but ended", command: blueapi.Command{Verb: blueapi.Pause}, result: done(blueapi.StateIdle, blueapi.Accepted),
			own: ending{out: "accepted; the worker is IDLE\n"}, blueapi: ending{out: "<WorkerState.IDLE: 'IDLE'>\n"},
		},
		{
			name: "aborting", command: blueapi.Command{Verb: blueapi.Abort}, result: done(blueapi.StateAborting, blueapi.Accepted),
			own: ending{out: "aborting\n"}, blueapi: ending{out: "<WorkerState.ABORTING: 'ABORTING'>\n"},
		},
		{
			name: "aborted, as was seen", command: blueapi.Command{Verb: blueapi.Abort}, result: done(blueapi.StateIdle, blueapi.Seen),
			own: ending{
				out: "aborted\n", msg: "adamant: the server did not say that it was done; its worker was then seen IDLE",
			},
			blueapi: ending{
				out: "<WorkerState.IDLE: 'IDLE'>\n",
				msg: "adamant: the server did not say that it was done; its worker was then seen IDLE",
			},
		},
		{
			name: "withdrawn", command: blueapi.Command{Verb: blueapi.Stop},
			result:  blueapi.ControlResult{TaskID: "T", State: blueapi.StateIdle, Effect: blueapi.TaskWithdrawn, Checked: true},
			own:     ending{out: "withdrawn: the plan had not begun, and will not\n"},
			blueapi: ending{out: "<WorkerState.IDLE: 'IDLE'>\n"},
		},
		{
			name: "withdrawn, and perhaps in the queue", command: blueapi.Command{Verb: blueapi.Stop},
			result: blueapi.ControlResult{TaskID: "T", State: blueapi.StateRunning, Effect: blueapi.TaskWithdrawn},
			own: ending{
				out: "withdrawn: the plan had not begun\n",
				msg: "adamant: the worker has another plan in hand: if a request to start task T came just before that began, " +
					"its plan begins when that has ended, though the task is deleted; 'adamant state' shows it",
			},
			blueapi: ending{
				out: "<WorkerState.IDLE: 'IDLE'>\n",
				msg: "adamant: the worker has another plan in hand: if a request to start task T came just before that began, " +
					"its plan begins when that has ended, though the task is deleted; 'adamant state' shows it",
			},
		},
		{
			name: "an answer is missing", command: blueapi.Command{Verb: blueapi.Stop},
			result: blueapi.ControlResult{
				TaskID: "T", State: blueapi.StateIdle, Effect: blueapi.Accepted, Sent: 2, Unanswered: 1, Checked: true,
			},
			own: ending{
				out: "stopped\n",
				msg: "adamant: 1 of 2 requests were never answered: one may still arrive, and reach whatever plan runs then",
			},
			blueapi: ending{
				out: "<WorkerState.IDLE: 'IDLE'>\n",
				msg: "adamant: 1 of 2 requests were never answered: one may still arrive, and reach whatever plan runs then",
			},
		},
		{
			name: "not checked", command: blueapi.Command{Verb: blueapi.Stop},
			result: blueapi.ControlResult{TaskID: "T", State: blueapi.StateIdle, Effect: blueapi.Accepted, Sent: 1},
			own: ending{
				out: "stopped\n",
				msg: "adamant: the server could not be asked afterwards which plan was reached; it was task T within a second before",
			},
			blueapi: ending{
				out: "<WorkerState.IDLE: 'IDLE'>\n",
				msg: "adamant: the server could not be asked afterwards which plan was reached; it was task T within a second before",
			},
		},
		{
			name: "another plan", command: blueapi.Command{Verb: blueapi.Abort},
			err: failed(blueapi.Abort, blueapi.AlreadyOver, blueapi.ControlResult{Sent: 1, Other: "U"}, nil),
			own: ending{
				msg: "adamant: the plan ended by itself before it was aborted (task T)\nadamant: another plan (task U) began " +
					"meanwhile, and may have been reached instead: 'adamant task U' shows it",
				status: statusUnknown,
			},
			blueapi: ending{
				msg: "Error: the plan ended by itself before it was aborted (task T)\nadamant: another plan (task U) began " +
					"meanwhile, and may have been reached instead: 'adamant task U' shows it",
				status: statusError,
			},
		},
		{
			name: "not active", err: failed(blueapi.Stop, blueapi.NotActive, blueapi.ControlResult{}, nil),
			own:     ending{msg: "adamant: nothing to stop: the worker is IDLE", status: statusError},
			blueapi: ending{msg: "Error: Cannot transition from IDLE to STOPPING", status: statusError},
		},
		{
			name: "not begun", err: failed(blueapi.Abort, blueapi.NotActive, blueapi.ControlResult{}, errors.New("not yet")),
			own: ending{
				msg:    "adamant: nothing was sent: the worker has task T, whose plan has not begun, and cannot be aborted before it has",
				status: statusError,
			},
			blueapi: ending{msg: "Error: Cannot transition from IDLE to ABORTING: not yet", status: statusError},
		},
		{
			name: "not current", err: failed(blueapi.Pause, blueapi.NotCurrent, blueapi.ControlResult{}, nil),
			own:     ending{msg: "adamant: task T is not the one that the worker has: nothing was sent", status: statusError},
			blueapi: ending{msg: "Error: task T is not the one that the worker has: nothing was sent", status: statusError},
		},
		{
			name: "denied", err: failed(blueapi.Pause, blueapi.Denied, blueapi.ControlResult{Sent: 1}, refused(403, "no")),
			own: ending{
				msg: "adamant: Access denied. Please check your login status and try again.", status: statusNotAuthorised,
			},
			blueapi: ending{msg: "Error: Access denied. Please check your login status and try again.", status: statusError},
		},
		{
			name: "rejected", err: failed(blueapi.Pause, blueapi.Rejected, blueapi.ControlResult{Sent: 2}, refused(400, "no")),
			own:     ending{msg: "adamant: the plan was not paused: PUT /worker/state: 400 Bad Request: no", status: statusError},
			blueapi: ending{msg: "Error: the plan was not paused: PUT /worker/state: 400 Bad Request: no", status: statusError},
		},
		{
			name: "unreachable", err: failed(blueapi.Abort, blueapi.ControlUnreachable, blueapi.ControlResult{}, away),
			own: ending{
				msg: "adamant: the server could not be asked, and nothing was sent: " + awayText, status: statusNotStarted,
			},
			blueapi: ending{msg: "Error: Failed to establish connection to blueapi server.", status: statusError},
		},
		{
			name: "silent", err: failed(blueapi.Abort, blueapi.ControlSilent, blueapi.ControlResult{Sent: 1, Unanswered: 1}, away),
			own: ending{
				msg: "adamant: a request to abort the plan of task T was sent, and it is not known what became of it: " +
					"'adamant state' and 'adamant task T' show it" + arrive,
				status: statusUnknown,
			},
			blueapi: ending{
				msg: "Error: a request to abort the plan of task T was sent, and it is not known what became of it: " +
					"'adamant state' and 'adamant task T' show it" + arrive,
				status: statusError,
			},
		},
		{
			name: "ended by somebody else", err: failed(blueapi.Pause, blueapi.EndedByOthers, blueapi.ControlResult{Sent: 1}, nil),
			own: ending{
				msg:    "adamant: the plan was not paused: it has been aborted or stopped by somebody else (task T)",
				status: statusError,
			},
			blueapi: ending{
				msg:    "Error: the plan was not paused: it has been aborted or stopped by somebody else (task T)",
				status: statusError,
			},
		},
		{
			name: "resumed, or ended by somebody else", command: blueapi.Command{Verb: blueapi.Resume},
			result: blueapi.ControlResult{TaskID: "T", State: blueapi.StateIdle, Effect: blueapi.Seen, Sent: 1, Checked: true},
			own: ending{
				out: "over\n",
				msg: "adamant: the server did not say that it was done; its worker was then seen IDLE\n" +
					"adamant: the plan is over: it was resumed, or ended by somebody else, which is not recorded (task T)",
			},
			blueapi: ending{
				out: "<WorkerState.IDLE: 'IDLE'>\n",
				msg: "adamant: the server did not say that it was done; its worker was then seen IDLE\n" +
					"adamant: the plan is over: it was resumed, or ended by somebody else, which is not recorded (task T)",
			},
		},
		{
			name: "interrupted", err: failed(blueapi.Abort, blueapi.ControlInterrupted, blueapi.ControlResult{}, context.Canceled),
			interrupted: true,
			own:         ending{msg: "adamant: interrupted; nothing was sent", status: statusInterrupted},
			blueapi:     ending{msg: "\nAborted!", status: statusError},
		},
		{
			name:        "interrupted after it was sent",
			err:         failed(blueapi.Resume, blueapi.ControlInterrupted, blueapi.ControlResult{Sent: 1}, context.Canceled),
			interrupted: true,
			own: ending{
				msg: "adamant: interrupted: a request to resume the plan of task T was sent, and it is not known what became of it " +
					"(the server answers when the plan has ended): 'adamant state' and 'adamant task T' show it",
				status: statusUnknown,
			},
			blueapi: ending{
				msg: "\nAborted!\nadamant: interrupted: a request to resume the plan of task T was sent, and it is not known what " +
					"became of it (the server answers when the plan has ended): 'adamant state' and 'adamant task T' show it",
				status: statusError,
			},
		},
		{
			name: "no time left", err: failed(blueapi.Stop, blueapi.ControlInterrupted, blueapi.ControlResult{}, away),
			own:     ending{msg: "adamant: no time left; nothing was sent: " + awayText, status: statusNotStarted},
			blueapi: ending{msg: "Error: no time left; nothing was sent: " + awayText, status: statusError},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var err error
			if tt.err != nil {
				tt.command.Verb, err = tt.err.Verb, tt.err
			}
			if got := endOfControl(asAdamant, compact, tt.command, tt.result, err, tt.interrupted); got != tt.own {
				t.Errorf("own:\n got %+v (%d)\nwant %+v (%d)", got, got.status, tt.own, tt.own.status)
			}
			if got := endOfControl(asBlueapi, compact, tt.command, tt.result, err, tt.interrupted); got != tt.blueapi {
				t.Errorf("blueapi's:\n got %+v (%d)\nwant %+v (%d)", got, got.status, tt.blueapi, tt.blueapi.status)
			}
		})
	}
}

// Each way in which a reload can fail.
func TestEndOfReload(t *testing.T) {
	t.Parallel()
	message := "ModuleNotFoundError: No module named 'x'"
	broken := blueapi.Environment{ID: "E", ErrorMessage: &message}
	denied := &blueapi.Error{Op: "DELETE /environment", Status: 403}
	away := &retry.Error{Op: "GET /environment", Reason: retry.Outlasted, Attempts: 5, Took: 2.5e9, Err: errors.New("refused")}
	for _, tt := range []struct {
		name         string
		err          blueapi.ReloadError
		interrupted  bool
		own, blueapi ending
	}{
		{
			name: "a plan is active", err: blueapi.ReloadError{Reason: blueapi.PlanActive, State: blueapi.StatePaused, TaskID: "T"},
			own: ending{
				msg: "adamant: not reloaded: a plan is under way (nap, task T, worker PAUSED). With --force it would be reloaded " +
					"all the same: " + leftBehind,
				status: statusBusy,
			},
			blueapi: ending{
				msg: "Error: the environment was not reloaded: task T is active (worker PAUSED), and its plan would go on unseen",
			},
		},
		{
			name: "broken", err: blueapi.ReloadError{Reason: blueapi.ReloadFailed, Environment: broken, Sent: true},
			own: ending{
				out: "E not initialized: " + message + "\n",
				msg: "adamant: the environment was reloaded, and loading it failed: " + message, status: statusError,
			},
			blueapi: ending{msg: "Error: Error reloading environment: " + message},
		},
		{
			name: "denied", err: blueapi.ReloadError{Reason: blueapi.ReloadDenied, Err: denied},
			own: ending{
				msg: "adamant: Access denied. Please check your login status and try again.", status: statusNotAuthorised,
			},
			blueapi: ending{msg: "Error: Access denied. Please check your login status and try again."},
		},
		{
			name: "unreachable", err: blueapi.ReloadError{Reason: blueapi.ReloadUnreachable, Err: away},
			own: ending{
				msg: "adamant: not reloaded, nothing was sent: " +
					"GET /environment: refused (the outage lasted too long; 5 attempts in 2.5 s)",
				status: statusNotStarted,
			},
			blueapi: ending{msg: "Error: Failed to establish connection to blueapi server."},
		},
		{
			name: "overdue", err: blueapi.ReloadError{Reason: blueapi.ReloadOverdue, Sent: true, Err: context.Canceled},
			own: ending{
				msg: "adamant: the server was asked to reload, and shows no new environment yet; it may still come, and until then " +
					"nothing else should be asked but 'adamant env'",
				status: statusUnknown,
			},
			blueapi: ending{msg: "Error: Failed to reload the environment within 10.0 seconds, a server restart is recommended"},
		},
		{
			name: "interrupted", err: blueapi.ReloadError{Reason: blueapi.ReloadOverdue, Sent: true, Err: context.Canceled},
			interrupted: true,
			own: ending{
				msg: "adamant: interrupted: the server was asked to reload; until 'adamant env' shows a new id, " +
					"nothing else should be asked",
				status: statusUnknown,
			},
			blueapi: ending{msg: "\nAborted!"},
		},
		{
			name:        "interrupted at once",
			err:         blueapi.ReloadError{Reason: blueapi.ReloadUnreachable, Err: context.Canceled},
			interrupted: true,
			own:         ending{msg: "adamant: interrupted", status: statusInterrupted},
			blueapi:     ending{msg: "\nAborted!"},
		},
		{
			name: "hangs", err: blueapi.ReloadError{Reason: blueapi.ReloadHangs, Sent: true},
			own: ending{
				msg:    "adamant: the server was asked twice and shows no new environment: it hangs, and has to be restarted",
				status: statusError,
			},
			blueapi: ending{
				msg: "Error: the server was asked twice and shows no new environment: it hangs, and has to be restarted",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.blueapi.status = statusError
			if got := endOfReload(compact, &tt.err, tt.interrupted, "nap"); got != tt.own {
				t.Errorf("own:\n got %+v (%d)\nwant %+v (%d)", got, got.status, tt.own, tt.own.status)
			}
			if got := endOfControllerReload(&tt.err, tt.interrupted, 10); got != tt.blueapi {
				t.Errorf("blueapi's:\n got %+v (%d)\nwant %+v (%d)", got, got.status, tt.blueapi, tt.blueapi.status)
			}
		})
	}
}
