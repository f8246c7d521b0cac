package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/retry"
)

// TestOuterOnceIsNotRepeated: an operation of several calls may have taken effect
// though the one that failed was not sent.
func TestOuterOnceIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := 0
		_, err := retry.Do(t.Context(), retry.Policy{Safety: retry.Once}, func(ctx context.Context, _ retry.Attempt) (int, error) {
			if _, err := retry.Do(ctx, retry.Policy{}, func(context.Context, retry.Attempt) (int, error) { ran++; return 1, nil }); err != nil {
				return 0, err
			}
			return retry.Do(ctx, retry.Policy{}, func(context.Context, retry.Attempt) (int, error) { return 0, notSent(errDown) })
		})
		if e, _ := errors.AsType[*retry.Error](err); e == nil || e.Reason != retry.Unclear || ran != 1 {
			t.Errorf("ran %d times: %v", ran, err)
		}
	})
}

// TestPromise3Copies: a call whose attempts are used up does not wait for ever for
// a copy that hangs.
func TestPromise3Copies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		_, err := retry.Do(ctx, retry.Policy{Copies: true}, func(ctx context.Context, a retry.Attempt) (int, error) {
			if a.Copy {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			time.Sleep(1500 * time.Millisecond)
			return 0, errDown
		})
		if took := time.Since(start); err == nil || took > time.Minute {
			t.Errorf("%v after %v", err, took)
		}
	})
}
