package journal

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// reloadSchema came with version 3.
const reloadSchema = `
CREATE TABLE reloads (
	server      TEXT NOT NULL PRIMARY KEY,
	environment TEXT NOT NULL,
	at          INTEGER NOT NULL -- in nanoseconds since 1970
) STRICT, WITHOUT ROWID;
`

// Reload is a reload of a server's environment.
type Reload struct {
	// Environment is the id of the environment before.
	Environment string
	// At is when the request was about to be sent.
	At time.Time
}

// KeepReload keeps the latest reload of a server, in the place of the one before. It is
// on the disk when KeepReload returns nil. The server is named by its [ServerName].
func (j *Journal) KeepReload(ctx context.Context, server string, r Reload) error {
	if server == "" || r.Environment == "" {
		return errors.New("journal: a reload needs a server and an environment")
	}
	if err := checkNames(server, r.Environment); err != nil {
		return err
	}
	return j.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO reloads (server, environment, at) VALUES (?, ?, ?)", server, r.Environment, r.At.UnixNano())
		return err
	})
}

// Reload returns the reload of a server that was kept last; the zero Reload if none was.
func (j *Journal) Reload(ctx context.Context, server string) (r Reload, err error) {
	err = j.read(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var at int64
		row := tx.QueryRowContext(ctx, "SELECT environment, at FROM reloads WHERE server = ?", server)
		if err := row.Scan(&r.Environment, &at); errors.Is(err, sql.ErrNoRows) {
			r = Reload{}
			return nil
		} else if err != nil {
			return err
		}
		r.At = time.Unix(0, at)
		return nil
	})
	return r, err
}
