package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
)

// AsOf returns a resource as it was after the event of that number, or a
// *NotFoundError when it was not there. SeqAt makes a number of a time.
func (r *Reader) AsOf(ctx context.Context, ref Ref, seq uint64) (Resource, error) {
	found, err := r.History(ctx, ref, seq+1, 1)
	if err != nil {
		return Resource{}, err
	}
	if len(found) > 0 {
		if v, ok := found[0].Resource(ref); ok {
			return v, nil
		}
	}
	return Resource{}, &NotFoundError{ref}
}

// AllAsOf streams the resources of a kind, all tenants' or one's, as they were
// after the event of that number, ordered by tenant and id.
func (r *Reader) AllAsOf(ctx context.Context, kind string, tenant *string, seq uint64) iter.Seq2[Resource, error] {
	return func(yield func(Resource, error) bool) {
		// A batch of resources written at once is one event: it is decoded once.
		var recent Event
		var last Ref
		only := ""
		if tenant != nil {
			only = "AND tenant = ? "
		}
		for {
			type place struct {
				ref Ref
				seq uint64
			}
			var page []place
			args := []any{kind, last.Tenant, last.ID, int64(seq)}
			if tenant != nil {
				args = append(args, *tenant)
			}
			rows, err := r.q.query(ctx, `SELECT tenant, id, max(seq) FROM touched WHERE kind = ? AND (tenant, id) > (?, ?) AND seq <= ? `+only+`
				GROUP BY tenant, id ORDER BY tenant, id LIMIT ?`, append(args, pageSize)...)
			err = scan(rows, err, func(rows *sql.Rows) error {
				p := place{ref: Ref{Kind: kind}}
				err := rows.Scan(&p.ref.Tenant, &p.ref.ID, &p.seq)
				page = append(page, p)
				return err
			})
			if err != nil {
				yield(Resource{}, fmt.Errorf("stream resources as of %d: %w", seq, err))
				return
			}
			for _, p := range page {
				if recent.Seq != p.seq {
					if recent, err = r.Event(ctx, p.seq); err != nil {
						yield(Resource{}, err)
						return
					}
				}
				if v, ok := recent.Resource(p.ref); ok && !yield(v, nil) {
					return
				}
				last = p.ref
			}
			if len(page) < pageSize {
				return
			}
		}
	}
}

// Restore returns the change that brings a resource back to what it was after
// the event of that number, deleting it when it was not there, for the caller
// to sign and commit. It expects the resource as it is now.
func (r *Reader) Restore(ctx context.Context, ref Ref, seq uint64) (Change, error) {
	var c Change
	old, err := r.AsOf(ctx, ref, seq)
	if err := c.bring(ref, old.Body, err); err != nil {
		return Change{}, err
	}
	return r.expectPresent(ctx, c)
}

// Undo returns the change that takes back everything that one event did, for
// the caller to sign and commit. A *StaleError says that one of its resources
// has been written since; so does the commit when that happens later.
func (r *Reader) Undo(ctx context.Context, seq uint64) (Change, error) {
	e, err := r.Event(ctx, seq)
	if err != nil {
		return Change{}, err
	}
	var c Change
	for _, d := range e.Edits {
		now, err := r.Get(ctx, d.Ref)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Change{}, err
		}
		var left uint64 // the revision that e left
		if d.After != nil {
			left = e.Seq
		}
		if now.Revision != left {
			return Change{}, &StaleError{d.Ref, int64(left), now.Revision}
		}
		old, err := r.AsOf(ctx, d.Ref, seq-1)
		if err := c.bring(d.Ref, old.Body, err); err != nil {
			return Change{}, err
		}
	}
	return r.expectPresent(ctx, c)
}

// bring adds to c what makes ref be body, or be gone when err says that it was
// not there.
func (c *Change) bring(ref Ref, body []byte, err error) error {
	switch {
	case err == nil:
		c.Puts = append(c.Puts, Put{ref, body})
	case errors.Is(err, ErrNotFound):
		c.Deletes = append(c.Deletes, ref)
	default:
		return err
	}
	return nil
}

// expectPresent makes c expect the present revisions and leaves out the
// deletion of what is not there.
func (r *Reader) expectPresent(ctx context.Context, c Change) (Change, error) {
	c.Expect = map[Ref]int64{}
	var err error
	var deletes []Ref
	c.refs(func(ref Ref) {
		if err != nil {
			return
		}
		now, e := r.Get(ctx, ref)
		if e != nil && !errors.Is(e, ErrNotFound) {
			err = e
		}
		c.Expect[ref] = int64(now.Revision)
	})
	for _, ref := range c.Deletes {
		if c.Expect[ref] != Absent {
			deletes = append(deletes, ref)
		}
	}
	c.Deletes = deletes
	return c, err
}
