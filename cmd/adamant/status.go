package main

// status is what adamant exits with. The commands under controller, and every
// wrong use, follow blueapi: 0, 1 and 2.
type status int

// The exit statuses of adamant's own commands.
const (
	statusDone          status = 0
	statusError         status = 1
	statusUsage         status = 2 // also an unknown plan, or parameters that it does not take
	statusFailed        status = 3 // the plan ran and failed
	statusAborted       status = 4 // the plan was aborted or stopped
	statusBusy          status = 5
	statusNotAuthorised status = 6
	statusNotStarted    status = 7 // and never will be, or nothing was sent: safe to try again
	statusUnknown       status = 8 // or ended without a recorded outcome
	statusStillRunning  status = 9
	statusInterrupted   status = 130 // by the user, where nothing was started
)

// statusTable explains them in the help of the commands that use them.
const statusTable = `Exit status:
  0    done
  1    error
  2    wrong use, unknown plan, wrong parameters
  3    the plan failed
  4    the plan was aborted or stopped
  5    the server is busy with another plan
  6    not authorised
  7    not started, or nothing was sent: safe to try again
  8    unknown, or ended without a recorded outcome
  9    still running
  130  interrupted before anything was started
`

// ending is how a command ends if not by simply having printed its result.
type ending struct {
	out    string // for stdout, with its newline
	msg    string // for stderr, without
	status status
}

func (e ending) Error() string { return e.msg }
