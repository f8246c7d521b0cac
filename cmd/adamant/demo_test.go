package main

import (
	"context"
	"strings"
	"testing"
)

// TestDemoInterrupted: who has seen enough of it can leave it.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	_, stderr, got := runHere(ctx, "", "demo")
	if got != statusInterrupted || stderr != "adamant: interrupted\n" {
		t.Errorf("exit status %d, stderr %q", got, stderr)
	}
	_, stderr, got = runHere(t.Context(), "", "demo", "now")
	if got != statusUsage || !strings.HasSuffix(stderr, "Error: Got unexpected extra argument (now)\n") {
		t.Errorf("exit status %d, stderr %q", got, stderr)
	}
}
