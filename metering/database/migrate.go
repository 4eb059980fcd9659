package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// ErrNewer says that tables were made by a later release than this.
var ErrNewer = errors.New("a later release made these tables")

// attempts bounds how often a file is migrated: processes that open a new one
// at once get into each other's way.
const attempts = 5

// migrate makes the tables or brings them up to date.
func (d *DB) migrate(ctx context.Context, c *Config) error {
	files, err := fs.Sub(c.Migrations, string(d.Engine))
	if err != nil {
		return err
	}
	dialect, tries := goose.DialectSQLite3, attempts
	if d.Engine == Postgres {
		dialect, tries = goose.DialectPostgres, 1
		conn, err := d.Write.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", c.Lock); err != nil {
			return err
		}
		defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", c.Lock) //nolint:errcheck // a lost connection unlocks too
	}
	p, err := goose.NewProvider(dialect, d.Write, files, goose.WithTableName(c.Versions), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	for range tries {
		if _, err = p.Up(ctx); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	if err == nil && current > target {
		err = fmt.Errorf("%w: they are of version %d, and this one knows %d", ErrNewer, current, target)
	}
	return err
}
