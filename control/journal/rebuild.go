package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
)

// foldSize is how many events are folded at a time.
const foldSize = 500

// Rebuild makes the tables the fold of the events again, in one transaction;
// writers wait meanwhile and readers see the tables as they were until it is
// done. It refuses a chain that does not verify.
func (j *Journal) Rebuild(ctx context.Context) error {
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	t, err := j.store.begin(ctx)
	if err != nil {
		return j.named(err)
	}
	defer t.end()
	head := newBatch(j.index)
	if err := t.load(ctx, head); err != nil {
		return err
	}
	for _, table := range []string{"resources", "touched", "fields", "replays"} {
		if err := t.exec(ctx, "DELETE FROM "+table); err != nil {
			return j.named(err)
		}
	}
	end := newBatch(j.index) // where the fold has come to
	var events []Event
	fold := func() error {
		b, err := loadFor(ctx, t, j.index, events)
		if err != nil {
			return j.named(err)
		}
		for i := range events {
			if err := b.check(&events[i]); err != nil {
				return err
			}
			b.fold(&events[i])
		}
		events = events[:0]
		return j.named(t.save(ctx, b))
	}
	r := Reader{t, j.index}
	err = r.chain(ctx, 0, func(rec *record) error {
		e, err := end.follow(rec)
		if err != nil {
			return err
		}
		end.seq, end.at, end.hash = rec.seq, rec.at, e.Hash
		if events = append(events, e); len(events) >= foldSize {
			return fold()
		}
		return nil
	})
	if err == nil && len(events) > 0 {
		err = fold()
	}
	if err == nil && (end.seq != head.seq || end.hash != head.hash) {
		err = fmt.Errorf("the events end at %d, the journal at %d", end.seq, head.seq)
	}
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	return j.commit(ctx, t)
}

// loadFor returns a batch that has loaded what the events concern.
func loadFor(ctx context.Context, t tx, x Index, events []Event) (*batch, error) {
	b := newBatch(x)
	for i := range events {
		for _, d := range events[i].Edits {
			b.before[d.Ref] = nil
		}
	}
	return b, t.load(ctx, b)
}

// follow decodes a record when it is the event after b's last.
func (b *batch) follow(r *record) (Event, error) {
	sum := r.sum(r.seq)
	if r.seq != b.seq+1 || !bytes.Equal(r.prev, b.hash[:]) || !bytes.Equal(r.hash, sum[:]) || r.at < b.at {
		return Event{}, fmt.Errorf("event %d does not follow event %d", r.seq, b.seq)
	}
	return r.event()
}

// reindex builds the fields anew when the index is not the one they were
// built by.
func (j *Journal) reindex(ctx context.Context) error {
	same, err := j.indexed(ctx, j.q)
	if err != nil || same {
		return err
	}
	t, err := j.store.begin(ctx)
	if err != nil {
		return j.named(err)
	}
	defer t.end()
	if same, err := j.indexed(ctx, t); err != nil || same { // by another process meanwhile
		return err
	}
	if err := t.exec(ctx, "DELETE FROM fields"); err != nil {
		return j.named(err)
	}
	const width, rows = 5, 100
	var args []any
	flush := func() error {
		if len(args) == 0 {
			return nil
		}
		values := strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?), ", len(args)/width), ", ")
		err := t.exec(ctx, "INSERT INTO fields (kind, name, value, tenant, id) VALUES "+values, args...)
		args = args[:0]
		return j.named(err)
	}
	r := Reader{t, j.index}
	for kind := range j.index {
		for v, err := range r.All(ctx, kind) {
			if err != nil {
				return err
			}
			for _, f := range j.index.fields(kind, v.Body) {
				if args = append(args, kind, f.Name, f.Value, v.Tenant, v.ID); len(args) == rows*width {
					if err := flush(); err != nil {
						return err
					}
				}
			}
		}
	}
	err = errors.Join(flush(), t.exec(ctx, "DELETE FROM settings WHERE name = 'index'"),
		t.exec(ctx, "INSERT INTO settings (name, value) VALUES ('index', ?)", j.index.definition()))
	if err != nil {
		return j.named(err)
	}
	return j.commit(ctx, t)
}

func (j *Journal) indexed(ctx context.Context, q querier) (bool, error) {
	stored, err := storedIndex(ctx, q)
	return stored.definition() == j.index.definition(), err
}
