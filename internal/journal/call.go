package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

const (
	// maxCalls is how many calls are kept: what needed resends in a week of
	// trouble.
	maxCalls = 1000
	// maxAttempts is how many attempts of one call are kept; of more, the first
	// one and the latest.
	maxAttempts = 20
	// maxCause is how long a cause may be. A longer one is cut.
	maxCause = 200
)

// Call is a call that needed resends.
type Call struct {
	ID string
	// Run is the id of the run that it was part of; "" if none.
	Run string
	// Op is the operation, such as "GET /tasks/{id}".
	Op   string
	At   time.Time
	Took time.Duration
	// Outcome is how it ended, in the caller's words.
	Outcome string
	// Made is how many attempts were made.
	Made int
	// Attempts are the attempts, oldest first; of more than 20, the first and
	// the latest.
	Attempts []Attempt
}

// Attempt is one attempt of a Call.
type Attempt struct {
	// Number counts from 1.
	Number int `json:"number"`
	// At is when it was made; Waited, how long it had waited for that.
	At     time.Time     `json:"at"`
	Waited time.Duration `json:"waited"`
	Took   time.Duration `json:"took"`
	// Verdict is what is known of it, and Cause the error; "" if none.
	Verdict string `json:"verdict"`
	Cause   string `json:"cause,omitempty"`
}

// RecordCall keeps a call. Of all calls the latest 1,000 are kept.
func (j *Journal) RecordCall(ctx context.Context, c Call) error {
	if c.At.IsZero() {
		return fmt.Errorf("journal: a call needs a time")
	}
	if err := checkNames(c.ID, c.Run, c.Op, c.Outcome); err != nil {
		return err
	}
	attempts, err := json.Marshal(keptAttempts(c.Attempts))
	if err != nil {
		return err
	}
	return j.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `
			INSERT INTO calls (id, run, op, began, took, made, outcome, attempts) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			c.ID, c.Run, c.Op, c.At.UnixNano(), int64(c.Took), c.Made, c.Outcome, string(attempts))
		if err != nil {
			return err
		}
		number, err := done.LastInsertId()
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM calls WHERE number <= ?", number-maxCalls)
		return err
	})
}

func keptAttempts(all []Attempt) []Attempt {
	kept := make([]Attempt, 0, maxAttempts)
	for i, a := range all {
		if i > 0 && i <= len(all)-maxAttempts {
			continue
		}
		a.Cause = cleanText(a.Cause)
		a.Cause = a.Cause[:min(len(a.Cause), maxCause)] // JSON mends a character that is cut
		kept = append(kept, a)
	}
	return kept
}

// Calls returns the latest calls, the last one first; those of one run, if it is
// not "".
func (j *Journal) Calls(ctx context.Context, run string, limit int) ([]Call, error) {
	var calls []Call
	err := j.read(ctx, func(ctx context.Context, tx *sql.Tx) error {
		calls = nil
		rows, err := tx.QueryContext(ctx, `
			SELECT id, run, op, began, took, made, outcome, attempts
			FROM calls WHERE ?1 = '' OR run = ?1 ORDER BY number DESC LIMIT ?2`, run, limit)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var c Call
			var at int64
			var attempts []byte
			if err := scan(rows, &c.ID, &c.Run, &c.Op, &at, &c.Took, &c.Made, &c.Outcome, &attempts); err != nil {
				return err
			}
			c.At = time.Unix(0, at)
			if err := json.Unmarshal(attempts, &c.Attempts); err != nil {
				return fmt.Errorf("%w: %w", errDamaged, err)
			}
			calls = append(calls, c)
		}
		return rows.Err()
	})
	return calls, err
}
