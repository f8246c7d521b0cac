package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/retry"
)

// TestCopyUnderWayIsWaitedFor: the last attempt has failed, and its copy is yet to
// be answered.
func TestCopyUnderWayIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Gate: new(retry.Gate), Copies: true, Attempts: 2, Silence: 10 * time.Second}
		v, err := retry.Do(t.Context(), p, func(_ context.Context, a retry.Attempt) (int, error) {
			if a.Copy {
				time.Sleep(time.Second)
				return 2, nil
			}
			time.Sleep(1500 * time.Millisecond)
			return 0, errors.New("reset")
		})
		if v != 2 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}
