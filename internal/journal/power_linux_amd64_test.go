package journal

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Power is lost after any of the changes that a process makes to the disk. What
// survives is what was synced, and any part of the rest: of a write any of its
// sectors, in any order; of what happened to the names in a directory the first so
// many changes. (A disk that lies about syncing is beyond this, as it is beyond
// SQLite.)
//
// All that the process said was recorded must be there, and nothing else.
func TestPowerLost(t *testing.T) {
	dir := t.TempDir()
	changes := trace(t, dir, "power", dir)
	d := disk{dir: filepath.Join(dir, "adamant"), files: map[string]*inode{dir: {}}}
	var told []recorded
	states, lost := 0, 0
	for n, c := range changes {
		if c.call == "say" {
			told = append(told, parseRecorded(t, string(c.data)))
		} else if err := d.apply(c); err != "" {
			t.Fatalf("change %d: %v: %s", n, c, err)
		}
		samples := 1
		switch {
		case sweepAll():
			samples = 30
		case c.call != "say" && n%3 != 0:
			continue
		}
		for s := range samples {
			survivor := filepath.Join(t.TempDir(), "adamant")
			lost += d.lose(t, survivor, s == 0 && c.call == "say")
			j, err := Open(t.Context(), survivor)
			if err != nil {
				t.Fatalf("after change %d (%v): %v", n, c, err)
			}
			checkKept(t, j, told)
			j.Close()
			os.RemoveAll(survivor)
			if t.Failed() {
				t.Fatalf("power was lost after change %d: %v", n, c)
			}
			states++
		}
	}
	if want := 5 * (1 + len(longRun("0"))); len(told) != want {
		t.Errorf("%d entries were recorded, want %d", len(told), want)
	}
	if lost == 0 {
		t.Error("nothing was ever lost")
	}
	t.Logf("%d changes, %d states", len(changes), states)
}

// disk is what has reached a disk and what is on its way.
type disk struct {
	dir   string            // the journal's
	files map[string]*inode // by the names that processes see
}

// inode is a file or directory.
type inode struct {
	synced []byte
	later  []change
	// names are the changes to the names in a directory, of which the first so
	// many are synced.
	names []naming
	safe  int
}

// naming gives a name to a file, or takes it away (nil).
type naming struct {
	path string
	file *inode
}

// apply follows one change. It says what is wrong with one that cannot be.
func (d *disk) apply(c change) string {
	f := d.files[c.path]
	if f == nil && c.call != "make" {
		if strings.HasSuffix(c.path, "-shm") {
			return "" // made before
		}
		return "no such file"
	}
	switch c.call {
	case "make":
		d.name(c.path, &inode{})
	case "link":
		d.name(c.to, f)
	case "unlink":
		d.name(c.path, nil)
	case "write", "truncate":
		f.later = append(f.later, c)
	case "sync":
		for _, l := range f.later {
			f.synced = written(f.synced, l, func() bool { return true })
		}
		f.later, f.safe = nil, len(f.names)
	}
	return ""
}

func (d *disk) name(path string, f *inode) {
	parent := d.files[filepath.Dir(path)]
	parent.names = append(parent.names, naming{path, f})
	d.files[path] = f
	if f == nil {
		delete(d.files, path)
	}
}

// written makes one change to the bytes of a file, or the part of it that survives.
func written(b []byte, c change, survives func() bool) []byte {
	const sector = 512
	if c.call == "truncate" {
		if !survives() {
			return b
		}
		return append(b[:min(int64(len(b)), c.at)], make([]byte, max(0, c.at-int64(len(b))))...)
	}
	for at, rest := c.at, c.data; len(rest) > 0; {
		n := min(int64(len(rest)), sector-at%sector)
		if survives() {
			if more := at + n - int64(len(b)); more > 0 {
				b = append(b, make([]byte, more)...)
			}
			copy(b[at:], rest[:n])
		}
		at, rest = at+n, rest[n:]
	}
	return b
}

// lose puts what survives of the journal's directory in to: if all is lost, only
// what was synced. It returns how many changes were on their way.
func (d *disk) lose(t *testing.T, to string, all bool) (later int) {
	t.Helper()
	odds := 0.0
	if !all {
		odds = rand.Float64()
	}
	survive := func() bool { return rand.Float64() < odds }
	dir := d.files[filepath.Dir(d.dir)].survivors(survive)[d.dir]
	if dir == nil {
		return 0
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, f := range dir.survivors(survive) {
		if strings.HasSuffix(path, "-shm") { // an index of the log, made anew
			continue
		}
		b := slices.Clone(f.synced)
		for _, c := range f.later {
			b = written(b, c, survive)
		}
		later += len(f.later)
		if err := os.WriteFile(filepath.Join(to, filepath.Base(path)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return later
}

// survivors returns the files whose names survive in a directory.
func (f *inode) survivors(survive func() bool) map[string]*inode {
	n := f.safe
	for n < len(f.names) && survive() {
		n++
	}
	files := map[string]*inode{}
	for _, c := range f.names[:n] {
		if c.file == nil {
			delete(files, c.path)
			continue
		}
		files[c.path] = c.file
	}
	return files
}
