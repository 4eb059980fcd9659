package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Tenant is a stored tenant as it is shown: its document, and what is known of
// it beside. Contents of files are not shown.
type Tenant struct {
	gatehouse.Tenant
	Meta
	// Files are those that the document names and that are stored with it.
	Files []File `json:"files,omitempty"`
	// NotEnforced are pointers of settings that are kept, but that nothing
	// acts on yet.
	NotEnforced []string `json:"not_enforced,omitempty"`
	// Deletion is set while the tenant waits to be purged; it is not served.
	Deletion *Deletion `json:"deletion,omitempty"`
	// Warnings are faults that do not keep the document from being used.
	Warnings gatehouse.Faults `json:"warnings,omitempty"`
}

// Deletion says when a tenant was deleted and when it will be purged.
type Deletion struct {
	// At is when it was deleted, Purge when it is gone for good.
	At    time.Time `json:"at"`
	Purge time.Time `json:"purge"`
}

// tenantRecord is the body of a tenant in the journal.
type tenantRecord struct {
	Document gatehouse.Tenant      `json:"document"`
	Files    map[string]fileRecord `json:"files,omitempty"`
	Deletion *Deletion             `json:"deletion,omitempty"`
	// State and Deleted are for the index.
	State   gatehouse.Status `json:"state"`
	Deleted bool             `json:"deleted"`
}

// stored is the record as it is written.
func (r *tenantRecord) stored() journal.Put {
	if r.State = r.Document.Status; r.State == "" {
		r.State = gatehouse.Active
	}
	r.Deleted = r.Deletion != nil
	return put(tenantRef(r.Document.ID), r)
}

func tenantRef(id gatehouse.TenantID) journal.Ref {
	return journal.Ref{Kind: kindTenant, Tenant: string(id), ID: string(id)}
}

func hostRef(host string) journal.Ref { return journal.Ref{Kind: kindHost, ID: strings.ToLower(host)} }

// show returns the tenant as callers see it.
func (r *tenantRecord) show(meta Meta, warnings gatehouse.Faults) Tenant {
	t := Tenant{Tenant: r.Document, Meta: meta, NotEnforced: r.Document.NotEnforced(), Deletion: r.Deletion, Files: shownFiles(r.Files)}
	for _, w := range warnings {
		if !slices.Contains(t.NotEnforced, w.Pointer) {
			t.Warnings = append(t.Warnings, w)
		}
	}
	return t
}

// examine returns every fault that a data plane would find, and the revision
// of the plan, 0 for none.
func (p *Plane) examine(ctx context.Context, r *tenantRecord, o *outlook) (faults gatehouse.Faults, plan uint64, err error) {
	doc := r.Document
	faults = doc.Validate()
	if len(faults.Errors()) > 0 {
		return faults, 0, nil
	}
	if doc.Plan != "" && !o.hasPlan(doc.Plan) {
		found, err := p.journal.Get(ctx, planRef(doc.Plan))
		if errors.Is(err, journal.ErrNotFound) {
			return append(faults, gatehouse.Fault{Pointer: "/plan", Reason: fmt.Sprintf("plan %q does not exist", doc.Plan)}), 0, nil
		} else if err != nil {
			return nil, 0, coded(err)
		}
		if retired(&found) {
			return append(faults, gatehouse.Fault{Pointer: "/plan", Reason: fmt.Sprintf("plan %q is being deleted", doc.Plan)}), 0, nil
		}
		plan = found.Revision
	}
	if err := p.attach(r); err != nil {
		return nil, 0, err
	}
	whole := gatehouse.Document{Tenants: []gatehouse.Tenant{r.Document}}
	if doc.Plan != "" {
		whole.Plans = []gatehouse.Plan{{ID: doc.Plan}}
	}
	for _, f := range p.check(&whole) {
		f.Pointer = strings.TrimPrefix(f.Pointer, "/tenants/0")
		faults = append(faults, f)
	}
	return faults, plan, nil
}

// IDOf derives a tenant's id from its name; "" where nothing of it can be used.
func IDOf(name string) gatehouse.TenantID {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-") && (unicode.IsSpace(r) || unicode.IsPunct(r) || r > unicode.MaxASCII):
			b.WriteByte('-')
		}
		if b.Len() == 63 {
			break
		}
	}
	return gatehouse.TenantID(strings.Trim(b.String(), "-"))
}

// CreateTenant stores a tenant with its files. Its id is derived from its name
// when absent.
func (p *Plane) CreateTenant(ctx context.Context, doc gatehouse.Tenant, files map[string][]byte, m Mutation) (Tenant, error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return tenantIn(&e, err)
	}
	if doc.ID == "" {
		if doc.ID = IDOf(doc.Name); doc.ID == "" {
			return Tenant{}, fault("/id", "id is missing", "give an id, or a name that one can be derived from")
		}
	}
	for attempt := 1; ; attempt++ {
		r := tenantRecord{Document: doc}
		c := journal.Change{Kind: "tenant.create", Tenant: string(doc.ID), Subject: string(doc.ID), Expect: map[journal.Ref]int64{tenantRef(doc.ID): journal.Absent}}
		t, err := p.putTenant(ctx, c, &r, nil, nil, files, m)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && attempt < attempts { // the plan has changed
			continue
		}
		return t, err
	}
}

// putTenant checks r, which follows before, and commits it, unless it is what
// is stored.
func (p *Plane) putTenant(ctx context.Context, c journal.Change, r, before *tenantRecord, stored *journal.Resource, files map[string][]byte, m Mutation) (Tenant, error) {
	faults, err := p.prepareRecord(ctx, &c, r, before, files, nil)
	if err != nil {
		return Tenant{}, err
	}
	if before != nil && m.Allow != nil {
		changes, err := Diff(before.Document, r.Document)
		if err == nil {
			err = m.Allow(ctx, changes)
		}
		if err != nil {
			return Tenant{}, err
		}
	}
	if m.needless(&c, stored) {
		return r.show(metaOf(stored), faults), nil
	}
	d, err := p.commit(ctx, m, c)
	if err != nil || d.replayed {
		return tenantIn(&d.event, err)
	}
	meta := Meta{Preview: d.preview}
	if stored, ok := d.event.Resource(tenantRef(r.Document.ID)); ok {
		meta = metaOf(&stored)
	}
	return r.show(meta, faults), nil
}

// prepareRecord adds to c what puts r in place of before, nil for none. It
// returns warnings, or an error for faults.
func (p *Plane) prepareRecord(ctx context.Context, c *journal.Change, r, before *tenantRecord, files map[string][]byte, o *outlook) (gatehouse.Faults, error) {
	var old map[string]fileRecord
	var hosts []string
	if before != nil {
		old, hosts = before.Files, before.Document.Hosts()
	}
	faults := p.keep(r, files, old)
	if err := invalid(faults); err != nil {
		return nil, err
	}
	more, plan, err := p.examine(ctx, r, o)
	if err != nil {
		return nil, err
	}
	faults = append(faults, more...)
	if c.Kind != kindRollBack { // that was stored, if not last
		var stored []gatehouse.BadLabel
		if before != nil {
			stored = before.Document.BadLabels()
		}
		faults = refuseNew(faults, r.Document.BadLabels(), stored)
	}
	if err := invalid(faults); err != nil {
		return nil, err
	}
	if plan != 0 { // nobody removes it meanwhile
		c.Expect[planRef(r.Document.Plan)] = int64(plan)
	}
	if before == nil {
		if err := p.books.Fresh(ctx, c, r.Document.ID); err != nil {
			return nil, err
		}
	}
	p.reserve(c, r.Document.ID, hosts, r.Document.Hosts())
	c.Puts = append(c.Puts, r.stored())
	return faults, nil
}

// tenantIn is the tenant as an event left it; err is passed on.
func tenantIn(e *journal.Event, err error) (Tenant, error) {
	if err != nil {
		return Tenant{}, err
	}
	stored, ok := e.Resource(tenantRef(gatehouse.TenantID(e.Tenant)))
	if !ok {
		return Tenant{}, notFound(kindTenant)
	}
	var r tenantRecord
	if err := json.Unmarshal(stored.Body, &r); err != nil {
		return Tenant{}, err
	}
	return r.show(metaOf(&stored), nil), nil
}

// reserve adds to c what takes new host names and gives back old ones.
func (p *Plane) reserve(c *journal.Change, id gatehouse.TenantID, before, after []string) {
	kept := map[string]bool{}
	for _, h := range before {
		kept[strings.ToLower(h)] = true
	}
	for _, h := range after {
		if h = strings.ToLower(h); kept[h] {
			delete(kept, h)
			continue
		}
		c.Expect[hostRef(h)] = journal.Absent
		c.Puts = append(c.Puts, put(hostRef(h), map[string]any{"tenant": id}))
	}
	for _, h := range slices.Sorted(maps.Keys(kept)) {
		c.Deletes = append(c.Deletes, hostRef(h))
	}
}

// Tenant returns a stored tenant.
func (p *Plane) Tenant(ctx context.Context, id gatehouse.TenantID) (Tenant, error) {
	var r tenantRecord
	found, err := read(ctx, &p.journal.Reader, tenantRef(id), &r)
	if err != nil {
		return Tenant{}, err
	}
	return r.show(metaOf(&found), nil), nil
}

// Undeleted returns an error for a tenant that does not exist, or is deleted.
func (p *Plane) Undeleted(ctx context.Context, id gatehouse.TenantID) error {
	t, err := p.Tenant(ctx, id)
	if err == nil && t.Deletion != nil {
		err = errDeleted
	}
	return err
}

// TenantAt returns a tenant as it was after an event.
func (p *Plane) TenantAt(ctx context.Context, id gatehouse.TenantID, revision uint64) (Tenant, error) {
	found, err := p.journal.AsOf(ctx, tenantRef(id), revision)
	if errors.Is(err, journal.ErrNotFound) {
		return Tenant{}, notFound("tenant at that revision")
	}
	if err != nil {
		return Tenant{}, coded(err)
	}
	var r tenantRecord
	if err := json.Unmarshal(found.Body, &r); err != nil {
		return Tenant{}, err
	}
	return r.show(metaOf(&found), nil), nil
}

// attempts bounds how often a change without Match is made anew for a
// revision that has passed.
const attempts = 16

// step makes a tenant's next form. It may add to the change that puts it.
type step func(now *tenantRecord, c *journal.Change) (tenantRecord, error)

// changeTenant reads a tenant, makes its next form, and commits that. When
// another change came in between it starts anew.
func (p *Plane) changeTenant(ctx context.Context, id gatehouse.TenantID, kind string, files map[string][]byte, m Mutation, next step) (Tenant, error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return tenantIn(&e, err)
	}
	for attempt := 1; ; attempt++ {
		var now tenantRecord
		found, err := read(ctx, &p.journal.Reader, tenantRef(id), &now)
		if err != nil {
			return Tenant{}, err
		}
		if err := m.matches(&found); err != nil {
			return Tenant{}, err
		}
		if now.Deletion != nil && kind != kindRestore {
			return Tenant{}, errDeleted
		}
		c := journal.Change{Kind: kind, Tenant: string(id), Subject: string(id), Expect: map[journal.Ref]int64{tenantRef(id): int64(found.Revision)}}
		r, err := next(&now, &c)
		if err != nil {
			return Tenant{}, err
		}
		t, err := p.putTenant(ctx, c, &r, &now, &found, files, m)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && attempt < attempts {
			continue // of the tenant or its plan; matches tells which
		}
		return t, err
	}
}

var errDeleted = &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the tenant is deleted; restore it first"}

// ReplaceTenant puts a whole document in place of a tenant's. Files that it
// names and that are not given stay as they are.
func (p *Plane) ReplaceTenant(ctx context.Context, id gatehouse.TenantID, doc gatehouse.Tenant, files map[string][]byte, m Mutation) (Tenant, error) {
	if doc.ID == "" {
		doc.ID = id
	}
	if doc.ID != id {
		return Tenant{}, fault("/id", "the id is not that of the path", "an id never changes")
	}
	return p.changeTenant(ctx, id, "tenant.replace", files, m, func(*tenantRecord, *journal.Change) (tenantRecord, error) {
		return tenantRecord{Document: doc}, nil
	})
}

// PatchTenant applies a merge patch (RFC 7396) to a tenant's document.
func (p *Plane) PatchTenant(ctx context.Context, id gatehouse.TenantID, patch json.RawMessage, files map[string][]byte, m Mutation) (Tenant, error) {
	return p.changeTenant(ctx, id, "tenant.patch", files, m, func(now *tenantRecord, _ *journal.Change) (tenantRecord, error) {
		old, err := json.Marshal(now.Document)
		if err != nil {
			return tenantRecord{}, err
		}
		merged, err := mergePatch(old, patch)
		if err != nil {
			return tenantRecord{}, fault("", err.Error(), "a merge patch is a JSON object (RFC 7396)")
		}
		var next tenantRecord
		if err := invalid(Decode(merged, &next.Document)); err != nil {
			return tenantRecord{}, err
		}
		if next.Document.ID != id {
			return tenantRecord{}, fault("/id", "the id of a tenant never changes", "")
		}
		return next, nil
	})
}
