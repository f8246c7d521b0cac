package journal

import (
	"context"
	"database/sql"
	"errors"
)

// aliasSchema came with version 2.
const aliasSchema = `
CREATE TABLE aliases (
	server      TEXT NOT NULL,
	shown       TEXT NOT NULL,
	real        TEXT NOT NULL,
	environment TEXT NOT NULL,
	PRIMARY KEY (server, shown)
) STRICT, WITHOUT ROWID;
`

// Alias is a task that took the place of another at a server, whose callers know it by
// the other's id.
type Alias struct {
	// Shown is the id that callers know; Real, that of the task that the server has.
	Shown, Real string
	// Environment is the id of the environment that both were made in.
	Environment string
}

// KeepAlias keeps an alias of a server, in place of one of the same Shown. It is on the
// disk when KeepAlias returns nil. The server is named by its [ServerName]. Those of its
// earlier environments go: a server forgets its tasks with its environment.
func (j *Journal) KeepAlias(ctx context.Context, server string, a Alias) error {
	if server == "" || a.Shown == "" || a.Real == "" || a.Environment == "" {
		return errors.New("journal: an alias needs a server, two ids and an environment")
	}
	if err := checkNames(server, a.Shown, a.Real, a.Environment); err != nil {
		return err
	}
	return j.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM aliases WHERE server = ? AND environment <> ?", server, a.Environment); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO aliases (server, shown, real, environment) VALUES (?, ?, ?, ?)",
			server, a.Shown, a.Real, a.Environment)
		return err
	})
}

// Aliases returns the aliases that are kept of a server.
func (j *Journal) Aliases(ctx context.Context, server string) ([]Alias, error) {
	var all []Alias
	err := j.read(ctx, func(ctx context.Context, tx *sql.Tx) error {
		all = nil
		rows, err := tx.QueryContext(ctx, "SELECT shown, real, environment FROM aliases WHERE server = ? ORDER BY shown", server)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var a Alias
			if err := scan(rows, &a.Shown, &a.Real, &a.Environment); err != nil {
				return err
			}
			all = append(all, a)
		}
		return rows.Err()
	})
	return all, err
}
