package journal

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations
var migrations embed.FS

// migrate brings the tables up to date. A database of a newer release is
// refused rather than written to.
func migrate(ctx context.Context, db *sql.DB, name string) error {
	dialect := goose.DialectSQLite3
	if name == "postgres" {
		dialect = goose.DialectPostgres
	}
	files, err := fs.Sub(migrations, "migrations/"+name)
	if err != nil {
		return err
	}
	versions, err := database.NewStore(dialect, "gatehouse_migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectCustom, db, files, goose.WithStore(versions))
	if err != nil {
		return err
	}
	const tries = 5 // processes opening one new SQLite file at once get into each other's way
	for try := range tries {
		if _, err = p.Up(ctx); err == nil || name == "postgres" || try == tries-1 {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("migrate the journal: %w", err)
	}
	current, target, err := p.GetVersions(ctx)
	if err == nil && current > target {
		err = fmt.Errorf("the journal's tables are of version %d, this release knows %d: %w", current, target, ErrInvalid)
	}
	return err
}
