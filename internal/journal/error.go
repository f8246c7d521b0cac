package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrOwned is returned for a run whose owner lives.
var ErrOwned = errors.New("journal: another process has the run in hand")

// ErrNoRun is returned for a run that the journal does not have.
var ErrNoRun = errors.New("journal: no such run")

// ErrOtherStart is returned for the start of a task that another run has started, or may
// have.
var ErrOtherStart = errors.New("journal: another run has started the task, or may have")

// Kind says what is wrong with a journal.
type Kind int

// The kinds. The zero Kind is none of them. What was recorded before is not touched
// by any of them but Corrupt.
const (
	// Failed: reading or writing failed. SQLite does not tell a quota that is
	// used up from a broken disk.
	Failed Kind = iota + 1
	// NoPlace: there is no directory on a local disk to keep it in.
	NoPlace
	// Unsafe: others may read or change it, or somebody has put a link in its
	// place, or it was removed or replaced while it was open.
	Unsafe
	// ReadOnly: the directory or the file cannot be written.
	ReadOnly
	// Full: the disk is full.
	Full
	// Busy: another process held it for longer than ten seconds, as one does
	// that was stopped in the middle of a write.
	Busy
	// Corrupt: the file is damaged, or is no journal.
	Corrupt
	// Newer: it was written by a later version of the program.
	Newer
	// Unsupported: there are no journals on this system.
	Unsupported
)

func (k Kind) String() string {
	switch k {
	case Failed:
		return "cannot be used"
	case NoPlace:
		return "no directory on a local disk to keep it in"
	case Unsafe:
		return "not safe to use"
	case ReadOnly:
		return "cannot be written"
	case Full:
		return "the disk is full"
	case Busy:
		return "another process has held it for too long"
	case Corrupt:
		return "damaged, or not a journal; move it away to begin a new one"
	case Newer:
		return "written by a later version of adamant"
	case Unsupported:
		return "not supported on this system"
	}
	return "none"
}

// Error says why a journal cannot be used.
type Error struct {
	Kind Kind
	// Path is the file or directory that is meant.
	Path string
	// Err is the cause, if there is one.
	Err error
}

func (e *Error) Error() string {
	s := "journal " + e.Path + ": " + e.Kind.String()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the Kind of an error of this package, and 0 for any other.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return 0
}

// KeyError says that a key was used before, by a run that has started its plan or
// may have.
type KeyError struct {
	// Run is the earlier run. It may be of another plan or server.
	Run Run
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("the key %q was used before, for plan %s", e.Run.Key, e.Run.Plan)
}

// errDamaged is wrapped where what was read cannot have been written.
var errDamaged = errors.New("what was read makes no sense")

// fault makes an Error of what SQLite or the system says of path. Other errors,
// such as the context's, stay as they are.
func fault(path string, err error) error {
	if err == nil || KindOf(err) != 0 {
		return err
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return &Error{Kind: sqliteKind(e.Code()), Path: path, Err: err}
	}
	if errors.Is(err, errDamaged) {
		return &Error{Kind: Corrupt, Path: path, Err: err}
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return &Error{Kind: systemKind(err), Path: path, Err: err}
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return &Error{Kind: systemKind(err), Path: path, Err: err}
	}
	return err
}

func sqliteKind(code int) Kind {
	if code == sqlite3.SQLITE_IOERR_SHMSIZE {
		return Full // the index in shared memory could not grow
	}
	switch code & 0xff { // the rest says where it happened
	case sqlite3.SQLITE_FULL:
		return Full
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return ReadOnly
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return Busy
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
		sqlite3.SQLITE_ERROR: // in a statement that is always the same: it has not the tables
		return Corrupt
	}
	return Failed
}

func systemKind(err error) Kind {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return Full
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return ReadOnly
	}
	return Failed
}

// isBusy tells that another process is writing, or opening or closing the file
// in a way that leaves others no place, and that it is worth asking again.
func isBusy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && sqliteKind(e.Code()) == Busy
}
