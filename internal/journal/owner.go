package journal

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"hash/fnv"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Owner is the right to say what becomes of a run. It ends with Close, or with the
// process, however that ends: it rests on a lock of the system. Its methods may be
// called concurrently.
type Owner struct {
	journal *Journal
	id      string // of the run
	server  string
	number  int64
	lock    *os.File
}

// Begin records that a run is wanted, and makes the caller its owner.
//
// The error is a [*KeyError] if the request has a key that an earlier run has:
// unless that one has not started its plan and never will. Two processes that
// begin runs with one key at the same time get one owner and one such error.
func (j *Journal) Begin(ctx context.Context, r Request) (*Owner, error) {
	r, err := r.clean()
	if err != nil {
		return nil, err
	}
	lock, err := j.lock(r.ID) // before the run can be seen, or it would seem to have lost its owner
	if err != nil {
		return nil, err
	}
	o := &Owner{journal: j, id: r.ID, server: r.Server, lock: lock}
	p := thisProcess()
	err = j.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := j.checkKey(ctx, tx, r.Key); err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `
			INSERT INTO runs (id, begun, server, plan, session, key, pid, host, boot, user, params_size, params_digest)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.ID, r.At.UnixNano(), r.Server, r.Plan, r.Session, r.Key, p.PID, p.Host, p.Boot, p.User, len(r.Params), Digest(r.Params))
		if err != nil {
			return err
		}
		if o.number, err = done.LastInsertId(); err != nil {
			return err
		}
		return keepJSON(ctx, tx, o.number, 0, r.Params)
	})
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	if o.number%j.limits.every == 0 {
		_ = j.pruneNow(ctx) // the run is recorded; the next may do it
	}
	return o, nil
}

// checkKey refuses a key of which a run may have started its plan, or may yet.
func (j *Journal) checkKey(ctx context.Context, tx *sql.Tx, key string) error {
	if key == "" {
		return nil
	}
	earlier, err := findRuns(ctx, tx, Query{Key: key, Limit: math.MaxInt32})
	if err != nil {
		return err
	}
	for _, r := range earlier {
		if r.NotStarted() {
			if r.End() != nil {
				continue
			}
			owned, err := j.Owned(r.ID)
			if err != nil {
				return err
			}
			if !owned {
				continue
			}
		}
		return &KeyError{Run: r}
	}
	return nil
}

// Own makes the caller the owner of a run whose owner has died or gone. What it has
// become since then is to be read afterwards. The error is [ErrOwned] if its owner
// lives, in this process or another, and [ErrNoRun] if there is no such run.
func (j *Journal) Own(ctx context.Context, id string) (*Owner, error) {
	lock, err := j.lock(id)
	if err != nil {
		return nil, err
	}
	o := &Owner{journal: j, id: id, lock: lock}
	err = j.read(ctx, func(ctx context.Context, tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT number, server FROM runs WHERE id = ?", id).Scan(&o.number, &o.server)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoRun
		}
		return err
	})
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return o, nil
}

// Owned reports whether a run has an owner: whether the process that has it in
// hand, on this machine, lives.
func (j *Journal) Owned(id string) (bool, error) {
	f, err := openLocks(j.locksPath())
	if err != nil {
		return false, fault(j.locksPath(), err)
	}
	defer func() { _ = f.Close() }()
	owned, err := locked(f, lockOf(id))
	return owned, fault(j.locksPath(), err)
}

// Record keeps a step of the run. It is on the disk when Record returns nil;
// otherwise it may or may not be there after a crash, and is not there without
// one. The error is [ErrOtherStart] for a Starting if another run has started the task,
// or may have. Of several who record that at the same moment one succeeds. Runs at a
// server that has another name do not count: this may be a gateway before it, which
// starts the task for another run.
func (o *Owner) Record(ctx context.Context, e Entry) error {
	e, err := e.clean()
	if err != nil {
		return err
	}
	var end End
	if e.End != nil {
		end = *e.End
	}
	return o.journal.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := o.checkLock(); err != nil {
			return err
		}
		if err := o.checkStart(ctx, tx, e); err != nil {
			return err
		}
		done, err := tx.ExecContext(ctx, `
			INSERT INTO steps (run, step, at, task, environment, word, reason, message, outcome, type, result_size)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			o.number, string(e.Step), e.At.UnixNano(), e.Task, e.Environment,
			string(end.Word), end.Reason, end.Message, end.Outcome, end.Type, len(end.Result))
		if err != nil {
			return err
		}
		number, err := done.LastInsertId()
		if err != nil {
			return err
		}
		return keepJSON(ctx, tx, o.number, number, end.Result)
	})
}

// checkLock refuses an owner whose lock others do not see any more: they take the run
// over. Removing the file frees no lock, but hides it.
func (o *Owner) checkLock() error {
	path := o.journal.locksPath()
	held, err := o.lock.Stat()
	if err != nil {
		return fault(path, err)
	}
	now, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault(path, err)
	}
	if err != nil || !os.SameFile(held, now) {
		return &Error{Kind: Unsafe, Path: path, Err: errors.New("it was removed or replaced")}
	}
	return nil
}

// checkStart refuses the start of a task that another run has started, or may have.
func (o *Owner) checkStart(ctx context.Context, tx *sql.Tx, e Entry) error {
	if e.Step != Starting || e.Task == "" {
		return nil
	}
	others, err := findRuns(ctx, tx, Query{Server: o.server, Task: e.Task, Limit: math.MaxInt32})
	if err != nil {
		return err
	}
	for _, r := range others {
		if task, _ := r.Task(); r.ID != o.id && task == e.Task && !r.NotStarted() {
			return ErrOtherStart
		}
	}
	return nil
}

// Close gives the run up. It may be called more than once.
func (o *Owner) Close() {
	_ = o.lock.Close() // a lock needs no more to be freed
}

func (j *Journal) locksPath() string { return filepath.Join(j.dir, "owners") }

// lock takes the lock of a run. All runs have theirs in one file, a byte each,
// which has no bytes: a file for each run could not be removed without a race.
func (j *Journal) lock(id string) (*os.File, error) {
	f, err := openLocks(j.locksPath())
	if err != nil {
		return nil, fault(j.locksPath(), err)
	}
	ok, err := tryLock(f, lockOf(id))
	if err == nil && !ok {
		err = ErrOwned
	}
	if err != nil {
		_ = f.Close()
		return nil, fault(j.locksPath(), err)
	}
	// Nothing is ever written to it, and what has not changed for a month is removed
	// from /var/tmp (systemd-tmpfiles).
	now := time.Now()
	_ = os.Chtimes(j.locksPath(), now, now)
	return f, nil
}

// lockOf returns the place of a run's lock. That two runs of the thousands in a
// journal share one of 2^62 places is not to be expected; they would only seem to
// be owned together.
func lockOf(id string) int64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return int64(h.Sum64() >> 2)
}

func thisProcess() Process {
	p := Process{PID: os.Getpid()}
	// Not os/user, which may ask a directory server that is away.
	p.User = cmp.Or(os.Getenv("USER"), strconv.Itoa(os.Geteuid()))
	p.Host, _ = os.Hostname()
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // only Linux has it
	p.Boot = strings.TrimSpace(string(boot))
	return p
}
