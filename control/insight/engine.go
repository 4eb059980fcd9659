package insight

import (
	"context"
	"database/sql"
	"embed"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite"
)

// engine is what runs the SQL. Both take the same.
type engine string

const (
	lite     engine = "sqlite"
	postgres engine = "postgres"
)

const (
	// readers bounds the connections to SQLite that only read.
	readers = 2
	// connections bounds those to PostgreSQL.
	connections = 4
	// writerLock is PostgreSQL's advisory lock of whoever writes series: what
	// is there is read, added to and written back.
	writerLock = 0x67617465_696e7369
)

//go:embed migrations
var migrations embed.FS

func migrate(ctx context.Context, e engine, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations/"+string(e))
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithTableName("insight_version"), goose.WithDisableGlobalRegistry(true)}
	dialect := goose.DialectSQLite3
	if e == postgres {
		dialect = goose.DialectPostgres
		turn, err := lock.NewPostgresSessionLocker(lock.WithLockID(writerLock))
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(turn))
	}
	p, err := goose.NewProvider(dialect, db, files, options...)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// openSQLite opens one connection that writes and some that read. The file is
// the journal's, or new. Commits are not synced one by one: a crash of the
// machine may cost the last minutes, and nothing of the journal, whose own
// commits are.
func openSQLite(path string) (read, write *sql.DB, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, nil, err
	}
	address := func(more string) string {
		return (&url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=temp_store(MEMORY)&" + more}).String()
	}
	w, err := sqlite.NewConnector(address("_txlock=immediate&_pragma=cache_size(-8192)"))
	if err != nil {
		return nil, nil, err
	}
	r, err := sqlite.NewConnector(address("_pragma=query_only(1)&_pragma=cache_size(-8192)"))
	if err != nil {
		return nil, nil, err
	}
	read, write = sql.OpenDB(r), sql.OpenDB(w)
	read.SetMaxOpenConns(readers)
	write.SetMaxOpenConns(1)
	return read, write, nil
}

func openPostgres(address string) (*sql.DB, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(connections)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}
