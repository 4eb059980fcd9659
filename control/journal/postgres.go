package journal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// turnLock is the advisory lock that writers take turns by. channel is the
// NOTIFY channel that their commits are told on; both belong to a database.
const (
	turnLock int64 = 0x67617465686f7573 // "gatehous"
	channel        = "gatehouse_journal"
)

// patience is how long a writer waits for PostgreSQL, its turn included.
const patience = 30 * time.Second

type postgresStore struct {
	server *pgx.ConnConfig
	db     *sql.DB
}

// begin tries again on another connection when a pooled one turns out to be
// dead: nothing has been asked for on it yet.
func (s *postgresStore) begin(ctx context.Context) (tx, error) {
	const tries = 3
	var first error
	for range tries {
		t, err := s.beginOnce(ctx)
		if err == nil {
			return t, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

func (s *postgresStore) beginOnce(ctx context.Context) (*postgresTx, error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	t := &postgresTx{querier: statements{plain: conn, numbered: true}, conn: conn}
	// The lock is a statement of its own: the next one sees what the writer
	// before committed.
	if err := t.raw(func(c *pgx.Conn) error {
		_, err := c.PgConn().Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock("+strconv.FormatInt(turnLock, 10)+")").ReadAll()
		return err
	}); err != nil {
		t.end()
		return nil, err
	}
	return t, nil
}

func (s *postgresStore) reading() querier { return statements{plain: s.db, numbered: true} }

func (s *postgresStore) snapshot(ctx context.Context) (querier, func() error, error) {
	t, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, nil, err
	}
	return statements{plain: t, numbered: true}, t.Rollback, nil
}

// listen has a connection of its own. While it is being made anew watchers
// poll.
func (s *postgresStore) listen(ctx context.Context, wake func()) {
	for ctx.Err() == nil {
		s.listenOnce(ctx, wake)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (s *postgresStore) listenOnce(ctx context.Context, wake func()) {
	conn, err := pgx.ConnectConfig(ctx, s.server)
	if err != nil {
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return
	}
	for {
		wake() // first for what was committed before LISTEN
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return
		}
	}
}

func (s *postgresStore) close() error { return s.db.Close() }

type postgresTx struct {
	querier
	conn *sql.Conn
	done bool
}

// raw calls f with the connection under conn.
func (t *postgresTx) raw(f func(*pgx.Conn) error) error {
	return t.conn.Raw(func(c any) error { return f(c.(*stdlib.Conn).Conn()) })
}

func (t *postgresTx) load(ctx context.Context, b *batch) error {
	var kinds, tenants, ids, actors, keys []string
	for r := range b.before {
		kinds, tenants, ids = append(kinds, r.Kind), append(tenants, r.Tenant), append(ids, r.ID)
	}
	for id := range b.replays {
		actors, keys = append(actors, id.actor), append(keys, id.key)
	}
	var all pgx.Batch
	all.Queue(selectHead).QueryRow(func(r pgx.Row) error {
		var hash []byte
		err := r.Scan(&b.seq, &b.at, &hash)
		copy(b.hash[:], hash)
		return err
	})
	var index string
	all.Queue(selectIndex).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&index); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if len(kinds) > 0 {
		all.Queue(`SELECT r.kind, r.tenant, r.id, r.revision, r.created, r.updated, r.body FROM resources r
			JOIN unnest($1::text[], $2::text[], $3::text[]) AS w (kind, tenant, id) USING (kind, tenant, id)`, kinds, tenants, ids).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var r Ref
				var w row
				if err := rows.Scan(&r.Kind, &r.Tenant, &r.ID, &w.revision, &w.created, &w.updated, &w.body); err != nil {
					return err
				}
				b.before[r] = &w
			}
			return rows.Err()
		})
	}
	if len(keys) > 0 {
		all.Queue(`SELECT r.actor, r.key, r.request, r.seq, r.at FROM replays r
			JOIN unnest($1::text[], $2::text[]) AS w (actor, key) USING (actor, key)`, actors, keys).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var id replayID
				var r replay
				if err := rows.Scan(&id.actor, &id.key, &r.request, &r.seq, &r.at); err != nil {
					return err
				}
				b.replays[id] = r
			}
			return rows.Err()
		})
	}
	if err := t.raw(func(c *pgx.Conn) error { return c.SendBatch(ctx, &all).Close() }); err != nil {
		return err
	}
	return b.loaded(index)
}

func (t *postgresTx) commit(ctx context.Context) (bool, error) {
	err := t.raw(func(c *pgx.Conn) error {
		_, err := c.PgConn().Exec(ctx, "COMMIT").ReadAll()
		return err
	})
	t.done = err == nil
	// An answer of the server is certain; a lost connection is not, nor is one
	// that the server ends, which it may do between the commit and the answer.
	e, answered := errors.AsType[*pgconn.PgError](err)
	return err == nil || answered && e.Severity == "ERROR", err
}

func (t *postgresTx) end() {
	if !t.done {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := t.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
			t.conn.Raw(func(any) error { return driver.ErrBadConn }) //nolint:errcheck // takes it out of the pool
		}
	}
	t.conn.Close()
}
