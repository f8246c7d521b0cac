package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestForeignFiles(t *testing.T) {
	good := func(t *testing.T) []byte {
		dir := newDir(t)
		if err := openIn(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
		return readFile(t, dir, "journal.db")
	}
	sqlite := func(t *testing.T, script string) []byte {
		dir := putFiles(t, good(t), nil)
		db, err := openDB(dir + "/journal.db")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(t.Context(), script); err != nil {
			t.Fatal(err)
		}
		db.Close()
		return readFile(t, dir, "journal.db")
	}
	for name, tt := range map[string]struct {
		file func(t *testing.T) []byte
		kind Kind
	}{
		"empty":                {func(*testing.T) []byte { return []byte{} }, Corrupt},
		"text":                 {func(*testing.T) []byte { return []byte(strings.Repeat("hello\n", 3000)) }, Corrupt},
		"half":                 {func(t *testing.T) []byte { b := good(t); return b[:len(b)/2] }, Corrupt},
		"a part of a page":     {func(t *testing.T) []byte { return good(t)[:700] }, Corrupt},
		"zeros":                {func(t *testing.T) []byte { return make([]byte, len(good(t))) }, Corrupt},
		"another program's":    {func(t *testing.T) []byte { return sqlite(t, "PRAGMA application_id = 7") }, Corrupt},
		"of a later version":   {func(t *testing.T) []byte { return sqlite(t, "PRAGMA user_version = 4") }, Newer},
		"without a version":    {func(t *testing.T) []byte { return sqlite(t, "PRAGMA user_version = 0") }, Corrupt},
		"a page is not itself": {func(t *testing.T) []byte { b := good(t); clear(b[4096:]); return b }, Corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			file := tt.file(t)
			dir := putFiles(t, file, nil)
			j, err := Open(t.Context(), dir)
			if err == nil {
				defer j.Close()
				_, err = j.Begin(t.Context(), request("r"))
			}
			if KindOf(err) != tt.kind {
				t.Fatalf("error %v", err)
			}
			t.Log(err)
			if got := readFile(t, dir, "journal.db"); string(got) != string(file) {
				t.Error("it was changed")
			}
		})
	}
}

func TestDamagedRows(t *testing.T) {
	loose := "ALTER TABLE steps RENAME TO s; CREATE TABLE steps AS SELECT * FROM s; "
	for name, script := range map[string]string{
		"no such step":        "UPDATE steps SET step = 'begun'",
		"no such word":        "UPDATE steps SET word = 'perhaps' WHERE step = 'ended'",
		"no task":             "UPDATE steps SET task = ''",
		"a time is no number": loose + "UPDATE steps SET at = 'noon'",
		"a size is null":      loose + "UPDATE steps SET result_size = NULL",
		"no table":            "DROP TABLE steps",
	} {
		t.Run(name, func(t *testing.T) {
			j := openIn(t, newDir(t))
			record(t, begin(t, j, request("r")), longRun("r")...)
			if _, err := j.db.ExecContext(t.Context(), script); err != nil {
				t.Fatal(err)
			}
			runs, err := j.Runs(t.Context(), Query{})
			if KindOf(err) != Corrupt || runs != nil {
				t.Errorf("%v, error %v", runs, err)
			}
		})
	}
}

// FuzzDamage opens journals with damage anywhere: never a panic, and either an error
// with a Kind or what was recorded.
func FuzzDamage(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "adamant")
	if err := appendRuns(dir, 0, 3, func(string, int) {}); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	if err != nil {
		f.Fatal(err)
	}
	for at := 0; at < len(good); at += 509 {
		f.Add(uint32(at), []byte{0xff, 0x00, 0x80})
	}
	f.Fuzz(func(t *testing.T, at uint32, damage []byte) {
		bad := append([]byte(nil), good...)
		copy(bad[int(at)%len(bad):], damage)
		j, err := Open(t.Context(), putFiles(t, bad, nil))
		if err == nil {
			defer j.Close()
			_, err = j.Runs(t.Context(), Query{})
		}
		if err == nil {
			_, err = j.Begin(t.Context(), request("r"))
		}
		if err != nil && KindOf(err) == 0 {
			t.Errorf("error without a kind: %T %v", err, err)
		}
	})
}

func TestRemoved(t *testing.T) {
	dir := newDir(t)
	j := openIn(t, dir)
	o := begin(t, j, request("r"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := o.Record(t.Context(), step(Starting, "t")); KindOf(err) != Unsafe {
		t.Errorf("removed: error %v", err)
	}
	openIn(t, dir) // somebody makes a new one
	if err := o.Record(t.Context(), step(Starting, "t")); KindOf(err) != Unsafe {
		t.Errorf("replaced: error %v", err)
	}
}

// TestLocksRemoved: an owner whose lock others do not see any more is not the only one.
func TestLocksRemoved(t *testing.T) {
	dir := newDir(t)
	j := openIn(t, dir)
	o := begin(t, j, request("r"))
	record(t, o, step(Starting, "t"))
	if err := os.Remove(j.locksPath()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // removed, and replaced
		if err := o.Record(t.Context(), step(Starting, "u")); KindOf(err) != Unsafe {
			t.Errorf("error %v", err)
		}
		other, err := openIn(t, dir).Own(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		record(t, other, step(Withdrawn, "t"), end(NotStarted))
		other.Close()
	}
}

// TestLocksAreUsed: the file of the locks, to which nothing is written, does not look as
// if nobody had used it for a month.
func TestLocksAreUsed(t *testing.T) {
	j := openIn(t, newDir(t))
	begin(t, j, request("r")).Close()
	long := time.Now().Add(-40 * 24 * time.Hour)
	if err := os.Chtimes(j.locksPath(), long, long); err != nil {
		t.Fatal(err)
	}
	begin(t, j, request("s"))
	info, err := os.Stat(j.locksPath())
	if err != nil || info.ModTime().Before(long.Add(time.Hour)) {
		t.Errorf("%v, %v", info.ModTime(), err)
	}
}

// hold begins to write and does not go on.
func hold(t *testing.T, dir string) (release func()) {
	t.Helper()
	db, err := openDB(filepath.Join(dir, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback(); _ = db.Close() }
}

func TestBusy(t *testing.T) {
	dir := newDir(t)
	if err := openIn(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		j := openIn(t, dir)
		o := begin(t, j, request("r"))
		release := hold(t, dir)
		start := time.Now()
		err := o.Record(t.Context(), step(Starting, "t"))
		if KindOf(err) != Busy {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took < busyLimit || took > busyLimit+busyPause {
			t.Errorf("gave up after %v", took)
		}
		if got := find(t, j, Query{}); len(got.Entries) != 0 { // reading waits for nobody
			t.Errorf("entries %v", got.Entries)
		}
		openIn(t, dir)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := o.Record(ctx, step(Starting, "t")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("gave up after %v", took)
		}

		time.AfterFunc(busyLimit-time.Second, release)
		record(t, o, step(Starting, "t"))
		if got := find(t, j, Query{}); len(got.Entries) != 1 {
			t.Errorf("entries %v", got.Entries)
		}
	})
}
