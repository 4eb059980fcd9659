package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse/metering/database"
)

// sqliteStore has one connection that writes, with its statements prepared,
// and some that read.
type sqliteStore struct {
	db       *database.DB
	conn     *sql.Conn // the one that writes; used by whoever has the turn
	prepared map[string]*sql.Stmt
}

// The statements of a batch.
const (
	selectHead   = `SELECT seq, at, hash FROM head`
	selectIndex  = `SELECT value FROM settings WHERE name = 'index'`
	selectRow    = `SELECT revision, created, updated, body FROM resources WHERE kind = ? AND tenant = ? AND id = ?`
	selectReplay = `SELECT request, seq, at FROM replays WHERE actor = ? AND key = ?`
	insertEvent  = `INSERT INTO events (seq, at, actor, kind, tenant, subject, body, prev_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	updateHead   = `UPDATE head SET seq = ?, at = ?, hash = ?`
	putRow       = `INSERT INTO resources (kind, tenant, id, revision, created, updated, body) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (kind, tenant, id) DO UPDATE SET revision = excluded.revision, created = excluded.created, updated = excluded.updated, body = excluded.body`
	deleteRow   = `DELETE FROM resources WHERE kind = ? AND tenant = ? AND id = ?`
	insertTouch = `INSERT INTO touched (kind, tenant, id, seq) VALUES (?, ?, ?, ?)`
	insertField = `INSERT INTO fields (kind, name, value, tenant, id) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`
	deleteField = `DELETE FROM fields WHERE kind = ? AND name = ? AND value = ? AND tenant = ? AND id = ?`
	putReplay   = `INSERT INTO replays (actor, key, request, seq, at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (actor, key) DO UPDATE SET request = excluded.request, seq = excluded.seq, at = excluded.at`
	pruneReplays = `DELETE FROM replays WHERE at <= ?`
)

func newSQLite(ctx context.Context, db *database.DB) (_ *sqliteStore, err error) {
	s := &sqliteStore{db: db, prepared: map[string]*sql.Stmt{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.conn, err = db.Write.Conn(ctx); err != nil {
		return nil, err
	}
	for _, statement := range []string{
		selectHead, selectIndex, selectRow, selectReplay, insertEvent, updateHead, putRow, deleteRow,
		insertTouch, insertField, deleteField, putReplay, pruneReplays,
	} {
		if s.prepared[statement], err = s.conn.PrepareContext(ctx, statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	return s, nil
}

func (s *sqliteStore) begin(ctx context.Context) (tx, error) {
	// A file does not hang, and the driver starts a goroutine a statement to
	// watch a context that can end.
	if _, err := s.conn.ExecContext(context.WithoutCancel(ctx), "BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	return &sqliteTx{sqliteStore: s, querier: statements{plain: s.conn}}, nil
}

func (s *sqliteStore) reading() querier { return statements{plain: s.db.Read} }

func (s *sqliteStore) snapshot(ctx context.Context) (querier, func() error, error) {
	t, err := s.db.Read.BeginTx(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	return statements{plain: t}, t.Rollback, nil
}

func (s *sqliteStore) listen(context.Context, func()) {}

func (s *sqliteStore) close() error {
	for _, p := range s.prepared {
		if p != nil {
			p.Close()
		}
	}
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	errs = append(errs, s.db.Close())
	return errors.Join(errs...)
}

type sqliteTx struct {
	*sqliteStore
	querier
	done bool
}

func (t *sqliteTx) load(ctx context.Context, b *batch) error {
	ctx = context.WithoutCancel(ctx)
	var hash []byte
	if err := t.prepared[selectHead].QueryRowContext(ctx).Scan(&b.seq, &b.at, &hash); err != nil {
		return err
	}
	copy(b.hash[:], hash)
	for r := range b.before {
		var w row
		err := t.prepared[selectRow].QueryRowContext(ctx, r.Kind, r.Tenant, r.ID).Scan(&w.revision, &w.created, &w.updated, &w.body)
		if err == nil {
			b.before[r] = &w
		} else if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	for id := range b.replays {
		var r replay
		err := t.prepared[selectReplay].QueryRowContext(ctx, id.actor, id.key).Scan(&r.request, &r.seq, &r.at)
		if err == nil {
			b.replays[id] = r
		} else if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	var index string
	if err := t.prepared[selectIndex].QueryRowContext(ctx).Scan(&index); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return b.loaded(index)
}

func (t *sqliteTx) save(ctx context.Context, b *batch) error {
	ctx = context.WithoutCancel(ctx)
	var first error
	do := func(statement string, args ...any) {
		if first == nil {
			if _, err := t.prepared[statement].ExecContext(ctx, args...); err != nil {
				first = err
			}
		}
	}
	for i := range b.records {
		r := &b.records[i]
		do(insertEvent, r.seq, r.at, r.actor, r.kind, r.tenant, r.subject, r.body, r.prev, r.hash)
	}
	for i := range b.touched {
		r := &b.touched[i]
		do(insertTouch, r.Kind, r.Tenant, r.ID, r.seq)
	}
	b.state(
		func(r Ref, w *row) {
			do(putRow, r.Kind, r.Tenant, r.ID, int64(w.revision), w.created, w.updated, []byte(w.body))
		},
		func(r Ref) { do(deleteRow, r.Kind, r.Tenant, r.ID) })
	b.fieldChanges(
		func(r Ref, f Field) { do(insertField, r.Kind, f.Name, f.Value, r.Tenant, r.ID) },
		func(r Ref, f Field) { do(deleteField, r.Kind, f.Name, f.Value, r.Tenant, r.ID) })
	for _, id := range b.keys {
		r := b.replays[id]
		do(putReplay, id.actor, id.key, r.request, r.seq, r.at)
	}
	if len(b.keys) > 0 {
		do(pruneReplays, b.at-replayWindow)
	}
	do(updateHead, b.seq, b.at, b.hash[:])
	return first
}

func (t *sqliteTx) commit(ctx context.Context) (bool, error) {
	_, err := t.conn.ExecContext(context.WithoutCancel(ctx), "COMMIT")
	t.done = err == nil
	// After a failed fsync the log may hold the commit all the same.
	return err == nil || database.IsFull(err), err
}

func (t *sqliteTx) end() {
	if t.done {
		return
	}
	// This fails where SQLite has rolled back by itself, on a full disk.
	t.conn.ExecContext(context.Background(), "ROLLBACK") //nolint:errcheck // said above
}
