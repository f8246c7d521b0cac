package journal

import (
	"context"
	"database/sql"
	"time"
)

// limits are what a journal keeps. Nothing that is older or more is needed to
// run plans safely: a server forgets its tasks with its environment.
type limits struct {
	// every is after how many runs the others are looked through.
	every int64
	// age is for runs that have an end. A user can be expected to remember a
	// key for as long.
	age time.Duration
	// lost is for runs whose owner died and that nobody settled.
	lost time.Duration
	// runs is how many with an end are kept without a key: a run every minute
	// for a week.
	runs int
	// keys is how many with an end are kept with a key: one forgotten early
	// would let a plan run twice, so these are many more.
	keys int
	// bytes is how large the file may be before the parameters and results of
	// runs with an end go, oldest first. The rest of a run takes about 1 KiB.
	bytes int64
}

func defaultLimits() limits {
	const day = 24 * time.Hour
	return limits{every: 100, age: 90 * day, lost: 365 * day, runs: 10_000, keys: 100_000, bytes: 64 << 20}
}

// ended selects runs that have an end.
const ended = "number IN (SELECT run FROM steps WHERE step = 'ended')"

// old selects runs that were begun before one time (?1), as seen at another (?2): those
// for which the clock says so, and that come before all that are not old. A clock that
// was slow for a while says the former of young ones.
const old = "begun < ?1 AND number < (SELECT min(number) FROM runs WHERE begun BETWEEN ?1 AND ?2)"

// pruneNow prunes as of the time when the latest run was begun, or the one before, if
// that is earlier: a clock that has been set far ahead would make all runs old.
func (j *Journal) pruneNow(ctx context.Context) error {
	var now int64
	err := j.read(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT min(begun) FROM (SELECT begun FROM runs ORDER BY number DESC LIMIT 2)").Scan(&now)
	})
	if err != nil {
		return err
	}
	return j.prune(ctx, time.Unix(0, now))
}

// prune deletes what need not be kept. A run without an end that somebody owns is
// never touched.
//
// The file does not shrink: what is freed is used again, and VACUUM would hold up
// every other process for as long as it takes to write all of it.
func (j *Journal) prune(ctx context.Context, now time.Time) error {
	if err := j.pruneLost(ctx, now); err != nil {
		return err
	}
	err := j.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM runs WHERE "+old+" AND "+ended, now.Add(-j.limits.age).UnixNano(), now.UnixNano()); err != nil {
			return err
		}
		for key, keep := range map[string]int{"key = ''": j.limits.runs, "key <> ''": j.limits.keys} {
			if _, err := tx.ExecContext(ctx, `
				DELETE FROM runs WHERE number IN (
					SELECT number FROM runs WHERE `+key+" AND "+ended+` ORDER BY number DESC LIMIT -1 OFFSET ?)`, keep); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return j.pruneTexts(ctx)
}

// pruneLost deletes runs that never got an end.
func (j *Journal) pruneLost(ctx context.Context, now time.Time) error {
	return j.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT number, id FROM runs WHERE "+old+" AND NOT "+ended, now.Add(-j.limits.lost).UnixNano(), now.UnixNano())
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		var numbers []int64
		for rows.Next() {
			var number int64
			var id string
			if err := scan(rows, &number, &id); err != nil {
				return err
			}
			owned, err := j.Owned(id)
			if err != nil {
				return err
			}
			if !owned {
				numbers = append(numbers, number)
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, n := range numbers {
			if _, err := tx.ExecContext(ctx, "DELETE FROM runs WHERE number = ?", n); err != nil {
				return err
			}
		}
		return nil
	})
}

// pruneTexts makes room, a little at a time so that nobody waits for long.
func (j *Journal) pruneTexts(ctx context.Context) error {
	for {
		var deleted int64
		err := j.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
			deleted = 0
			var used int64
			if err := tx.QueryRowContext(ctx, `
				SELECT (p.page_count - f.freelist_count) * s.page_size
				FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s`).Scan(&used); err != nil {
				return err
			}
			if used <= j.limits.bytes {
				return nil
			}
			done, err := tx.ExecContext(ctx, `
				DELETE FROM texts WHERE (run, step) IN (
					SELECT run, step FROM texts
					WHERE run IN (SELECT run FROM steps WHERE step = 'ended') ORDER BY run LIMIT 100)`)
			if err != nil {
				return err
			}
			deleted, err = done.RowsAffected()
			return err
		})
		if err != nil || deleted == 0 {
			return err
		}
	}
}
