package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// sweepAll tells to test every case, not a sample of them.
func sweepAll() bool { return os.Getenv("ADAMANT_SWEEP") == "all" }

// longRun is the steps of a run that goes wrong in every way and ends well.
func longRun(id string) []Entry {
	t, u := "t"+id, "u"+id
	return []Entry{
		step(Starting, t), step(NotSent, t), step(Starting, t), step(Withdrawn, t), step(Starting, u), step(Started, u), end(Done),
	}
}

// appendRuns makes runs with numbers for ids and tells of each entry when it is
// recorded. The log is written back to the file often.
func appendRuns(dir string, from, to int, told func(run string, entries int)) error {
	ctx := context.Background()
	j, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	if _, err := j.db.ExecContext(ctx, "PRAGMA wal_autocheckpoint = 20"); err != nil {
		return err
	}
	for i := from; i < to; i++ {
		r := request(strconv.Itoa(i))
		o, err := j.Begin(ctx, r)
		if err != nil {
			return err
		}
		told(r.ID, 0)
		for n, e := range longRun(r.ID) {
			if err := o.Record(ctx, e); err != nil {
				return err
			}
			told(r.ID, n+1)
		}
		o.Close()
	}
	return j.Close()
}

// childAppend makes runs until it is killed, and prints each entry when it is
// recorded: append DIR.
func childAppend(args []string) error {
	return appendRuns(args[0], 0, 1<<30, func(run string, entries int) { say(run, entries) })
}

// childPower makes a journal and runs in it, comes back to it, and says of each
// entry when it is recorded: power DIR.
func childPower(args []string) error {
	said := func(run string, entries int) { say(run, entries) }
	if err := appendRuns(filepath.Join(args[0], "adamant"), 0, 2, said); err != nil {
		return err
	}
	return appendRuns(filepath.Join(args[0], "adamant"), 2, 5, said)
}

// recorded is an entry that a writer was told is recorded.
type recorded struct {
	run     string
	entries int
}

// checkKept checks that a journal has all that was recorded, and at most one entry
// more, which was on its way.
func checkKept(t *testing.T, j *Journal, told []recorded) {
	t.Helper()
	runs, err := j.Runs(t.Context(), Query{Limit: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	entries := map[string]int{}
	for _, r := range runs {
		entries[r.ID] = len(r.Entries)
		kept += 1 + len(r.Entries)
		for i, e := range r.Entries {
			if want := longRun(r.ID)[i]; e.Step != want.Step || e.Task != want.Task {
				t.Errorf("run %s, entry %d: %+v", r.ID, i, e)
			}
		}
	}
	for _, w := range told {
		if got, ok := entries[w.run]; !ok || got < w.entries {
			t.Errorf("run %s has lost entries: %d of %d", w.run, got, w.entries)
		}
	}
	if more := kept - len(told); more > 1 {
		t.Errorf("%d entries more than were recorded", more)
	}
	checkIntegrity(t, j)
}

// A writer is killed at any moment: what it was told is recorded is there.
func TestKilled(t *testing.T) {
	times := 10
	if sweepAll() {
		times = 200
	}
	dir := newDir(t)
	for n := range times {
		dir := fmt.Sprint(dir, n)
		cmd := child(t, "append", dir)
		next := lines(t, cmd)
		var told []recorded
		for range 1 + rand.N(60) {
			told = append(told, parseRecorded(t, next()))
		}
		_ = cmd.Process.Kill()
		for line := next(); line != ""; line = next() { // what it said before it died
			told = append(told, parseRecorded(t, line))
		}
		_ = cmd.Wait()
		j := openIn(t, dir)
		checkKept(t, j, told)
		if last := told[len(told)-1]; isOwned(t, j, last.run) {
			t.Errorf("run %s has an owner", last.run)
		}
		record(t, begin(t, j, request("next")), end(Done))
	}
}

func parseRecorded(t *testing.T, line string) (r recorded) {
	t.Helper()
	if _, err := fmt.Sscan(line, &r.run, &r.entries); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return r
}

// childSteps takes the first steps of longRun and waits to be killed: steps DIR N.
func childSteps(args []string) error {
	ctx := context.Background()
	j, err := Open(ctx, args[0])
	if err != nil {
		return err
	}
	o, err := j.Begin(ctx, request("r"))
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for _, e := range longRun("r")[:n] {
		if err := o.Record(ctx, e); err != nil {
			return err
		}
	}
	say("taken")
	untilEnd()
	return nil
}

// The owner is killed after each step: others see which it was, and take over.
func TestKilledAtEachStep(t *testing.T) {
	for n := range len(longRun("r")) + 1 {
		dir := newDir(t)
		cmd := child(t, "steps", dir, strconv.Itoa(n))
		if line := lines(t, cmd)(); line != "taken" {
			t.Fatalf("step %d: %q", n, line)
		}
		j := openIn(t, dir)
		if !isOwned(t, j, "r") {
			t.Errorf("step %d: nobody owns it", n)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		o, err := j.Own(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		r := find(t, j, Query{ID: "r"})
		want := Run{Entries: longRun("r")[:n]}
		if r.Last().Step != want.Last().Step || r.NotStarted() != want.NotStarted() || len(r.Entries) != n {
			t.Errorf("step %d: %+v", n, r)
		}
		if over := n == len(longRun("r")); over != (len(names(t, j, Query{Unfinished: true})) == 0) {
			t.Errorf("step %d: unfinished is wrong", n)
		}
		record(t, o, end(Unknown))
		if got := find(t, j, Query{}).End(); got == nil || got.Word != Unknown {
			t.Errorf("step %d: end %+v", n, got)
		}
		o.Close()
	}
}

// The log is cut at every byte, as it may be when power is lost while it is being
// written: what is whole before the cut is there, and nothing else.
func TestLogCut(t *testing.T) {
	dir := newDir(t)
	var told []recorded
	if err := appendRuns(dir, 0, 1, func(string, int) {}); err != nil { // closed: it is in the file, not in the log
		t.Fatal(err)
	}
	j := openIn(t, dir)
	o := begin(t, j, request("1"))
	steps := longRun("1")[:3]
	record(t, o, steps...)
	for i, n := range []int{len(longRun("0")), len(steps)} {
		for e := range n + 1 {
			told = append(told, recorded{strconv.Itoa(i), e})
		}
	}
	file, log := readFile(t, dir, "journal.db"), readFile(t, dir, "journal.db-wal")
	commits := commitsOf(t, log)
	if len(commits) != 1+len(steps) {
		t.Fatalf("%d commits in the log: %v", len(commits), commits)
	}
	whole := len(told) - len(commits) // entries in the file

	cuts := map[int]bool{}
	for _, c := range commits {
		for d := -2; d <= 2; d++ {
			cuts[min(c+d, len(log))] = true
		}
	}
	for at := range 60 {
		cuts[at] = true
	}
	for range 150 {
		cuts[rand.N(len(log)+1)] = true
	}
	if sweepAll() {
		for at := range len(log) + 1 {
			cuts[at] = true
		}
	}
	for cut := range cuts {
		n := whole
		for _, c := range commits {
			if c <= cut {
				n++
			}
		}
		copied := putFiles(t, file, log[:cut])
		j, err := Open(t.Context(), copied)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		var entries int
		if err := j.db.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM steps)").Scan(&entries); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if entries != n {
			t.Errorf("cut at %d of %d: %d entries, want %d", cut, len(log), entries, n)
		}
		if cut%97 == 0 || !sweepAll() {
			checkKept(t, j, told[:n])
		}
		j.Close()
		os.RemoveAll(copied)
	}
}

// commitsOf returns where commits end in a log. Its format is SQLite's: a header
// of 32 bytes; frames of 24 bytes and a page, of which bytes 4-8 are not zero if it
// ends a commit.
func commitsOf(t *testing.T, log []byte) (ends []int) {
	t.Helper()
	const header, frameHeader = 32, 24
	page := int(log[8])<<24 | int(log[9])<<16 | int(log[10])<<8 | int(log[11])
	for at := header; at+frameHeader+page <= len(log); at += frameHeader + page {
		if strings.Trim(string(log[at+4:at+8]), "\x00") != "" {
			ends = append(ends, at+frameHeader+page)
		}
	}
	return ends
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(dir + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// putFiles makes the directory of a journal.
func putFiles(t *testing.T, file, log []byte) string {
	t.Helper()
	dir := newDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"journal.db": file, "journal.db-wal": log} {
		if b == nil {
			continue
		}
		if err := os.WriteFile(dir+"/"+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
