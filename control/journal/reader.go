package journal

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"sort"
	"time"
)

// Reader reads a journal: the latest state, or that of a Snapshot.
type Reader struct {
	q     querier
	index Index
}

// Snapshot is the state at one moment. It is valid within the call that made
// it, for one goroutine.
type Snapshot struct {
	Reader
	// Head is the last event's place.
	Head Checkpoint
}

// Snapshot calls f with a consistent view, which later commits do not change,
// and returns f's error. The view holds no lock; on SQLite the log grows while
// it is open.
func (j *Journal) Snapshot(ctx context.Context, f func(*Snapshot) error) error {
	q, end, err := j.store.snapshot(ctx)
	if err != nil {
		return err
	}
	defer end() //nolint:errcheck // it read only
	s := &Snapshot{Reader: Reader{q, j.index}}
	if s.Head, err = s.Reader.Head(ctx); err != nil { // SQLite's view is that of its first read
		return err
	}
	return f(s)
}

// Head returns the last event's place; Seq is 0 in an empty journal.
func (r *Reader) Head(ctx context.Context) (Checkpoint, error) {
	var c Checkpoint
	rows, err := r.q.query(ctx, selectHead)
	err = scan(rows, err, func(rows *sql.Rows) error {
		var at int64
		var hash []byte
		if err := rows.Scan(&c.Seq, &at, &hash); err != nil {
			return err
		}
		c.At = micros(at)
		copy(c.Hash[:], hash)
		return nil
	})
	return c, err
}

const resourceColumns = `r.kind, r.tenant, r.id, r.revision, r.created, r.updated, r.body`

// resources reads rows of resourceColumns.
func (r *Reader) resources(ctx context.Context, statement string, args ...any) ([]Resource, error) {
	var out []Resource
	rows, err := r.q.query(ctx, statement, args...)
	err = scan(rows, err, func(rows *sql.Rows) error {
		var v Resource
		var created, updated int64
		if err := rows.Scan(&v.Kind, &v.Tenant, &v.ID, &v.Revision, &created, &updated, (*[]byte)(&v.Body)); err != nil {
			return err
		}
		v.Created, v.Updated = micros(created), micros(updated)
		out = append(out, v)
		return nil
	})
	return out, err
}

// Get returns a resource, or a *NotFoundError.
func (r *Reader) Get(ctx context.Context, ref Ref) (Resource, error) {
	found, err := r.resources(ctx, `SELECT `+resourceColumns+` FROM resources r WHERE kind = ? AND tenant = ? AND id = ?`,
		ref.Kind, ref.Tenant, ref.ID)
	if err != nil {
		return Resource{}, fmt.Errorf("read %s: %w", ref, err)
	}
	if len(found) == 0 {
		return Resource{}, &NotFoundError{ref}
	}
	return found[0], nil
}

// pageSize is how many rows a stream reads at a time.
const pageSize = 1000

// All streams the resources of the kinds given, or of all kinds, ordered by
// kind, tenant and id. Outside of a Snapshot what is committed meanwhile may
// or may not be seen.
func (r *Reader) All(ctx context.Context, kinds ...string) iter.Seq2[Resource, error] {
	return func(yield func(Resource, error) bool) {
		if len(kinds) == 0 {
			r.stream(ctx, `(kind, tenant, id) > (?, ?, ?)`, "", yield)
			return
		}
		for _, kind := range slices.Sorted(slices.Values(kinds)) {
			// With the kind given both databases seek in the primary key.
			if !r.stream(ctx, `kind = ? AND (tenant, id) > (?, ?)`, kind, yield) {
				return
			}
		}
	}
}

// stream yields the rows of one or all kinds, beyond the place that the
// condition's parameters name, and tells whether to go on.
func (r *Reader) stream(ctx context.Context, beyond, kind string, yield func(Resource, error) bool) bool {
	last := Ref{Kind: kind}
	for {
		page, err := r.resources(ctx, `SELECT `+resourceColumns+` FROM resources r WHERE `+beyond+` ORDER BY kind, tenant, id LIMIT ?`,
			last.Kind, last.Tenant, last.ID, pageSize)
		if err != nil {
			yield(Resource{}, fmt.Errorf("stream resources: %w", err))
			return false
		}
		for _, v := range page {
			if !yield(v, nil) {
				return false
			}
			last = v.Ref
		}
		if len(page) < pageSize {
			return true
		}
	}
}

// SeqAt returns the number of the last event at or before t, 0 when there is
// none.
func (r *Reader) SeqAt(ctx context.Context, t time.Time) (uint64, error) {
	head, err := r.Head(ctx)
	if err != nil {
		return 0, err
	}
	// Numbers have no gaps and times do not decrease.
	n := sort.Search(int(head.Seq), func(i int) bool {
		if err != nil {
			return true
		}
		var rows *sql.Rows
		rows, err = r.q.query(ctx, `SELECT at FROM events WHERE seq = ?`, i+1)
		var at int64
		err = scan(rows, err, func(rows *sql.Rows) error { return rows.Scan(&at) })
		return at > t.UnixMicro()
	})
	return uint64(n), err
}
