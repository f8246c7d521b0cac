package blueapi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// TestPanicLeavesNothing: whoever recovers from a panic of his trace, as net/http does for
// handlers, finds no connection left open: the bubble would notice.
func TestPanicLeavesNothing(t *testing.T) {
	t.Parallel()
	errTrace := errors.New("a trace that panics")
	told := func(string) { panic(errTrace) }
	event := func(blueapi.Event) { panic(errTrace) }
	for name, c := range map[string]struct {
		trace blueapi.RunTrace
		run   func(ctx context.Context, c *blueapi.Client, task string)
	}{
		"submitted": {blueapi.RunTrace{Submitted: told}, func(ctx context.Context, c *blueapi.Client, _ string) { _, _ = c.Start(ctx, nap) }},
		"starting":  {blueapi.RunTrace{Starting: told}, func(ctx context.Context, c *blueapi.Client, task string) { _, _ = c.StartTask(ctx, task) }},
		"looking": {blueapi.RunTrace{Looking: func(string, error) { panic(errTrace) }}, func(ctx context.Context, c *blueapi.Client, task string) {
			_, _ = c.Attach(ctx, blueapi.Attachment{TaskID: task, Step: blueapi.StepStarting, Owned: true})
		}},
		"event":     {blueapi.RunTrace{Event: event}, func(ctx context.Context, c *blueapi.Client, _ string) { _, _ = c.Run(ctx, nap) }},
		"webSocket": {blueapi.RunTrace{Event: event}, func(ctx context.Context, c *blueapi.Client, _ string) { _, _ = c.RunWebSocket(ctx, nap) }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world, _ *record) {
				task, err := w.client.SubmitTask(t.Context(), nap)
				if err != nil {
					t.Fatal(err)
				}
				w.client.RunTrace = &c.trace
				defer func() {
					if p := recover(); p != errTrace {
						t.Errorf("%v", p)
					}
					time.Sleep(time.Minute) // more comes, that nobody takes
				}()
				c.run(t.Context(), w.client, task)
			})
		})
	}
}
