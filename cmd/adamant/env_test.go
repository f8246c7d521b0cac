package main

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestReloadTimeLimit: the time that a reload may take begins when it does, so an
// outage before it is none of it.
func TestReloadTimeLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		limit   time.Duration
		overdue bool
	}{
		{"long enough for the reload", 7 * time.Second, false}, // but not for the outage too
		{"too short", 5 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := sim.Server{ReloadTime: 6 * time.Second}
				defer server.Close()
				up := time.Now().Add(time.Second)
				server.Inject(sim.When(func(*sim.Exchange) bool { return time.Now().Before(up) }, sim.Status(503)))
				c := &blueapi.Client{Transport: &http.Transport{DialContext: server.DialContext}}
				defer c.Close()
				ctx, cancel := untilOverdue(t.Context(), c, tt.limit)
				defer cancel()
				_, err := c.Reload(ctx, false)
				failed, _ := errors.AsType[*blueapi.ReloadError](err)
				if overdue := failed != nil && failed.Reason == blueapi.ReloadOverdue; overdue != tt.overdue || !overdue && err != nil {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestDurationOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0.2": 200 * time.Millisecond, "10": 10 * time.Second, "-1": 0, "nan": 0, "inf": 1<<63 - 1, "1e300": 1<<63 - 1,
	} {
		var f float
		if err := f.Set(text); err != nil || durationOf(float64(f)) != want {
			t.Errorf("%s: %v, %v", text, durationOf(float64(f)), err)
		}
	}
}
