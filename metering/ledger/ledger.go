package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/database"
)

// Ledger is an open ledger. Its methods may be called from any goroutine;
// those that write take turns. An error means that nothing was written, or,
// where the connection broke at the commit, that it may have been: every write
// may be repeated.
type Ledger struct {
	engine engine
	// read and write are the same pool on PostgreSQL.
	read, write *sql.DB
	now         func() time.Time

	// mu is held by whoever writes; it guards the field below.
	mu  sync.Mutex
	ids ids
}

// Open opens the ledger at dsn, and makes its tables or brings them up to
// date. dsn is a URL postgres://… or the path of a SQLite file, which may
// begin with sqlite:. The folder of the file exists. Close ends the ledger.
func Open(ctx context.Context, dsn string) (*Ledger, error) {
	c, err := settings(strings.TrimPrefix(dsn, "sqlite:"))
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	db, err := database.Open(ctx, c)
	if err != nil && database.IsPostgres(dsn) {
		return nil, fmt.Errorf("open ledger: %w", err) // the address may hold a password
	}
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", c.Address, err)
	}
	return &Ledger{engine: engine(db.Engine), read: db.Read, write: db.Write, now: time.Now, ids: newIDs()}, nil
}

// Close closes the connections, once what runs on them has ended.
func (l *Ledger) Close() error {
	err := l.write.Close()
	if l.read != l.write {
		err = errors.Join(err, l.read.Close())
	}
	return err
}

// Name is "sqlite" or "postgres".
func (l *Ledger) Name() string { return string(l.engine) }

// change runs f in a transaction of the one writer.
func (l *Ledger) change(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing, and before it the other error says more
	if l.engine == postgres {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", writerLock); err != nil {
			return err
		}
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// view runs f on one snapshot of the database.
func (l *Ledger) view(ctx context.Context, f func(*sql.Tx) error) error {
	options := &sql.TxOptions{ReadOnly: true}
	if l.engine == postgres {
		options.Isolation = sql.LevelRepeatableRead
	}
	tx, err := l.read.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it has only read
	return f(tx)
}

// scan calls f for each row of a query.
func scan(ctx context.Context, tx *sql.Tx, query string, args []any, f func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
