package main

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

// TestStartOf: a gateway finds what another one that shares its journal has sent, whether
// that one lives, and no more when that is settled.
func TestStartOf(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "journal")
	open := func() *gatewayJournal {
		j, err := journal.Open(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		kept, err := keepStarts(j, "http://blueapi.example")
		if err != nil {
			t.Fatal(err)
		}
		return kept
	}
	old, young := open(), open()
	record := func(e blueapi.Entry) {
		e.RunID, e.At = "0123456789abcdef", time.Now()
		if err := old.Record(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	look := func(j *gatewayJournal, when, task string, found, owned bool) (release func()) {
		t.Helper()
		a, err := j.startOf(ctx, task)
		if err != nil || (a != nil) != found || a != nil && (a.Owned != owned || a.TaskID != task || a.Step != blueapi.StepStarting || a.EnvironmentID != "E") {
			t.Fatalf("%s: %+v, %v", when, a, err)
		}
		if !owned {
			return nil
		}
		return a.Release
	}
	expect := func(when, task string, found, owned bool) {
		t.Helper()
		if release := look(young, when, task, found, owned); release != nil {
			release()
		}
	}
	request := blueapi.TaskRequest{Name: "nap", InstrumentSession: "cm12345-1"}
	record(blueapi.Entry{Step: blueapi.StepIntent, Request: &request})
	expect("nothing was sent", "T", false, false)
	record(blueapi.Entry{Step: blueapi.StepStarting, TaskID: "T", EnvironmentID: "E"})
	expect("it is being sent", "T", true, false)
	expect("another task", "U", false, false)
	old.close()
	expect("who has sent it has died", "T", true, true)
	release, third := look(young, "and again", "T", true, true), open()
	look(third, "another settles it", "T", true, false)
	look(young, "and so does this one, for somebody else", "T", true, false)
	release()
	expect("nobody has settled it", "T", true, true)
	record(blueapi.Entry{Step: blueapi.StepStarted, TaskID: "T", EnvironmentID: "E"})
	expect("it was started", "T", false, false)
	rival := blueapi.Entry{RunID: "fedcba9876543210", At: time.Now(), Step: blueapi.StepIntent, Request: &request}
	if err := young.Record(ctx, rival); err != nil {
		t.Fatal(err)
	}
	rival.Step, rival.TaskID, rival.EnvironmentID = blueapi.StepStarting, "T", "E"
	if err := young.Record(ctx, rival); !errors.Is(err, blueapi.ErrOtherStart) {
		t.Errorf("it is to be started once more: %v", err)
	}
}
