// Package journal keeps what this machine has asked blueapi servers for, and what
// became of it, so that after a crash, or a loss of power, it is known whether a
// plan can have been started.
//
// [Open] is the function to use first, on the directory that [FindPlace] chooses.
// [Journal.Begin] then records that a run is wanted and makes the caller its
// owner; each step is recorded by [Owner.Record] before it is taken, and is on the
// disk when that returns. An owner that dies loses the run, and another process
// may take it over with [Journal.Own]. [Journal.Runs] reads.
//
// The journal is one SQLite file that any number of processes use at once. An entry
// is recorded as a whole or not at all. Where one cannot be recorded, the [Kind] of
// the error says why, for a caller who then starts nothing, or warns and goes on
// without.
//
// # What is kept
//
// Ended runs are kept for 90 days, at most 10,000 of them without a key and
// 100,000 with one; runs without an end for a year. No secret is put into a journal:
// users and passwords are taken out of the URLs of servers and those in messages.
// Parameters of plans, and results, are no secrets and are kept as they are, up to
// 16 KiB each; the oldest of them go when the file has grown to 64 MiB.
package journal

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver
)

const (
	// applicationID marks the file as a journal (SQLite's application_id).
	applicationID = 0x6164616d // "adam"
	// schemaVersion is the file's user_version. An older file gets what it lacks when
	// it is opened. What a version means never changes once a journal of it exists:
	// what is new gets a new number, in [since] too.
	schemaVersion = 3
	// busyLimit is how long another process is waited for. A write takes
	// milliseconds; a hundred writers at once take about a second.
	busyLimit = 10 * time.Second
	// busyPause is the longest pause before asking again. SQLite's own wait
	// cannot be cancelled, and sleeps for up to 100 ms.
	busyPause = 20 * time.Millisecond
)

const schema = `
CREATE TABLE runs (
	number      INTEGER PRIMARY KEY,
	id          TEXT NOT NULL UNIQUE,
	begun       INTEGER NOT NULL, -- this and other times: nanoseconds since 1970
	server      TEXT NOT NULL,
	plan        TEXT NOT NULL,
	params_size INTEGER NOT NULL,
	params_digest TEXT NOT NULL,
	session     TEXT NOT NULL,
	key         TEXT NOT NULL,
	pid         INTEGER NOT NULL,
	host        TEXT NOT NULL,
	boot        TEXT NOT NULL,
	user        TEXT NOT NULL
) STRICT;
CREATE INDEX runs_key ON runs (key) WHERE key <> '';

CREATE TABLE steps (
	number      INTEGER PRIMARY KEY,
	run         INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
	step        TEXT NOT NULL,
	at          INTEGER NOT NULL,
	task        TEXT NOT NULL,
	environment TEXT NOT NULL,
	-- of the end
	word        TEXT NOT NULL,
	reason      TEXT NOT NULL,
	message     TEXT NOT NULL,
	outcome     TEXT NOT NULL,
	type        TEXT NOT NULL,
	result_size INTEGER NOT NULL
) STRICT;
CREATE INDEX steps_run ON steps (run);
CREATE INDEX steps_task ON steps (task) WHERE task <> '';

-- Parameters (step 0) and results. A table of their own, for they need not be kept as
-- long as the rest, and a row that becomes shorter frees no page.
CREATE TABLE texts (
	run  INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
	step INTEGER NOT NULL,
	text TEXT NOT NULL,
	PRIMARY KEY (run, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE calls (
	number   INTEGER PRIMARY KEY,
	id       TEXT NOT NULL,
	run      TEXT NOT NULL,
	op       TEXT NOT NULL,
	began    INTEGER NOT NULL,
	took     INTEGER NOT NULL, -- nanoseconds
	made     INTEGER NOT NULL,
	outcome  TEXT NOT NULL,
	attempts TEXT NOT NULL -- JSON
) STRICT;
`

// Journal is an open journal. Its methods may be called concurrently.
type Journal struct {
	dir  string
	path string
	db   *sql.DB
	// file is the one that was opened: what is written to one that was removed
	// since is lost.
	file   fs.FileInfo
	limits limits
}

// Open opens the journal in dir, an absolute path, and makes both if need be. The
// directory and its files are for this user alone. The error has a Kind, or is the
// context's.
func Open(ctx context.Context, dir string) (*Journal, error) { return open(ctx, dir, true) }

// OpenExisting is Open for those who only want to read: the error is
// [fs.ErrNotExist] if there is no journal yet.
func OpenExisting(ctx context.Context, dir string) (*Journal, error) { return open(ctx, dir, false) }

func open(ctx context.Context, dir string, create bool) (*Journal, error) {
	if !supported {
		return nil, &Error{Kind: Unsupported, Path: dir}
	}
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("journal: %q is not an absolute path", dir)
	}
	j := &Journal{dir: dir, path: filepath.Join(dir, "journal.db"), limits: defaultLimits()}
	if create {
		if err := makeDir(dir); err != nil {
			return nil, fault(dir, err)
		}
	} else if _, err := os.Lstat(j.path); errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	var err error
	if j.file, err = os.Lstat(j.path); errors.Is(err, fs.ErrNotExist) && create {
		if err := createFile(ctx, j.path); err != nil {
			return nil, fault(j.path, err)
		}
		j.file, err = os.Lstat(j.path)
	}
	if err != nil {
		return nil, fault(j.path, err)
	}
	if err := checkFile(j.path, j.file); err != nil {
		return nil, err
	}
	if j.db, err = openDB(j.path); err != nil {
		return nil, fault(j.path, err)
	}
	if err := j.prepare(ctx); err != nil {
		_ = j.db.Close()
		return nil, err
	}
	return j, nil
}

// prepare finds out whether the file is a journal, and brings it up to date.
func (j *Journal) prepare(ctx context.Context) error {
	var version int
	look := func(ctx context.Context, tx *sql.Tx) (err error) {
		version, err = j.version(ctx, tx)
		return err
	}
	if err := j.read(ctx, look); err != nil || version == schemaVersion {
		return err
	}
	return j.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		// Somebody else may have been faster.
		if err := look(ctx, tx); err != nil || version == schemaVersion {
			return err
		}
		_, err := tx.ExecContext(ctx, since(version)+fmt.Sprintf("PRAGMA user_version = %d", schemaVersion))
		return err
	})
}

// since is what came to the schema after a version, which is at least 1.
func since(version int) string {
	return strings.Join([]string{aliasSchema, reloadSchema}[version-1:], "")
}

// Dir is the directory of the journal.
func (j *Journal) Dir() string { return j.dir }

// Close closes the journal. Owners stay owners.
func (j *Journal) Close() error { return fault(j.path, j.db.Close()) }

// openDB opens a file that exists. Nothing is read yet.
func openDB(path string) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"mode":    {"rw"},
		"_txlock": {"immediate"}, // a read that becomes a write can fail half-way
		"_pragma": {
			"synchronous(FULL)", // NORMAL does not sync a commit to the log
			"foreign_keys(1)",
			"trusted_schema(0)",
			"cell_size_check(1)",
			"journal_size_limit(4194304)", // the log's usual size
		},
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// createFile makes an empty journal. The file gets its name when it is whole and
// on the disk, so that nobody ever sees half of one.
func createFile(ctx context.Context, path string) error {
	tmp := path + ".new-" + rand.Text()
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // SQLite's other files get the same mode
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }()
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openDB(tmp)
	if err != nil {
		return err
	}
	err = fillFile(ctx, db)
	if closed := db.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) { // somebody else was faster
		return err
	}
	return syncDir(filepath.Dir(path))
}

func fillFile(ctx context.Context, db *sql.DB) error {
	script := fmt.Sprintf("BEGIN; %s; PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT;",
		schema+since(1), applicationID, schemaVersion)
	if _, err := db.ExecContext(ctx, script); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, "PRAGMA journal_mode = WAL") // kept in the file
	return err
}

// version returns the version of the file, if it is one that can be used.
func (j *Journal) version(ctx context.Context, tx *sql.Tx) (version int, err error) {
	var id int
	if err := tx.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return 0, err
	}
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, err
	}
	switch {
	case id != applicationID || version < 1:
		return 0, &Error{Kind: Corrupt, Path: j.path}
	case version > schemaVersion:
		return 0, &Error{Kind: Newer, Path: j.path}
	}
	return version, nil
}

// action is what a transaction does. It may be called more than once.
type action func(ctx context.Context, tx *sql.Tx) error

// read makes one transaction that reads.
func (j *Journal) read(ctx context.Context, do action) error {
	return fault(j.path, j.waiting(ctx, func() error { return j.transact(ctx, true, do) }))
}

// write makes one transaction that writes, and returns when it is on the disk.
func (j *Journal) write(ctx context.Context, do action) error {
	return fault(j.path, j.waiting(ctx, func() error {
		now, err := os.Lstat(j.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || !os.SameFile(j.file, now) {
			return &Error{Kind: Unsafe, Path: j.path, Err: errors.New("it was removed or replaced")}
		}
		return j.transact(ctx, false, do)
	}))
}

func (j *Journal) transact(ctx context.Context, readOnly bool, do action) error {
	tx, err := j.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
	if err != nil {
		return err
	}
	if err := do(ctx, tx); err != nil {
		_ = tx.Rollback() // the first error tells more
		return err
	}
	return tx.Commit()
}

// waiting does something again while another process is in the way.
func (j *Journal) waiting(ctx context.Context, do func() error) error {
	begin, pause := time.Now(), time.Millisecond
	for {
		err := do()
		if !isBusy(err) || time.Since(begin) >= busyLimit {
			return err
		}
		// Jitter, or those that wait would ask all at once, again and again.
		t := time.NewTimer(pause/2 + mathrand.N(pause/2))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		pause = min(2*pause, busyPause)
	}
}
