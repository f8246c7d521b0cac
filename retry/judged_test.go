package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/adamant-go/adamant/retry"
)

type unsent struct{ error }

func (unsent) Verdict() retry.Verdict { return retry.NotSent }

// TestVerdictOfAnEarlierAttempt: what an error says of itself is not what the call
// means that it was an earlier attempt of.
func TestVerdictOfAnEarlierAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer, done := 0, 0
		_, err := retry.Do(t.Context(), retry.Policy{Safety: retry.Once}, func(ctx context.Context, _ retry.Attempt) (int, error) {
			outer++
			return retry.Do(ctx, retry.Policy{}, func(_ context.Context, a retry.Attempt) (int, error) {
				if a.Number == 1 {
					return 0, unsent{errors.New("not sent")}
				}
				done++
				return 0, errors.New("the answer was lost")
			})
		})
		if outer != 1 || done != 1 {
			t.Errorf("%d attempts of the outer call, done %d times: %v", outer, done, err)
		}
		if v := retry.VerdictOf(err); v != retry.Ambiguous {
			t.Errorf("verdict %v", v)
		}
	})
}

// TestJudgedIsNoEvidence: what an error says of itself it does not say of the destination.
func TestJudgedIsNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(retry.Gate)
		_, err := retry.Do(t.Context(), retry.Policy{Gate: g, Attempts: 1}, func(context.Context, retry.Attempt) (int, error) {
			return 0, unsent{errors.New("not sent")}
		})
		if s := g.Status(); err == nil || !s.Down.IsZero() || s.Cause != nil {
			t.Errorf("%+v, %v", s, err)
		}
	})
}
