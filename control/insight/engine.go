package insight

import (
	"context"
	"embed"
	"io/fs"

	"github.com/gatehouse-gateway/gatehouse/metering/database"
)

// writerLock is PostgreSQL's advisory lock of whoever writes series: what is
// there is read, added to and written back.
const writerLock = 0x67617465_696e7369

//go:embed migrations
var migrations embed.FS

// openDatabase opens that of a journal, or makes it. Commits are not synced
// one by one: a crash of the machine may cost the last minutes, and nothing of
// the journal, whose own commits are.
func openDatabase(ctx context.Context, address string) (*database.DB, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return database.Open(ctx, database.Config{
		Address: address, Migrations: files, Versions: "insight_version", Lock: writerLock, Lazy: true,
		Readers: 2, Connections: 4, WriteCache: 8 << 10, ReadCache: 8 << 10,
	})
}
