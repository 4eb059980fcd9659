package journal

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// Filter selects events. Empty fields select all.
type Filter struct {
	Tenant, Actor, Subject string
	// Kinds are those wanted; one that ends in * means every kind that begins
	// so.
	Kinds []string
	// From is the first time wanted, To the first no longer wanted.
	From, To time.Time
	// After and Before bound the number, both exclusive.
	After, Before uint64
}

const eventColumns = `seq, at, actor, kind, tenant, subject, body, prev_hash, hash`

// records reads rows of eventColumns.
func (r *Reader) records(ctx context.Context, rest string, args ...any) ([]record, error) {
	var out []record
	rows, err := r.q.query(ctx, `SELECT `+eventColumns+` FROM events `+rest, args...)
	err = scan(rows, err, func(rows *sql.Rows) error {
		var v record
		if err := rows.Scan(&v.seq, &v.at, &v.actor, &v.kind, &v.tenant, &v.subject, &v.body, &v.prev, &v.hash); err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return out, nil
}

func decode(records []record) ([]Event, error) {
	out := make([]Event, len(records))
	for i := range records {
		var err error
		if out[i], err = records[i].event(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Event returns the event of that number; ErrNotFound.
func (r *Reader) Event(ctx context.Context, seq uint64) (Event, error) {
	found, err := r.records(ctx, `WHERE seq = ?`, int64(seq))
	if err != nil {
		return Event{}, err
	}
	if len(found) == 0 {
		return Event{}, fmt.Errorf("event %d: %w", seq, ErrNotFound)
	}
	return found[0].event()
}

// Events returns the first limit (at most 1,000) events that f selects, oldest
// first. The next page is After the last one's number.
func (r *Reader) Events(ctx context.Context, f Filter, limit int) ([]Event, error) {
	return r.events(ctx, f, limit, "")
}

// Newest is Events with the newest first. The next page is Before the last
// one's number.
func (r *Reader) Newest(ctx context.Context, f Filter, limit int) ([]Event, error) {
	return r.events(ctx, f, limit, " DESC")
}

func (r *Reader) events(ctx context.Context, f Filter, limit int, direction string) ([]Event, error) {
	where, args := []string{"seq > ?"}, []any{int64(f.After)}
	and := func(condition string, values ...any) {
		where = append(where, condition)
		args = append(args, values...)
	}
	if f.Before > 0 {
		and("seq < ?", int64(f.Before))
	}
	for _, c := range []struct{ column, value string }{{"tenant", f.Tenant}, {"actor", f.Actor}, {"subject", f.Subject}} {
		if c.value != "" {
			and(c.column+" = ?", c.value)
		}
	}
	if len(f.Kinds) > 0 {
		var any []string
		for _, k := range f.Kinds {
			if prefix, all := strings.CutSuffix(k, "*"); all {
				any = append(any, "kind >= ? AND kind < ?")
				args = append(args, prefix, prefix+"\U0010FFFF")
			} else {
				any = append(any, "kind = ?")
				args = append(args, k)
			}
		}
		where = append(where, "("+strings.Join(any, " OR ")+")")
	}
	// Times follow numbers, which are indexed.
	if !f.From.IsZero() {
		first, err := r.SeqAt(ctx, f.From.Add(-time.Microsecond))
		if err != nil {
			return nil, err
		}
		and("seq > ?", int64(first))
	}
	if !f.To.IsZero() {
		last, err := r.SeqAt(ctx, f.To.Add(-time.Microsecond))
		if err != nil {
			return nil, err
		}
		and("seq <= ?", int64(last))
	}
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	found, err := r.records(ctx, `WHERE `+strings.Join(where, " AND ")+` ORDER BY seq`+direction+` LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, err
	}
	return decode(found)
}

// chain calls f with each record after a number, in order.
func (r *Reader) chain(ctx context.Context, after int64, f func(*record) error) error {
	for {
		page, err := r.records(ctx, `WHERE seq > ? ORDER BY seq LIMIT ?`, after, pageSize)
		if err != nil {
			return err
		}
		for i := range page {
			if err := f(&page[i]); err != nil {
				return err
			}
			after = page[i].seq
		}
		if len(page) < pageSize {
			return nil
		}
	}
}

// poll is how often a watch looks by itself: another process may have written
// to the SQLite file, or a notification may be lost with its connection.
const poll = time.Second

// Watch yields the events after a number, in order and without gaps, for ever:
// it waits for those to come and ends, with an error, when ctx does, the
// journal is closed or a read fails; after the last event's number it can be
// taken up again. Events of this process arrive when they are durable, those of
// others on one PostgreSQL by its notification, others within a second.
func (j *Journal) Watch(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		tick := time.NewTicker(poll)
		defer tick.Stop()
		for {
			j.mu.Lock()
			news, closed := j.news, j.closed // before the look: what comes after it closes news
			j.mu.Unlock()
			if closed {
				yield(Event{}, errClosed)
				return
			}
			found, err := j.Events(ctx, Filter{After: after}, 256)
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, e := range found {
				after = e.Seq
				if !yield(e, nil) {
					return
				}
			}
			if len(found) > 0 {
				continue
			}
			select {
			case <-ctx.Done():
				yield(Event{}, ctx.Err())
				return
			case <-news:
			case <-tick.C:
			}
		}
	}
}

// History returns the events that touched a resource, newest first, those
// before a number when that is not 0, at most limit (1,000).
func (r *Reader) History(ctx context.Context, ref Ref, before uint64, limit int) ([]Event, error) {
	if limit <= 0 || limit > 1000 {
		limit = 1000
	}
	if before == 0 {
		before = 1 << 62
	}
	found, err := r.records(ctx, `WHERE seq IN (SELECT seq FROM touched WHERE kind = ? AND tenant = ? AND id = ? AND seq < ?
		ORDER BY seq DESC LIMIT ?) ORDER BY seq DESC`, ref.Kind, ref.Tenant, ref.ID, int64(before), limit)
	if err != nil {
		return nil, err
	}
	return decode(slices.Clip(found))
}
