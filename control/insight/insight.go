// Package insight keeps time series of what tenants' requests came to, in
// tables of its own beside the journal: by the minute for two days, by the hour
// for ninety days, by the day for two years. All three are written at once, so
// that what is coarser always adds up to what is finer. Hours and days are
// those of UTC.
//
// It starts no goroutine: who collects the minutes calls Add and Prune.
package insight

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Minute is what requests of one kind came to within a minute.
type Minute struct {
	Tenant gatehouse.TenantID
	// Route is empty for requests that no route took.
	Route gatehouse.RouteID
	// At is in the minute.
	At     time.Time
	Method string
	// Class is the first digit of the status; 0: the client had gone.
	Class                     int
	Requests, Denied, Limited int64
	BytesIn, BytesOut         int64
	Times                     []Time
}

// Time is how many requests took at most Micros microseconds, and longer than
// the bucket before. Sources must agree on the bounds.
type Time struct{ Micros, Count int64 }

// How long series are kept, by the length of their buckets.
var spans = [...]struct{ span, kept time.Duration }{
	{time.Minute, 48 * time.Hour},
	{time.Hour, 90 * 24 * time.Hour},
	{24 * time.Hour, 2 * 365 * 24 * time.Hour},
}

// Store is an open store. Its methods may be called from any goroutine.
type Store struct {
	engine engine
	// read and write are the same pool on PostgreSQL.
	read, write *sql.DB
}

// Open opens the store at the address of a journal, the path of a SQLite file
// or a URL postgres://…, and makes its tables or brings them up to date. Close
// ends it.
func Open(ctx context.Context, address string) (*Store, error) {
	s := &Store{engine: lite}
	var err error
	if strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://") {
		s.engine = postgres
		if s.write, err = openPostgres(address); err != nil {
			return nil, fmt.Errorf("open analytics: %w", err)
		}
		s.read = s.write
	} else if s.read, s.write, err = openSQLite(address); err != nil {
		return nil, fmt.Errorf("open analytics %s: %w", address, err)
	}
	if err := migrate(ctx, s.engine, s.write); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate analytics: %w", err), s.Close())
	}
	return s, nil
}

// Close closes the connections.
func (s *Store) Close() error {
	err := s.write.Close()
	if s.read != s.write {
		err = errors.Join(err, s.read.Close())
	}
	return err
}

// chunk is how many minutes are written in one transaction: it keeps other
// writers of the file waiting for about 10 ms.
const chunk = 50

const (
	selectRow = `SELECT requests, denied, limited, bytes_in, bytes_out, times FROM insight_series
		WHERE tenant = $1 AND span = $2 AND at = $3 AND route = $4 AND method = $5 AND class = $6`
	putRow = `INSERT INTO insight_series (tenant, span, at, route, method, class, requests, denied, limited, bytes_in, bytes_out, times)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (tenant, span, at, route, method, class) DO UPDATE SET requests = excluded.requests, denied = excluded.denied,
		limited = excluded.limited, bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out, times = excluded.times`
)

// Add adds minutes to what is there of them. On an error the first n have been
// written and the rest has not, unless the connection broke at a commit: then
// up to 50 more may have been.
func (s *Store) Add(ctx context.Context, minutes []Minute) (n int, err error) {
	for n < len(minutes) {
		some := minutes[n:min(n+chunk, len(minutes))]
		if err := s.change(ctx, func(tx *sql.Tx) error { return addAll(ctx, tx, some) }); err != nil {
			return n, fmt.Errorf("write analytics: %w", err)
		}
		n += len(some)
	}
	return n, nil
}

func addAll(ctx context.Context, tx *sql.Tx, minutes []Minute) error {
	get, err := tx.PrepareContext(ctx, selectRow)
	if err != nil {
		return err
	}
	defer get.Close()
	put, err := tx.PrepareContext(ctx, putRow)
	if err != nil {
		return err
	}
	defer put.Close()
	for i := range minutes {
		m := &minutes[i]
		for _, r := range spans {
			at := m.At.Truncate(r.span).Unix()
			key := []any{string(m.Tenant), int64(r.span / time.Second), at, string(m.Route), m.Method, m.Class}
			sum, err := scanSums(get.QueryRowContext(ctx, key...))
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			sum.add(&sums{m.Requests, m.Denied, m.Limited, m.BytesIn, m.BytesOut, timesOf(m.Times)})
			if _, err := put.ExecContext(ctx, append(key, sum.requests, sum.denied, sum.limited, sum.in, sum.out, sum.times.encode())...); err != nil {
				return err
			}
		}
	}
	return nil
}

// pruned is how many buckets are deleted in one transaction.
const pruned = 5000

// Prune deletes what is older than it is kept for, and returns how much.
func (s *Store) Prune(ctx context.Context, now time.Time) (n int64, err error) {
	const key = `tenant, span, at, route, method, class`
	for _, r := range spans {
		for more := true; more; {
			err := s.change(ctx, func(tx *sql.Tx) error {
				res, err := tx.ExecContext(ctx, `DELETE FROM insight_series WHERE (`+key+`) IN (SELECT `+key+
					` FROM insight_series WHERE span = $1 AND at < $2 LIMIT $3)`, int64(r.span/time.Second), now.Add(-r.kept).Unix(), pruned)
				if err != nil {
					return err
				}
				gone, err := res.RowsAffected()
				n, more = n+gone, gone == pruned
				return err
			})
			if err != nil {
				return n, fmt.Errorf("prune analytics: %w", err)
			}
		}
	}
	return n, nil
}

// change runs f in a transaction of the one writer.
func (s *Store) change(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing, and before it the other error says more
	if s.engine == postgres {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", writerLock); err != nil {
			return err
		}
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
