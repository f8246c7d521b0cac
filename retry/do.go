package retry

import (
	"context"
	"sync"
)

// Do calls op until it succeeds, as p allows, and returns its result. On failure
// it returns an [*Error] with every attempt. The context that op is given ends
// with the attempt, so op must have read whatever it needs when it returns. With
// Policy.Copies, op may run twice at the same time.
//
// Do may be called concurrently; p is not changed.
func Do[T any](ctx context.Context, p Policy, op func(ctx context.Context, a Attempt) (T, error)) (T, error) {
	d := doer[T]{op: op}
	a, err := d.call.Run(ctx, &p, &d)
	a.Release()
	if err != nil {
		var none T
		return none, err
	}
	return d.results[a.Number], nil
}

type doer[T any] struct {
	call Call
	op   func(context.Context, Attempt) (T, error)

	mu      sync.Mutex
	results map[int]T
}

// Try implements Tryer.
func (d *doer[T]) Try(ctx context.Context, a Attempt) error {
	v, err := d.op(ctx, a)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.results == nil {
			d.results = make(map[int]T)
		}
		d.results[a.Number] = v
	}
	return err
}
