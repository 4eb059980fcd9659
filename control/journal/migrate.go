package journal

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/gatehouse-gateway/gatehouse/metering/database"
)

//go:embed migrations
var migrations embed.FS

// openStore opens a database with the journal's tables. One of a newer release
// is ErrInvalid.
func openStore(ctx context.Context, address string) (store, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := database.Open(ctx, database.Config{
		Address: address, Migrations: files, Versions: "gatehouse_migrations", Lock: turnLock,
		Readers: 16, Connections: 20, WriteCache: 64 << 10, ReadCache: 8 << 10,
	})
	if errors.Is(err, database.ErrNewer) {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err != nil {
		return nil, err
	}
	if db.Engine == database.Postgres {
		return &postgresStore{server: db.Server, db: db.Write}, nil
	}
	return newSQLite(ctx, db)
}
