package blueapi

// WorkerState is what the server's one worker is doing.
type WorkerState string

// The states of the bluesky run engine, as blueapi names them. StateIdle does not
// mean that a plan has ended: it is also the state of a worker that has taken a
// task and not begun it yet.
const (
	StateIdle       WorkerState = "IDLE"
	StateRunning    WorkerState = "RUNNING"
	StatePausing    WorkerState = "PAUSING"
	StatePaused     WorkerState = "PAUSED"
	StateHalting    WorkerState = "HALTING"
	StateStopping   WorkerState = "STOPPING"
	StateAborting   WorkerState = "ABORTING"
	StateSuspending WorkerState = "SUSPENDING"
	StatePanicked   WorkerState = "PANICKED"
	StateUnknown    WorkerState = "UNKNOWN"
)
