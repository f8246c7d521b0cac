package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/adamant-go/adamant/blueapi"
)

var update = flag.Bool("update", false, "write testdata instead of comparing with it")

// TestUnknownWords pins what is said of each way in which a run can have no known
// end: the cases that no client can settle, each with advice of its own.
func TestUnknownWords(t *testing.T) {
	t.Parallel()
	hangs := &blueapi.Error{Op: "GET /worker/state", Status: 500}
	silent := errors.New("GET /tasks/{id}: connection refused")
	var b strings.Builder
	for _, c := range []struct {
		title   string
		reason  blueapi.Reason
		started bool
		other   string
		err     error
	}{
		{"the server does not answer any more, after the request to start", blueapi.Silent, false, "", silent},
		{"the server does not answer any more, while the plan runs", blueapi.Silent, true, "", silent},
		{"restarted or reloaded after the request to start", blueapi.EnvironmentChanged, false, "", nil},
		{"restarted or reloaded while the plan ran", blueapi.EnvironmentChanged, true, "", nil},
		{"hangs in a reload while the plan ran", blueapi.EnvironmentChanged, true, "", hangs},
		{"the record of a started plan was deleted", blueapi.RecordLost, true, "", nil},
		{"the task was deleted, or is hidden, before it was seen to start", blueapi.Removed, false, "", nil},
		{"another plan was started while the task was withdrawn", blueapi.Overtaken, false, "U", nil},
		{"the worker did not take the task", blueapi.Stuck, false, "", nil},
		{"in the worker's queue behind another plan", blueapi.Queued, false, "U", nil},
		{"left by its caller before it was clear", blueapi.Abandoned, false, "", nil},
	} {
		r := blueapi.Result{Word: blueapi.Unknown, Reason: c.reason, TaskID: "T", Started: c.started}
		e := endOfRun(asAdamant, compact, "count", r, &blueapi.RunError{Result: r, Plan: "count", Other: c.other, Err: c.err})
		if e.status != statusUnknown {
			t.Errorf("%s: exit status %d", c.title, e.status)
		}
		fmt.Fprintf(&b, "# %s\n%s\n\n", c.title, e.msg)
	}
	const file = "testdata/unknown.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
}

// TestUnknownWithoutTask: nobody is sent to a task that has no name yet.
func TestUnknownWithoutTask(t *testing.T) {
	t.Parallel()
	for _, reason := range []blueapi.Reason{blueapi.Silent, blueapi.Abandoned} {
		r := blueapi.Result{Word: blueapi.Unknown, Reason: reason}
		err := &blueapi.RunError{Result: r, Plan: "count"}
		for _, e := range []ending{endOfRun(asAdamant, compact, "count", r, err), endOfTimeout(compact, "count", "", r, 1, err)} {
			if e.status != statusUnknown || strings.Contains(e.msg, "attach") || !strings.Contains(e.msg, "'adamant tasks'") {
				t.Errorf("exit status %d, %s", e.status, e.msg)
			}
		}
	}
}
