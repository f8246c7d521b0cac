package main

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
	"github.com/adamant-go/adamant/retry"
)

// call tells a log of a call that was made in so many attempts.
func call(t *testing.T, l *callLog, id string, attempts int, err error) {
	t.Helper()
	trace := l.trace()
	for n := 1; n <= attempts; n++ {
		r := retry.Record{Number: n, Start: time.Now(), Verdict: retry.Ambiguous, Err: errors.New("GET http://u:s3cret@h/x: reset")}
		if n == attempts {
			r.Verdict, r.Err = retry.Succeeded, nil
		}
		trace.Attempted(t.Context(), retry.AttemptInfo{Op: "GET /x", CallID: id, Number: n}, r)
	}
	trace.Ended(t.Context(), retry.EndInfo{Op: "GET /x", CallID: id, Attempts: attempts, Took: time.Second, Err: err})
}

// TestCallsOfRun: calls that needed resends are kept with the run, those that prepare it
// too, and others are not.
func TestCallsOfRun(t *testing.T) {
	t.Parallel()
	a, _ := appFor(asAdamant)
	opened, err := journal.Open(t.Context(), filepath.Join(t.TempDir(), "adamant"))
	if err != nil {
		t.Fatal(err)
	}
	var c blueapi.Client
	j := a.keepRuns(&c, opened, "http://h", "")
	defer j.close()
	call(t, &a.calls, "prepares", 2, nil)
	err = c.Journal.Record(t.Context(), blueapi.Entry{
		RunID: "r", Step: blueapi.StepIntent, At: time.Now(), Request: &blueapi.TaskRequest{Name: "count"},
	})
	if err != nil {
		t.Fatal(err)
	}
	call(t, &a.calls, "well", 1, nil)
	call(t, &a.calls, "long", 100, &retry.Error{Reason: retry.Outlasted})
	calls, err := opened.Calls(t.Context(), "r", 10)
	if err != nil || len(calls) != 2 || calls[0].ID != "long" || calls[1].ID != "prepares" {
		t.Fatalf("%+v, %v", calls, err)
	}
	long := calls[0]
	if long.Made != 100 || long.Outcome != "the outage lasted too long" || calls[1].Outcome != "answered" {
		t.Errorf("%+v", calls)
	}
	if first, last := long.Attempts[0], long.Attempts[len(long.Attempts)-1]; first.Number != 1 || last.Number != 100 ||
		first.Verdict != "ambiguous" || last.Verdict != "done" || first.Cause != "GET http://h/x: reset" {
		t.Errorf("%+v to %+v", first, last)
	}
	if len(a.calls.attempts) > 0 || len(a.calls.calls) > 0 {
		t.Errorf("left: %v, %v", a.calls.attempts, a.calls.calls)
	}
}

// TestJournalDelaysNobody: while another process holds the journal, and for as long as
// it likes, no other command waits for it, or fails.
func TestJournalDelaysNobody(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	j, err := journal.Open(t.Context(), filepath.Join(dir, "adamant"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, level := range []level{normal, verbose} {
		synctest.Test(t, func(t *testing.T) {
			release := holdJournal(t, filepath.Join(dir, "adamant", "journal.db"))
			a, said := appFor(asAdamant)
			a.level = level
			call(t, &a.calls, "c", 2, nil)
			begin := time.Now()
			a.recordCalls()
			if took := time.Since(begin); took > callsLimit {
				t.Errorf("took %v", took)
			}
			if told := strings.Contains(said.String(), "the journal was not told which calls needed resends"); told != (level == verbose) {
				t.Errorf("said %q", said)
			}
			synctest.Wait()
			release()
			a.recordCalls() // as the next command would
			calls, err := j.Calls(t.Context(), "", 10)
			if err != nil || len(calls) == 0 || calls[0].Run != "" {
				t.Errorf("%+v, %v", calls, err)
			}
		})
	}
	if err := os.RemoveAll(filepath.Join(dir, "adamant")); err != nil {
		t.Fatal(err)
	}
	a, said := appFor(asAdamant)
	a.level = verbose
	call(t, &a.calls, "c", 2, nil)
	a.recordCalls()
	if files, err := os.ReadDir(dir); len(files) > 0 || err != nil || said.Len() > 0 {
		t.Errorf("a journal was made: %v, %v, %q", files, err, said)
	}
}

// holdJournal begins to write and does not go on.
func holdJournal(t *testing.T, path string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate") // the journal's driver
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback(); _ = db.Close() }
}
