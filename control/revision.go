package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Event is an entry of the audit trail.
type Event struct {
	// Revision is its number, Actor who did it, and At when.
	Revision uint64    `json:"revision"`
	At       time.Time `json:"at"`
	Actor    string    `json:"actor"`
	// Kind is what was done: tenant.create, key.revoke.
	Kind string `json:"kind"`
	// Tenant is whose trail it is; empty for the platform's. Subject is what it
	// was done to, Why the reason that was given.
	Tenant  string `json:"tenant,omitempty"`
	Subject string `json:"subject,omitempty"`
	Why     string `json:"why,omitempty"`
	// Changes are what was changed of each resource.
	Changes []ResourceChange `json:"changes,omitempty"`
	// Hash is that of the event and all before it.
	Hash string `json:"hash"`
	// Prev is the hash of the event before.
	Prev string `json:"prev"`
}

// ResourceChange is what an event did to one resource.
type ResourceChange struct {
	// Kind and ID name the resource, Tenant says whose it is; empty for the
	// platform's.
	Kind   string `json:"kind"`
	Tenant string `json:"tenant,omitempty"`
	ID     string `json:"id"`
	// Before is the revision that was replaced; 0: there was none.
	Before uint64 `json:"before,omitempty"`
	// Deleted says that it is gone since.
	Deleted bool `json:"deleted,omitempty"`
	// Parts are those that differ from before, where asked for.
	Parts []Difference `json:"parts,omitempty"`
}

// EventFilter selects events; see journal.Filter.
type EventFilter = journal.Filter

// Events returns events, newest first, at most limit.
func (p *Plane) Events(ctx context.Context, f EventFilter, limit int) ([]Event, error) {
	found, err := p.journal.Newest(ctx, f, limit)
	if err != nil {
		return nil, coded(err)
	}
	out := make([]Event, len(found))
	for i := range found {
		out[i] = showEvent(&found[i])
	}
	return out, nil
}

// Trail yields what was done to a tenant, oldest first, up to an error.
func (p *Plane) Trail(ctx context.Context, tenant gatehouse.TenantID) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for after := uint64(0); ; {
			found, err := p.journal.Events(ctx, journal.Filter{Tenant: string(tenant), After: after}, 0)
			if err != nil {
				yield(Event{}, coded(err))
				return
			}
			for i := range found {
				if after = found[i].Seq; !yield(showEvent(&found[i]), nil) {
					return
				}
			}
			if len(found) == 0 {
				return
			}
		}
	}
}

func showEvent(e *journal.Event) Event {
	v := Event{
		Revision: e.Seq, At: e.At, Actor: e.Actor, Kind: e.Kind, Tenant: e.Tenant, Subject: e.Subject, Why: e.Why,
		Hash: e.Hash.String(), Prev: e.Prev.String(),
	}
	for _, d := range e.Edits {
		v.Changes = append(v.Changes, ResourceChange{Kind: d.Kind, Tenant: d.Tenant, ID: d.ID, Before: d.Before, Deleted: d.After == nil})
	}
	return v
}

// Event returns one event with the parts that it changed.
func (p *Plane) Event(ctx context.Context, revision uint64) (Event, error) {
	e, err := p.journal.Event(ctx, revision)
	if errors.Is(err, journal.ErrNotFound) {
		return Event{}, notFound("revision")
	}
	if err != nil {
		return Event{}, coded(err)
	}
	v := showEvent(&e)
	for i, d := range e.Edits {
		var before json.RawMessage
		if d.Before > 0 {
			old, err := p.journal.AsOf(ctx, d.Ref, d.Before)
			if err != nil {
				return v, coded(err)
			}
			before = old.Body
		}
		if v.Changes[i].Parts, err = p.parts(d.Kind, before, d.After); err != nil {
			return v, err
		}
	}
	return v, nil
}

// parts are the differences between two stored forms of a resource, nil being
// none, as they may be shown.
func (p *Plane) parts(kind string, before, after json.RawMessage) ([]Difference, error) {
	a, err := shown(kind, before)
	if err != nil {
		return nil, err
	}
	b, err := shown(kind, after)
	if err != nil {
		return nil, err
	}
	return Diff(a, b)
}

// shown is what may be seen of a stored body: files without their contents,
// tokens without their hash.
func shown(kind string, body json.RawMessage) (any, error) {
	if body == nil {
		return nil, nil //nolint:nilnil // nothing is shown as null
	}
	switch kind {
	case kindTenant:
		var r tenantRecord
		if err := json.Unmarshal(body, &r); err != nil {
			return nil, err
		}
		v := struct {
			gatehouse.Tenant
			Files    map[string]File `json:"files,omitempty"`
			Deletion *Deletion       `json:"deletion,omitempty"`
		}{Tenant: r.Document, Deletion: r.Deletion}
		for _, f := range shownFiles(r.Files) {
			if v.Files == nil {
				v.Files = map[string]File{}
			}
			v.Files[f.Name] = f
		}
		return v, nil
	case kindToken:
		var t NewToken
		return t, json.Unmarshal(body, &t)
	case kindAnswer:
		return struct{}{}, nil
	}
	if !bytes.Contains(body, []byte(`"sealed"`)) {
		return body, nil
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	unsealed(tree)
	return tree, nil
}

// unsealed takes secrets that are stored sealed, as those of webhooks, out of a
// document.
func unsealed(tree any) {
	switch v := tree.(type) {
	case map[string]any:
		delete(v, "sealed")
		for _, inner := range v {
			unsealed(inner)
		}
	case []any:
		for _, inner := range v {
			unsealed(inner)
		}
	}
}

// at reads a resource as it was after an event, which there must have been.
func at[T any](ctx context.Context, p *Plane, ref journal.Ref, revision uint64) (T, error) {
	var v T
	head, err := p.Head(ctx)
	if err != nil {
		return v, err
	}
	if revision > head.Seq {
		return v, notFound(fmt.Sprintf("revision: the newest is %d", head.Seq))
	}
	found, err := p.journal.AsOf(ctx, ref, revision)
	if errors.Is(err, journal.ErrNotFound) {
		return v, notFound(ref.Kind + " at that revision")
	}
	if err != nil {
		return v, coded(err)
	}
	return v, json.Unmarshal(found.Body, &v)
}

// RollBackTenant gives a tenant back the document and files that it had after
// an event. It is a change like any other: what it leads to is checked.
func (p *Plane) RollBackTenant(ctx context.Context, id gatehouse.TenantID, revision uint64, m Mutation) (Tenant, error) {
	old, err := at[tenantRecord](ctx, p, tenantRef(id), revision)
	if err != nil {
		return Tenant{}, err
	}
	files := map[string][]byte{}
	if err := p.attach(&old); err != nil {
		return Tenant{}, err
	}
	for _, a := range old.Document.Attachments() {
		if content := a.Content(); content != nil {
			files[a.Name] = content
		}
	}
	return p.changeTenant(ctx, id, kindRollBack, files, m, func(*tenantRecord, *journal.Change) (tenantRecord, error) {
		return tenantRecord{Document: old.Document}, nil
	})
}

// Compare returns what differs between the state after one event and that after
// another: of every resource, or of one tenant's. It looks at no more than
// a few thousand resources.
func (p *Plane) Compare(ctx context.Context, tenant gatehouse.TenantID, from, to uint64) ([]ResourceChange, error) {
	back := from > to
	low, high := min(from, to), max(from, to)
	head, err := p.Head(ctx)
	if err != nil {
		return nil, err
	}
	if high > head.Seq {
		return nil, notFound("revision")
	}
	type ends struct{ before, after json.RawMessage }
	changed := map[journal.Ref]*ends{}
	var order []journal.Ref
	for n := low; n < high; {
		events, err := p.journal.Events(ctx, journal.Filter{Tenant: string(tenant), After: n, Before: high + 1}, 0)
		if err != nil {
			return nil, coded(err)
		}
		if len(events) == 0 {
			break
		}
		for _, e := range events {
			n = e.Seq
			for _, d := range e.Edits {
				if d.Kind == kindHost || d.Kind == kindAnswer || d.Kind == kindToken && tenant != "" {
					continue
				}
				c := changed[d.Ref]
				if c == nil {
					c = &ends{}
					if d.Before > 0 {
						old, err := p.journal.AsOf(ctx, d.Ref, d.Before)
						if err != nil {
							return nil, coded(err)
						}
						c.before = old.Body
					}
					changed[d.Ref] = c
					order = append(order, d.Ref)
				}
				c.after = d.After
			}
		}
		if len(order) > compared {
			return nil, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "more differs than one answer tells; compare revisions that are nearer"}
		}
	}
	out := []ResourceChange{}
	for _, ref := range order {
		c := changed[ref]
		if back {
			c.before, c.after = c.after, c.before
		}
		parts, err := p.parts(ref.Kind, c.before, c.after)
		if err != nil {
			return nil, err
		}
		if len(parts) > 0 {
			out = append(out, ResourceChange{Kind: ref.Kind, Tenant: ref.Tenant, ID: ref.ID, Deleted: c.after == nil, Parts: parts})
		}
	}
	return out, nil
}

// compared bounds the resources of Compare.
const compared = 5000

// Verify checks the whole chain of the journal.
func (p *Plane) Verify(ctx context.Context) (journal.Report, error) {
	r, err := p.journal.Verify(ctx)
	return r, coded(err)
}

// Export writes the events after a revision, one a line.
func (p *Plane) Export(ctx context.Context, w io.Writer, after uint64) error {
	_, err := p.journal.Export(ctx, w, after)
	return coded(err)
}

// Head returns the last event's place.
func (p *Plane) Head(ctx context.Context) (journal.Checkpoint, error) {
	c, err := p.journal.Head(ctx)
	return c, coded(err)
}
