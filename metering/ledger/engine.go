package ledger

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite"
)

// engine is what runs the SQL. Both take the same but for what is below and
// the bulk statements.
type engine string

const (
	lite     engine = "sqlite"
	postgres engine = "postgres"
)

const (
	// readers bounds the connections to SQLite that only read.
	readers = 4
	// connections bounds those to PostgreSQL.
	connections = 8
	// busy is how long one process waits for another that writes to the file.
	busy = 10 * time.Second
	// writerLock is PostgreSQL's advisory lock of whoever writes to the
	// ledger: two writers would upsert one row in one order each, and wait for
	// each other.
	writerLock = 0x67617465_6c656467
)

//go:embed migrations
var migrations embed.FS

func migrate(ctx context.Context, e engine, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations/"+string(e))
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithTableName("metering_version"), goose.WithDisableGlobalRegistry(true)}
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

// openSQLite opens one connection that writes and some that read.
func openSQLite(path string) (read, write *sql.DB, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, nil, err
	}
	w, err := sqlite.NewConnector(sqliteURL(path, "_txlock=immediate&_pragma=cache_size(-65536)"))
	if err != nil {
		return nil, nil, err
	}
	r, err := sqlite.NewConnector(sqliteURL(path, "_pragma=query_only(1)&_pragma=cache_size(-16384)"))
	if err != nil {
		return nil, nil, err
	}
	read, write = sql.OpenDB(r), sql.OpenDB(w)
	read.SetMaxOpenConns(readers)
	write.SetMaxOpenConns(1)
	return read, write, nil
}

// sqliteURL makes what Write has committed be on disk when it returns: WAL
// alone would sync at checkpoints only.
func sqliteURL(path, more string) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: fmt.Sprintf(
		"_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=temp_store(MEMORY)&%s", busy.Milliseconds(), more)}
	return u.String()
}

func openPostgres(dsn string) (*sql.DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	// Queries take lists in JSON, whose length the planner guesses too high: it
	// would compile for a second what runs for a millisecond.
	config.RuntimeParams["jit"] = "off"
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(connections)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}

// list is a subquery of the strings of the JSON array in parameter p.
func (e engine) list(p string) string {
	if e == postgres {
		return "(SELECT jsonb_array_elements_text(" + p + "::jsonb))"
	}
	return "(SELECT value FROM json_each(" + p + "))"
}

// pairs is a subquery of the pairs of numbers (at, bucket) in the JSON array
// of arrays in parameter p.
func (e engine) pairs(p string) string {
	if e == postgres {
		return "(SELECT (value->>0)::integer AS at, (value->>1)::integer AS bucket FROM jsonb_array_elements(" + p + "::jsonb))"
	}
	return "(SELECT value->>0 AS at, value->>1 AS bucket FROM json_each(" + p + "))"
}

// join is JOIN in the order of writing, where the planner has no statistics
// to find a better one.
func (e engine) join() string {
	if e == postgres {
		return " JOIN "
	}
	return " CROSS JOIN "
}

// lookup joins slots b, the series s that where keeps, and the rows u of a
// table, each found by slot and series. Without OFFSET 0 PostgreSQL would read
// the table whole, because it takes lists in JSON to be long.
func (e engine) lookup(slots, where, table, on string) string {
	on += " AND u.series = s.id"
	if e == postgres {
		return slots + " CROSS JOIN (SELECT * FROM metering_series s WHERE true" + where + " OFFSET 0) s" +
			" CROSS JOIN LATERAL (SELECT * FROM " + table + " u WHERE " + on + " OFFSET 0) u"
	}
	return "metering_series s CROSS JOIN " + slots + " CROSS JOIN " + table + " u ON " + on + " WHERE true" + where
}

// tuples is ($1, $2, …), … for the columns, n times, from parameter 1.
func tuples(columns, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		for c := range columns {
			b.WriteByte("(,"[min(c, 1)])
			fmt.Fprintf(&b, "$%d", i*columns+c+1)
		}
		b.WriteByte(')')
	}
	return b.String()
}
