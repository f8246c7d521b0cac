package blueapi

import "context"

// Word says in one word what became of a run.
type Word int

// The three honest words. The zero Word is none of them.
const (
	Done Word = iota + 1
	NotStarted
	Unknown
)

// Result is what became of a run.
type Result struct {
	Word   Word
	Reason Reason
	TaskID string
	// Outcome is how the plan ended; nil if Word is not Done, or none was recorded.
	Outcome *Outcome
}

// Reason explains a Word.
type Reason int

// Run is one run of a plan that was started.
type Run struct{ id string }

// TaskID is the run's task on the server.
func (r *Run) TaskID() string { return r.id }

// Wait waits for the end of the plan.
func (r *Run) Wait(ctx context.Context) (Result, error) { return Result{}, ctx.Err() }

// Start starts a run of a plan and returns when it has started.
func (c *Client) Start(ctx context.Context, req TaskRequest) (*Run, Result, error) {
	id, err := c.SubmitTask(ctx, req)
	return &Run{id}, Result{}, err
}

// Run runs a plan and waits for its end.
func (c *Client) Run(ctx context.Context, req TaskRequest) (Result, error) {
	r, res, err := c.Start(ctx, req)
	if err != nil {
		return res, err
	}
	return r.Wait(ctx)
}
