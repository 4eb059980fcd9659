package journal

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// store is a database: SQLite or PostgreSQL.
type store interface {
	// begin starts a writing transaction when it is this writer's turn. Only
	// one is open at a time, in all processes.
	begin(context.Context) (tx, error)
	// reading returns what reads outside of a transaction, each statement for
	// itself.
	reading() querier
	// snapshot starts a reading transaction, whose statements all see the
	// same state.
	snapshot(context.Context) (querier, func() error, error)
	// listen calls wake when another process may have committed, until ctx
	// ends.
	listen(ctx context.Context, wake func())
	close() error
}

// tx is a writing transaction. One goroutine uses it.
type tx interface {
	querier
	// load fills in what b wants and where the journal ends.
	load(context.Context, *batch) error
	// save writes what b holds beyond what was loaded.
	save(context.Context, *batch) error
	// commit returns when the transaction is durable. On an error nothing was
	// written, save that with certain false it may have been.
	commit(context.Context) (certain bool, err error)
	// end gives the connection back, rolling back what was not committed.
	end()
}

// querier runs statements, whose parameters are written as ?.
type querier interface {
	query(ctx context.Context, statement string, args ...any) (*sql.Rows, error)
	exec(ctx context.Context, statement string, args ...any) error
}

// plain is what database/sql's DB, Tx and Conn have in common.
type plain interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

// statements makes a querier of a plain.
type statements struct {
	plain
	numbered bool // the database writes parameters as $1
}

func (s statements) query(ctx context.Context, statement string, args ...any) (*sql.Rows, error) {
	return s.QueryContext(ctx, s.write(statement), args...)
}

func (s statements) exec(ctx context.Context, statement string, args ...any) error {
	_, err := s.ExecContext(ctx, s.write(statement), args...)
	return err
}

func (s statements) write(statement string) string {
	if !s.numbered {
		return statement
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(statement, "?") {
		if n > 0 {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// scan calls f for each row.
func scan(rows *sql.Rows, err error, f func(*sql.Rows) error) error {
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
