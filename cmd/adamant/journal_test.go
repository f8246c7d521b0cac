package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

// until is the command until of scripts: it runs a program again and again until what
// that says on stdout matches a pattern.
//
//	until PATTERN PROGRAM [ARGS...]
func until(ts *testscript.TestScript, _ bool, args []string) {
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		_ = ts.Exec(args[1], args[2:]...)
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		time.Sleep(50 * time.Millisecond) // leaves the processor to what is waited for
	}
	ts.Fatalf("in vain")
}

// ownJournal opens the journal that the commands of this process have.
func ownJournal(t *testing.T) *journal.Journal {
	t.Helper()
	place, err := journal.FindPlace(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), place.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// TestJournalTrouble: of each kind of trouble it is said what is wrong, where, and what
// to do. A run is refused before anything is asked of a server; under controller it is
// made without.
func TestJournalTrouble(t *testing.T) {
	t.Parallel()
	const file = "/home/a/.local/state/adamant/journal.db"
	for _, tt := range []struct {
		kind journal.Kind
		err  error
		want string
	}{
		{journal.Failed, errors.New("disk I/O error (10)"), file + " cannot be used (disk I/O error (10)): see to its disk, or set XDG_STATE_HOME"},
		{
			journal.NoPlace, errors.New("/home is on NFS, and so is /var/tmp; set XDG_STATE_HOME to a directory on a local disk"),
			"there is no directory on a local disk to keep it in: /home is on NFS, and so is /var/tmp; set XDG_STATE_HOME to a directory on a local disk",
		},
		{journal.Unsafe, errors.New("it belongs to user 0, not to 5"), file + " is not safe to use (it belongs to user 0, not to 5): mend that, or set XDG_STATE_HOME"},
		{journal.ReadOnly, errors.New("read-only file system"), file + " cannot be written (read-only file system): make it writable, or set XDG_STATE_HOME"},
		{journal.Full, errors.New("database or disk is full (13)"), "the disk that " + file + " is on is full: make room, or set XDG_STATE_HOME"},
		{journal.Busy, nil, "another process has held " + file + " for too long, as one does that was stopped in the middle of a write: let it go on, or end it, and try again"},
		{journal.Corrupt, nil, file + " is damaged, or is no journal: move it away to begin a new one, which knows nothing of earlier runs and keys"},
		{journal.Newer, nil, file + " was written by a later version of adamant: use that version, or set XDG_STATE_HOME"},
		{journal.Unsupported, nil, "there are no journals on this system"},
	} {
		t.Run(tt.kind.String(), func(t *testing.T) {
			t.Parallel()
			err := &journal.Error{Kind: tt.kind, Path: file, Err: tt.err}
			if got := journalTrouble(err); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s\nnot %s", got, tt.want)
			}
			a, said := appFor(asAdamant)
			end, ok := errors.AsType[ending](a.endWithoutJournal(t.Context(), err))
			want := "adamant: nothing was started: the journal, without which a crash could lose the run, cannot be kept:\n    " + tt.want
			if !ok || end.status != statusNotStarted || !strings.HasPrefix(end.msg, want) || said.Len() > 0 ||
				!strings.HasSuffix(end.msg, ", or add --no-journal: the run is made without, and cannot be resumed after a crash") {
				t.Errorf("%+v", end)
			}
			a, said = appFor(asBlueapi)
			if err := a.endWithoutJournal(t.Context(), err); err != nil {
				t.Errorf("under controller: %v", err)
			}
			want = "adamant: no journal is kept, and after a crash the run cannot be resumed: " + tt.want
			if got := said.String(); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
				t.Errorf("under controller: %q", got)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a, _ := appFor(asAdamant)
	if end, _ := errors.AsType[ending](a.endWithoutJournal(ctx, ctx.Err())); end.status != statusInterrupted {
		t.Errorf("interrupted: %+v", end)
	}
	ctx, cancel = context.WithTimeout(t.Context(), -1)
	defer cancel()
	if end, _ := errors.AsType[ending](a.endWithoutJournal(ctx, ctx.Err())); end.status != statusNotStarted {
		t.Errorf("no time left: %+v", end)
	}
}

// appFor returns a program that says what it says to a buffer.
func appFor(v voice) (*app, *bytes.Buffer) {
	var said bytes.Buffer
	return &app{ui: &ui{in: strings.NewReader(""), out: io.Discard, err: &said, voice: v}}, &said
}

// TestReasonsAreKept: each reason has a text of its own, which is read back.
func TestReasonsAreKept(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range []blueapi.Reason{
		blueapi.Ended, blueapi.NotRecorded, blueapi.Unpublished,
		blueapi.Refused, blueapi.Busy, blueapi.Unreachable, blueapi.Withdrawn, blueapi.JournalFailed, blueapi.Interrupted,
		blueapi.Silent, blueapi.EnvironmentChanged, blueapi.RecordLost, blueapi.Removed, blueapi.Overtaken, blueapi.Stuck,
		blueapi.Queued, blueapi.Abandoned,
	} {
		text := reasonText(r)
		if text == "" || seen[text] || reasonOf(text) != r {
			t.Errorf("reason %d is kept as %q, which is read as %d", r, text, reasonOf(text))
		}
		seen[text] = true
	}
	if got := reasonOf("of a later version"); got != 0 {
		t.Errorf("a reason of a later version is %d", got)
	}
	for _, w := range []blueapi.Word{blueapi.Done, blueapi.NotStarted, blueapi.Unknown} {
		if got := journalWord(w); got != journal.Done && got != journal.NotStarted && got != journal.Unknown {
			t.Errorf("word %v is kept as %q", w, got)
		}
	}
	for s := blueapi.StepIntent; s <= blueapi.StepEnded; s++ {
		if journalStep(s) == "" || runStep(journalStep(s)) != s {
			t.Errorf("step %d is kept as %q", s, journalStep(s))
		}
	}
}

// TestJournalFailsFromTheIntent: under controller a run that the journal could not begin
// is made without it.
func TestJournalFailsFromTheIntent(t *testing.T) {
	t.Parallel()
	a, said := appFor(asBlueapi)
	dir := filepath.Join(t.TempDir(), "adamant")
	opened, err := journal.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var c blueapi.Client
	j := a.keepRuns(&c, opened, "http://h", "")
	defer j.close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for _, e := range []blueapi.Entry{
		{Step: blueapi.StepIntent, Request: &blueapi.TaskRequest{Name: "count"}},
		{Step: blueapi.StepStarting, TaskID: "T", EnvironmentID: "E"},
		{Step: blueapi.StepStarted, TaskID: "T", EnvironmentID: "E"},
		{Step: blueapi.StepEnded, Result: &blueapi.Result{Word: blueapi.Done, Reason: blueapi.Ended}},
	} {
		e.RunID, e.At = "r", time.Now()
		if err := c.Journal.Record(t.Context(), e); err != nil {
			t.Errorf("step %d: %v", e.Step, err)
		}
	}
	if strings.Count(said.String(), "\n") != 1 { // once
		t.Errorf("said %q", said)
	}
}

// TestJournalFailsInMidRun: the journal goes away while a run is made.
func TestJournalFailsInMidRun(t *testing.T) {
	t.Parallel()
	for v, name := range map[voice]string{asAdamant: "run", asBlueapi: "controller run"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, said := appFor(v)
			dir := filepath.Join(t.TempDir(), "adamant")
			opened, err := journal.Open(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			var c blueapi.Client
			j := a.keepRuns(&c, opened, "http://h", "")
			defer j.close()
			steps := []blueapi.Entry{
				{Step: blueapi.StepIntent, Request: &blueapi.TaskRequest{Name: "count"}},
				{Step: blueapi.StepStarting, TaskID: "T", EnvironmentID: "E"},
				{Step: blueapi.StepStarted, TaskID: "T", EnvironmentID: "E"},
				{Step: blueapi.StepEnded, Result: &blueapi.Result{Word: blueapi.Done, Reason: blueapi.Ended}},
			}
			for i, e := range steps {
				e.RunID, e.At = "r", time.Now()
				err := c.Journal.Record(t.Context(), e)
				if i == 0 {
					if err != nil {
						t.Fatal(err)
					}
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if failed := journal.KindOf(err) == journal.Unsafe && strings.HasSuffix(err.Error(), runWithout); failed != (v == asAdamant) {
					t.Errorf("step %d: %v", i, err)
				}
			}
			if strings.Count(said.String(), "\n") != 1 { // once
				t.Errorf("said %q", said)
			}
			if err := c.Journal.Record(t.Context(), blueapi.Entry{RunID: "of another", Step: blueapi.StepEnded}); !errors.Is(err, errNotInHand) {
				t.Errorf("a run of another process: %v", err)
			}
		})
	}
}
