package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Event is an entry of the audit trail.
type Event struct {
	Revision uint64    `json:"revision"`
	At       time.Time `json:"at"`
	Actor    string    `json:"actor"`
	// Kind is what was done: tenant.create, key.revoke.
	Kind string `json:"kind"`
	// Tenant is whose trail it is; empty for the platform's. Subject is what
	// it was done to.
	Tenant  string `json:"tenant,omitempty"`
	Subject string `json:"subject,omitempty"`
	Why     string `json:"why,omitempty"`
	// Changes are what was changed of each resource.
	Changes []ResourceChange `json:"changes,omitempty"`
	Hash    string           `json:"hash"`
	// Prev is the hash of the event before.
	Prev string `json:"prev"`
}

// ResourceChange is what an event did to one resource.
type ResourceChange struct {
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
		before, after := json.RawMessage("null"), d.After
		if d.Before > 0 {
			old, err := p.journal.AsOf(ctx, d.Ref, d.Before)
			if err != nil {
				return v, coded(err)
			}
			before = old.Body
		}
		if after == nil {
			after = json.RawMessage("null")
		}
		if v.Changes[i].Parts, err = Diff(before, after); err != nil {
			return v, err
		}
	}
	return v, nil
}

// RollBackTenant gives a tenant back the document and files that it had after
// an event. It is a change like any other: what it leads to is checked.
func (p *Plane) RollBackTenant(ctx context.Context, id gatehouse.TenantID, revision uint64, m Mutation) (Tenant, error) {
	found, err := p.journal.AsOf(ctx, tenantRef(id), revision)
	if errors.Is(err, journal.ErrNotFound) {
		return Tenant{}, notFound("tenant at that revision")
	}
	if err != nil {
		return Tenant{}, coded(err)
	}
	var old tenantRecord
	if err := json.Unmarshal(found.Body, &old); err != nil {
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
	return p.changeTenant(ctx, id, "tenant.rollback", files, m, func(now *tenantRecord) (tenantRecord, error) {
		if now.Deletion != nil {
			return tenantRecord{}, errDeleted
		}
		return tenantRecord{Document: old.Document}, nil
	})
}

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
