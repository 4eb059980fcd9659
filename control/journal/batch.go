package journal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// replayWindow is how long idempotency keys are kept, in µs.
const replayWindow = int64(24 * time.Hour / time.Microsecond)

// batch is what one writing transaction does: it is loaded with what its
// changes concern, they are added one after the other, each seeing what those
// before it did, and the whole is saved.
type batch struct {
	index Index

	seq, at int64 // of the last event
	hash    Hash

	before  map[Ref]*row // what the store holds; nil where there is nothing
	now     map[Ref]*row
	replays map[replayID]replay

	records []record
	touched []touch
	keys    []replayID // of replays, those that are new
}

type row struct {
	revision         uint64
	created, updated int64 // µs
	body             []byte
}

type touch struct {
	Ref
	seq int64
}

type replayID struct{ actor, key string }

type replay struct {
	request string
	seq, at int64
}

func newBatch(x Index) *batch {
	return &batch{index: x, before: map[Ref]*row{}, now: map[Ref]*row{}, replays: map[replayID]replay{}}
}

// want names what c needs loaded.
func (b *batch) want(c *Change) {
	c.refs(func(r Ref) { b.before[r] = nil })
	if c.Idempotency.Key != "" {
		b.replays[replayID{c.Actor, c.Idempotency.Key}] = replay{}
	}
}

// loaded is called when before and replays are as the store has them. index
// is the definition that the store's fields are built by: a process of another
// release may have changed it since this one opened the journal.
func (b *batch) loaded(index string) error {
	maps.Copy(b.now, b.before)
	if index == b.index.definition() {
		return nil
	}
	b.index = nil
	return b.index.read(index)
}

// add decides c and, when it is taken, makes it the next event. With
// ErrReplayed only the event's Seq is set.
func (b *batch) add(c *Change, clock time.Time) (Event, error) {
	at := max(clock.UnixMicro(), b.at)
	if key := c.Idempotency; key.Key != "" {
		switch r := b.replays[replayID{c.Actor, key.Key}]; {
		case r.seq == 0 || r.at <= at-replayWindow:
		case r.request != key.Request:
			return Event{}, ErrMismatch
		default:
			return Event{Seq: uint64(r.seq)}, ErrReplayed
		}
	}
	if c.Refusal != nil {
		return Event{}, c.Refusal
	}
	if err := b.allow(c); err != nil {
		return Event{}, err
	}
	e := Event{
		Seq: uint64(b.seq) + 1, At: micros(at), Actor: c.Actor, Kind: c.Kind, Tenant: c.Tenant, Subject: c.Subject,
		Why: c.Why, Idempotency: c.Idempotency, Edits: make([]Edit, 0, len(c.Puts)+len(c.Deletes)), Prev: b.hash,
	}
	for _, p := range c.Puts {
		d := Edit{Ref: p.Ref, Created: e.At, After: p.Body}
		if old := b.now[p.Ref]; old != nil {
			d.Before, d.Created = old.revision, micros(old.created)
		}
		e.Edits = append(e.Edits, d)
	}
	for _, r := range c.Deletes {
		old := b.now[r]
		e.Edits = append(e.Edits, Edit{Ref: r, Before: old.revision, Created: micros(old.created)})
	}
	e.Body = appendBody(nil, e.Why, e.Idempotency, e.Edits)
	rec := record{
		seq: int64(e.Seq), at: at, actor: e.Actor, kind: e.Kind, tenant: e.Tenant, subject: e.Subject,
		body: e.Body, prev: e.Prev[:],
	}
	e.Hash = rec.sum(rec.seq)
	rec.hash = e.Hash[:]
	b.records = append(b.records, rec)
	b.fold(&e)
	return e, nil
}

// allow holds c against the resources as they are.
func (b *batch) allow(c *Change) error {
	byName := func(a, b Ref) int { return strings.Compare(a.String(), b.String()) }
	for _, r := range slices.SortedFunc(maps.Keys(c.Expect), byName) { // in order, so that one mistake is one error
		old, want := b.now[r], c.Expect[r]
		switch {
		case want == Any:
		case want == Absent && old != nil:
			return &ExistsError{r, old.revision}
		case want != Absent && old == nil:
			return &NotFoundError{r}
		case want != Absent && uint64(want) != old.revision:
			return &StaleError{r, want, old.revision}
		}
	}
	for _, r := range c.Deletes {
		if b.now[r] == nil {
			return &NotFoundError{r}
		}
	}
	return nil
}

// fold makes e, which follows the last event, part of the state.
func (b *batch) fold(e *Event) {
	b.seq, b.at, b.hash = int64(e.Seq), e.At.UnixMicro(), e.Hash
	for i := range e.Edits {
		d := &e.Edits[i]
		b.touched = append(b.touched, touch{d.Ref, b.seq})
		b.now[d.Ref] = nil
		if d.After != nil {
			b.now[d.Ref] = &row{e.Seq, d.Created.UnixMicro(), b.at, d.After}
		}
	}
	if e.Idempotency.Key != "" {
		id := replayID{e.Actor, e.Idempotency.Key}
		b.replays[id] = replay{e.Idempotency.Request, b.seq, b.at}
		b.keys = append(b.keys, id)
	}
}

// check refuses an event from elsewhere that cannot follow the last one.
func (b *batch) check(e *Event) error {
	for i := range e.Edits {
		d := &e.Edits[i]
		var revision uint64
		if old := b.now[d.Ref]; old != nil {
			revision = old.revision
		}
		if revision != d.Before {
			return fmt.Errorf("event %d replaces revision %d of %s, which is at %d", e.Seq, d.Before, d.Ref, revision)
		}
	}
	return nil
}

// state calls put and remove for each resource that is not what it was.
func (b *batch) state(put func(Ref, *row), remove func(Ref)) {
	for r, now := range b.now {
		switch old := b.before[r]; {
		case now != nil && now != old:
			put(r, now)
		case now == nil && old != nil:
			remove(r)
		}
	}
}

// fieldChanges calls put and remove for each indexed value that is new or gone.
func (b *batch) fieldChanges(put, remove func(Ref, Field)) {
	for r, now := range b.now {
		old := b.before[r]
		if now == old || len(b.index[r.Kind]) == 0 {
			continue
		}
		var was, is []Field
		if old != nil {
			was = b.index.fields(r.Kind, old.body)
		}
		if now != nil {
			is = b.index.fields(r.Kind, now.body)
		}
		for _, f := range was {
			if !slices.Contains(is, f) {
				remove(r, f)
			}
		}
		for _, f := range is {
			if !slices.Contains(was, f) {
				put(r, f)
			}
		}
	}
}
