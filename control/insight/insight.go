// Package insight keeps time series of what tenants' requests came to, in
// tables of its own beside the journal: by the minute for two days, by the hour
// for ninety days, by the day for two years. All three are written at once, so
// that what is coarser always adds up to what is finer. Hours and days are
// those of UTC.
//
// Minutes come from the data planes of many processes, and may come twice: what
// a process has added is remembered by number.
//
// It starts no goroutine: who collects the minutes calls Add and Prune.
package insight

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering/database"
)

// How long series are kept, by the length of their buckets.
var spans = [...]struct{ span, kept time.Duration }{
	{time.Minute, 48 * time.Hour},
	{time.Hour, 90 * 24 * time.Hour},
	{24 * time.Hour, 2 * 365 * 24 * time.Hour},
}

// Store is an open store. Its methods may be called from any goroutine.
type Store struct{ db *database.DB }

// Open opens the store at the address of a journal, the path of a SQLite file
// or a URL postgres://…, and makes its tables or brings them up to date. Close
// ends it.
func Open(ctx context.Context, address string) (*Store, error) {
	db, err := openDatabase(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("open analytics: %w", err)
	}
	return &Store{db}, nil
}

// Close closes the connections.
func (s *Store) Close() error { return s.db.Close() }

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
	selectSource = `SELECT last FROM insight_source WHERE gateway = $1 AND epoch = $2`
	putSource    = `INSERT INTO insight_source (gateway, epoch, last, seen) VALUES ($1, $2, $3, $4)
		ON CONFLICT (gateway, epoch) DO UPDATE SET last = excluded.last, seen = excluded.seen`
)

// Add adds minutes to what is there of them, each of a source once: first is
// the number of the first of them, and those that the source has added before
// are passed over. It returns how many of them are there now; on an error the
// rest is not, unless the connection broke at a commit, and may be added again
// in any case.
func (s *Store) Add(ctx context.Context, from control.Source, first uint64, minutes []control.Minute) (n int, err error) {
	for n < len(minutes) {
		some := minutes[n:min(n+chunk, len(minutes))]
		err := s.change(ctx, func(tx *sql.Tx) error {
			number := first + uint64(n) // of some[0]
			var known uint64
			err := tx.QueryRowContext(ctx, selectSource, from.Gateway, from.Epoch).Scan(&known)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			last := number + uint64(len(some)) - 1
			if known >= last {
				return nil
			}
			if known >= number {
				some = some[known-number+1:]
			}
			if err := addAll(ctx, tx, some); err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, putSource, from.Gateway, from.Epoch, int64(last), time.Now().Unix())
			return err
		})
		if err != nil {
			return n, fmt.Errorf("write analytics: %w", err)
		}
		n = min(n+chunk, len(minutes))
	}
	return n, nil
}

func addAll(ctx context.Context, tx *sql.Tx, minutes []control.Minute) error {
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

// remembered is how long a source is known that adds nothing. No data plane
// tries again for so long.
const remembered = 30 * 24 * time.Hour

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
	if err := s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM insight_source WHERE seen < $1`, now.Add(-remembered).Unix())
		return err
	}); err != nil {
		return n, fmt.Errorf("prune analytics: %w", err)
	}
	return n, nil
}

// change runs f in a transaction of the one writer.
func (s *Store) change(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing, and before it the other error says more
	if s.db.Engine == database.Postgres {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", writerLock); err != nil {
			return err
		}
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
