package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// childOwn begins a run, or takes it over: own DIR ID.
func childOwn(args []string) error {
	j, err := Open(context.Background(), args[0])
	if err != nil {
		return err
	}
	o, err := j.Begin(context.Background(), request(args[1]))
	if err != nil {
		if o, err = j.Own(context.Background(), args[1]); err != nil {
			return err
		}
	}
	defer o.Close()
	say("owned")
	untilEnd()
	return nil
}

func isOwned(t *testing.T, j *Journal, id string) bool {
	t.Helper()
	owned, err := j.Owned(id)
	if err != nil {
		t.Fatal(err)
	}
	return owned
}

func TestOwner(t *testing.T) {
	dir := newDir(t)
	j := openIn(t, dir)
	o := begin(t, j, request("r"))
	other := openIn(t, dir)
	for range 2 { // asking does not free it
		if !isOwned(t, j, "r") || !isOwned(t, other, "r") {
			t.Fatal("nobody owns it")
		}
	}
	if isOwned(t, j, "s") {
		t.Error("a run that does not exist is owned")
	}
	if _, err := other.Own(t.Context(), "r"); err != ErrOwned {
		t.Errorf("error %v", err)
	}
	if _, err := j.Own(t.Context(), "r"); err != ErrOwned {
		t.Errorf("error %v", err)
	}
	o.Close()
	o.Close()
	if isOwned(t, j, "r") {
		t.Error("it is still owned")
	}
	o2, err := other.Own(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	record(t, o2, step(Starting, "t"))
	if got := find(t, j, Query{}); len(got.Entries) != 1 {
		t.Errorf("entries %v", got.Entries)
	}
	o2.Close()
	if _, err := j.Own(t.Context(), "s"); err != ErrNoRun {
		t.Errorf("error %v", err)
	}
	if isOwned(t, j, "s") {
		t.Error("a run that does not exist is owned")
	}
}

func TestOwnerOutlivesJournal(t *testing.T) {
	dir := newDir(t)
	j := openIn(t, dir)
	o := begin(t, j, request("r"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if other := openIn(t, dir); !isOwned(t, other, "r") {
		t.Error("closing the journal gave the run up")
	}
	if err := o.Record(t.Context(), end(Done)); err == nil {
		t.Error("recorded in a closed journal")
	}
}

func TestOwnerDies(t *testing.T) {
	dir := newDir(t)
	j := openIn(t, dir)
	for range 2 { // the one that begins it, and one that takes it over
		owner := child(t, "own", dir, "r")
		if line := lines(t, owner)(); line != "owned" {
			t.Fatal(line)
		}
		if !isOwned(t, j, "r") {
			t.Fatal("nobody owns it")
		}
		if _, err := j.Own(t.Context(), "r"); err != ErrOwned {
			t.Errorf("error %v", err)
		}
		if got := find(t, j, Query{}); got.Process.PID == 0 {
			t.Errorf("process %+v", got.Process)
		}
		_ = owner.Process.Kill()
		_ = owner.Wait()
		if isOwned(t, j, "r") {
			t.Fatal("a dead process owns it")
		}
	}
	o, err := j.Own(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
}

// Of many that want to take a run over at once, one gets it.
func TestTakeOverAtTheSameTime(t *testing.T) {
	j := openIn(t, newDir(t))
	begin(t, j, request("r")).Close()
	got := make(chan *Owner, 20)
	var wg sync.WaitGroup
	for range cap(got) {
		wg.Go(func() {
			o, err := j.Own(t.Context(), "r")
			if err == nil {
				got <- o
			} else if !errors.Is(err, ErrOwned) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(got)
	if len(got) != 1 {
		t.Errorf("%d owners", len(got))
	}
	for o := range got {
		o.Close()
	}
}

// childWrite makes runs, several at a time, and prints how many: write DIR NAME
// WRITERS RUNS.
func childWrite(args []string) error {
	writers, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	runs, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	if _, err := fmt.Scanln(new(string)); err != nil { // all begin at once
		return err
	}
	errs := make(chan error)
	for w := range writers {
		go func() { errs <- writeRuns(args[0], args[1]+"-"+strconv.Itoa(w), runs) }()
	}
	for range writers {
		err = errors.Join(err, <-errs)
	}
	return err
}

// writeRuns opens the journal anew for each run, as commands do.
func writeRuns(dir, name string, runs int) error {
	ctx := context.Background()
	for i := range runs {
		j, err := Open(ctx, dir)
		if err != nil {
			return err
		}
		o, err := j.Begin(ctx, request(name+"-"+strconv.Itoa(i)))
		if err != nil {
			return err
		}
		for _, e := range longRun(name + "-" + strconv.Itoa(i))[4:] {
			if err := o.Record(ctx, e); err != nil {
				return err
			}
		}
		o.Close()
		if err := j.Close(); err != nil {
			return err
		}
	}
	return nil
}

// A hundred writers open, write and close one journal at once, which is not there
// yet. None fails, and nothing is lost.
func TestHundredWriters(t *testing.T) {
	processes, writers, runs := 10, 10, 2
	if sweepAll() {
		processes, writers, runs = 100, 1, 5
	}
	dir := newDir(t)
	var all []*exec.Cmd
	var start []io.Writer
	for p := range processes {
		cmd := child(t, "write", dir, strconv.Itoa(p), strconv.Itoa(writers), strconv.Itoa(runs))
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all, start = append(all, cmd), append(start, in)
	}
	for _, in := range start {
		fmt.Fprintln(in, "go")
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	j := openIn(t, dir)
	kept, err := j.Runs(t.Context(), Query{Limit: math.MaxInt32})
	if err != nil || len(kept) != processes*writers*runs {
		t.Errorf("%d runs, %v", len(kept), err)
	}
	for _, r := range kept {
		if len(r.Entries) != 3 {
			t.Errorf("run %s: %v", r.ID, r.Entries)
		}
	}
	checkIntegrity(t, j)
}

// checkIntegrity has SQLite look through the whole file.
func checkIntegrity(t testing.TB, j *Journal) {
	t.Helper()
	rows, err := j.db.QueryContext(t.Context(), "SELECT integrity_check FROM pragma_integrity_check UNION ALL SELECT 'key: ' || \"table\" FROM pragma_foreign_key_check")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		found = append(found, s)
	}
	if !slices.Equal(found, []string{"ok"}) {
		t.Errorf("integrity: %s", strings.Join(found, "; "))
	}
}

// TestOtherStart: of those who want to start one task at the same moment one may, until
// that one has not.
func TestOtherStart(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	owners := make([]*Owner, 8)
	for i := range owners { // as of different processes
		owners[i] = begin(t, openIn(t, dir), request(fmt.Sprint("r", i)))
	}
	start := func() (first *Owner) {
		t.Helper()
		var mu sync.Mutex
		var all sync.WaitGroup
		n := 0
		for _, o := range owners {
			all.Go(func() {
				err := o.Record(t.Context(), step(Starting, "t"))
				if err != nil && !errors.Is(err, ErrOtherStart) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					first, n = o, n+1
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if n != 1 {
			t.Fatalf("%d may start it", n)
		}
		return first
	}
	record(t, start(), step(NotSent, "t"))
	record(t, start(), step(Withdrawn, "t"), step(Starting, "another"))
	o := start()
	other := owners[0]
	if o == other {
		other = owners[1]
	}
	for _, e := range []Entry{end(Unknown), step(Started, "t"), end(Done)} {
		record(t, o, e)
		if err := other.Record(t.Context(), step(Starting, "t")); !errors.Is(err, ErrOtherStart) {
			t.Errorf("after %s: %v", e.Step, err)
		}
	}
	record(t, other, step(Starting, "a third"))
	again := begin(t, openIn(t, dir), request("again"))
	record(t, again, step(Starting, "u"), end(NotStarted))
	record(t, other, step(Starting, "u"))
}
