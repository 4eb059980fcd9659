package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
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

// File is one that a tenant's document names.
type File struct {
	Name string `json:"name"`
	// SHA256 of the content, in hexadecimal; absent for secrets.
	SHA256 string `json:"sha256,omitempty"`
	Secret bool   `json:"secret,omitempty"`
}

// Deletion says when a tenant was deleted and when it will be purged.
type Deletion struct {
	At    time.Time `json:"at"`
	Purge time.Time `json:"purge"`
}

// tenantRecord is the body of a tenant in the journal.
type tenantRecord struct {
	Document gatehouse.Tenant      `json:"document"`
	Files    map[string]fileRecord `json:"files,omitempty"`
	Deletion *Deletion             `json:"deletion,omitempty"`
	// Deleted is for the index.
	Deleted bool `json:"deleted"`
}

// fileRecord is the content of a file: in clear, or sealed.
type fileRecord struct {
	Text   string `json:"text,omitempty"`
	Sealed []byte `json:"sealed,omitempty"`
}

func tenantRef(id gatehouse.TenantID) journal.Ref {
	return journal.Ref{Kind: kindTenant, Tenant: string(id), ID: string(id)}
}

func hostRef(host string) journal.Ref { return journal.Ref{Kind: kindHost, ID: strings.ToLower(host)} }

// show returns the tenant as callers see it.
func (r *tenantRecord) show(meta Meta, warnings gatehouse.Faults) Tenant {
	t := Tenant{Tenant: r.Document, Meta: meta, NotEnforced: r.Document.NotEnforced(), Deletion: r.Deletion, Warnings: warnings}
	for _, name := range slices.Sorted(maps.Keys(r.Files)) {
		f := File{Name: name, Secret: r.Files[name].Sealed != nil}
		if !f.Secret {
			sum := sha256.Sum256([]byte(r.Files[name].Text))
			f.SHA256 = hex.EncodeToString(sum[:])
		}
		t.Files = append(t.Files, f)
	}
	return t
}

// attach fills in the contents of the files that the document names.
func (p *Plane) attach(r *tenantRecord) error {
	for _, a := range r.Document.Attachments() {
		f, ok := r.Files[a.Name]
		switch {
		case !ok:
		case f.Sealed == nil:
			a.Set([]byte(f.Text))
		default:
			secret, err := p.box.open(string(r.Document.ID)+"/"+a.Name, f.Sealed)
			if err != nil {
				return err
			}
			a.Set(secret)
		}
	}
	return nil
}

// keep stores the contents of the files that the document names: those given,
// and for the others those of before. What it does not name is dropped.
func (p *Plane) keep(r *tenantRecord, given map[string][]byte, before map[string]fileRecord) gatehouse.Faults {
	r.Files = nil
	named := map[string]bool{}
	var faults gatehouse.Faults
	for _, a := range r.Document.Attachments() {
		named[a.Name] = true
		f, ok := before[a.Name]
		if content, has := given[a.Name]; has {
			f, ok = fileRecord{Text: string(content)}, true
			if a.Secret() {
				f = fileRecord{Sealed: p.box.seal(string(r.Document.ID)+"/"+a.Name, bytes.TrimSuffix(content, []byte("\n")))}
			}
		}
		if !ok {
			faults = append(faults, gatehouse.Fault{
				Pointer: a.Pointer, Reason: fmt.Sprintf("the content of file %q is missing", a.Name), Hint: "send it under files",
				Warning: strings.HasSuffix(a.Pointer, "/jwks_file"),
			})
			continue
		}
		if a.Secret() != (f.Sealed != nil) {
			faults = append(faults, gatehouse.Fault{Pointer: a.Pointer, Reason: fmt.Sprintf("file %q is a secret in one place and not in another", a.Name)})
			continue
		}
		if r.Files == nil {
			r.Files = map[string]fileRecord{}
		}
		r.Files[a.Name] = f
	}
	for name := range given {
		if !named[name] {
			faults = append(faults, gatehouse.Fault{Pointer: gatehouse.Pointer("files", name), Reason: "the document names no such file"})
		}
	}
	return faults
}

// examine returns every fault that a data plane would find, and the revision
// of the plan, 0 for none.
func (p *Plane) examine(ctx context.Context, r *tenantRecord) (faults gatehouse.Faults, plan uint64, err error) {
	doc := r.Document
	faults = doc.Validate()
	if len(faults.Errors()) > 0 {
		return faults, 0, nil
	}
	if doc.Plan != "" {
		found, err := p.journal.Get(ctx, planRef(doc.Plan))
		if errors.Is(err, journal.ErrNotFound) {
			return append(faults, gatehouse.Fault{Pointer: "/plan", Reason: fmt.Sprintf("plan %q does not exist", doc.Plan)}), 0, nil
		} else if err != nil {
			return nil, 0, coded(err)
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
	if doc.ID == "" {
		if doc.ID = IDOf(doc.Name); doc.ID == "" {
			return Tenant{}, fault("/id", "id is missing", "give an id, or a name that one can be derived from")
		}
	}
	for attempt := 1; ; attempt++ {
		r := tenantRecord{Document: doc}
		c := journal.Change{Kind: "tenant.create", Tenant: string(doc.ID), Subject: string(doc.ID), Expect: map[journal.Ref]int64{tenantRef(doc.ID): journal.Absent}}
		t, err := p.putTenant(ctx, c, &r, nil, files, m)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && attempt < attempts { // the plan has changed
			continue
		}
		return t, err
	}
}

// putTenant checks r, which follows before, and commits it.
func (p *Plane) putTenant(ctx context.Context, c journal.Change, r, before *tenantRecord, files map[string][]byte, m Mutation) (Tenant, error) {
	var old map[string]fileRecord
	var hosts []string
	if before != nil {
		old, hosts = before.Files, before.Document.Hosts()
	}
	faults := p.keep(r, files, old)
	if len(faults.Errors()) > 0 {
		return Tenant{}, invalid(faults)
	}
	more, plan, err := p.examine(ctx, r)
	if err != nil {
		return Tenant{}, err
	}
	faults = append(faults, more...)
	if err := invalid(faults); err != nil {
		return Tenant{}, err
	}
	if plan != 0 { // nobody removes it meanwhile
		c.Expect[planRef(r.Document.Plan)] = int64(plan)
	}
	p.reserve(&c, r.Document.ID, hosts, r.Document.Hosts())
	c.Puts = append(c.Puts, put(tenantRef(r.Document.ID), r))
	if m.DryRun {
		return r.show(Meta{}, faults), p.possible(ctx, &c)
	}
	e, replayed, err := p.commit(ctx, m, c)
	if err != nil {
		return Tenant{}, err
	}
	if replayed {
		return p.replayedTenant(&e, r.Document.ID)
	}
	stored, _ := e.Resource(tenantRef(r.Document.ID))
	return r.show(metaOf(&stored), faults), nil
}

// replayedTenant is the tenant as the first request left it.
func (p *Plane) replayedTenant(e *journal.Event, id gatehouse.TenantID) (Tenant, error) {
	stored, ok := e.Resource(tenantRef(id))
	if !ok {
		return Tenant{}, notFound("tenant")
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

// possible reports, for a dry run, what would refuse c.
func (p *Plane) possible(ctx context.Context, c *journal.Change) error {
	for ref, want := range c.Expect {
		found, err := p.journal.Get(ctx, ref)
		switch exists := err == nil; {
		case err != nil && !errors.Is(err, journal.ErrNotFound):
			return coded(err)
		case want == journal.Absent && exists:
			return coded(&journal.ExistsError{Ref: ref, Current: found.Revision})
		case want > 0 && uint64(want) != found.Revision:
			return coded(&journal.StaleError{Ref: ref, Expected: want, Current: found.Revision})
		}
	}
	return nil
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

// TenantFilter selects tenants. Empty fields select all.
type TenantFilter struct {
	Plan, Status, Host string
	// Prefix is what the id begins with.
	Prefix string
	// Deleted selects those that wait to be purged, which are else left out.
	Deleted bool
	// Newest sorts by the last change, newest first; else by id.
	Newest bool
	After  string
	// Limit is 100 when 0, at most 1,000.
	Limit int
}

// Tenants returns a page of tenants.
func (p *Plane) Tenants(ctx context.Context, f TenantFilter) (Page[Tenant], error) {
	q := journal.Query{Kind: kindTenant, Prefix: f.Prefix, After: f.After, Limit: f.Limit}
	if f.Newest {
		q.Order = journal.ByNewest
	}
	if f.Host != "" {
		var owner struct{ Tenant gatehouse.TenantID }
		if _, err := read(ctx, &p.journal.Reader, hostRef(f.Host), &owner); gatehouse.CodeOf(err) == gatehouse.CodeNotFound {
			return Page[Tenant]{Items: []Tenant{}}, nil
		} else if err != nil {
			return Page[Tenant]{}, err
		}
		id := string(owner.Tenant)
		q.Tenant = &id
	}
	q.Where = append(q.Where, journal.Field{Name: "deleted", Value: fmt.Sprint(f.Deleted)})
	if f.Plan != "" {
		q.Where = append(q.Where, journal.Field{Name: "plan", Value: f.Plan})
	}
	if f.Status != "" && f.Status != string(gatehouse.Active) {
		q.Where = append(q.Where, journal.Field{Name: "status", Value: f.Status})
	}
	found, err := p.journal.List(ctx, q)
	if err != nil {
		return Page[Tenant]{}, coded(err)
	}
	page := Page[Tenant]{Items: make([]Tenant, 0, len(found.Items)), Next: found.Next}
	for i := range found.Items {
		var r tenantRecord
		if err := json.Unmarshal(found.Items[i].Body, &r); err != nil {
			return page, err
		}
		page.Items = append(page.Items, r.show(metaOf(&found.Items[i]), nil))
	}
	return page, nil
}

// attempts bounds how often a change without Match is made anew for a
// revision that has passed.
const attempts = 8

// changeTenant reads a tenant, lets f make its next form, and commits that. A
// change without Match is tried again when another came in between.
func (p *Plane) changeTenant(ctx context.Context, id gatehouse.TenantID, kind string, files map[string][]byte, m Mutation, f func(now *tenantRecord) (tenantRecord, error)) (Tenant, error) {
	for attempt := 1; ; attempt++ {
		var now tenantRecord
		found, err := read(ctx, &p.journal.Reader, tenantRef(id), &now)
		if err != nil {
			return Tenant{}, err
		}
		if err := m.matches(&found); err != nil {
			return Tenant{}, err
		}
		next, err := f(&now)
		if err != nil {
			return Tenant{}, err
		}
		c := journal.Change{Kind: kind, Tenant: string(id), Subject: string(id), Expect: map[journal.Ref]int64{tenantRef(id): int64(found.Revision)}}
		t, err := p.putTenant(ctx, c, &next, &now, files, m)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && m.Match == nil && attempt < attempts {
			continue
		}
		return t, err
	}
}

// ReplaceTenant puts a whole document in place of a tenant's. Files that it
// names and that are not given stay as they are.
func (p *Plane) ReplaceTenant(ctx context.Context, id gatehouse.TenantID, doc gatehouse.Tenant, files map[string][]byte, m Mutation) (Tenant, error) {
	if doc.ID == "" {
		doc.ID = id
	}
	if doc.ID != id {
		return Tenant{}, fault("/id", fmt.Sprintf("id %q is not that of the path", doc.ID), "an id never changes")
	}
	return p.changeTenant(ctx, id, "tenant.replace", files, m, func(now *tenantRecord) (tenantRecord, error) {
		if now.Deletion != nil {
			return tenantRecord{}, errDeleted
		}
		return tenantRecord{Document: doc}, nil
	})
}

var errDeleted = &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the tenant is deleted; restore it first"}

// PatchTenant applies a merge patch (RFC 7396) to a tenant's document.
func (p *Plane) PatchTenant(ctx context.Context, id gatehouse.TenantID, patch json.RawMessage, files map[string][]byte, m Mutation) (Tenant, error) {
	return p.changeTenant(ctx, id, "tenant.patch", files, m, func(now *tenantRecord) (tenantRecord, error) {
		if now.Deletion != nil {
			return tenantRecord{}, errDeleted
		}
		old, err := json.Marshal(now.Document)
		if err != nil {
			return tenantRecord{}, err
		}
		merged, err := mergePatch(old, patch)
		if err != nil {
			return tenantRecord{}, fault("", err.Error(), "a merge patch is a JSON object (RFC 7396)")
		}
		var next tenantRecord
		if err := invalid(configs.DecodeBody(merged, &next.Document)); err != nil {
			return tenantRecord{}, err
		}
		if next.Document.ID != id {
			return tenantRecord{}, fault("/id", "the id of a tenant never changes", "")
		}
		return next, nil
	})
}

// DeleteTenant takes a tenant out of service at once; after Grace it is purged
// with its keys and policies. Until then RestoreTenant brings it back.
func (p *Plane) DeleteTenant(ctx context.Context, id gatehouse.TenantID, m Mutation) (Tenant, error) {
	return p.changeTenant(ctx, id, "tenant.delete", nil, m, func(now *tenantRecord) (tenantRecord, error) {
		if now.Deletion != nil {
			return tenantRecord{}, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the tenant is deleted already"}
		}
		next := *now
		at := p.now().UTC().Truncate(time.Second)
		next.Deletion, next.Deleted = &Deletion{At: at, Purge: at.Add(p.grace)}, true
		return next, nil
	})
}

// kindRestore is the event that takes a deletion back.
const kindRestore = "tenant.restore"

// RestoreTenant takes a deletion back.
func (p *Plane) RestoreTenant(ctx context.Context, id gatehouse.TenantID, m Mutation) (Tenant, error) {
	return p.changeTenant(ctx, id, kindRestore, nil, m, func(now *tenantRecord) (tenantRecord, error) {
		if now.Deletion == nil {
			return tenantRecord{}, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the tenant is not deleted"}
		}
		next := *now
		next.Deletion, next.Deleted = nil, false
		return next, nil
	})
}

// PurgeTenant removes a deleted tenant with everything that is its own, before
// its time where before is true.
func (p *Plane) PurgeTenant(ctx context.Context, id gatehouse.TenantID, before bool, m Mutation) error {
	var r tenantRecord
	found, err := read(ctx, &p.journal.Reader, tenantRef(id), &r)
	if err != nil {
		return err
	}
	if err := m.matches(&found); err != nil {
		return err
	}
	if r.Deletion == nil || !before && p.now().Before(r.Deletion.Purge) {
		return &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the tenant is not deleted, or its time of grace is not over"}
	}
	tenant := string(id)
	c := journal.Change{Kind: "tenant.purge", Tenant: tenant, Subject: tenant, Expect: map[journal.Ref]int64{tenantRef(id): int64(found.Revision)}}
	p.reserve(&c, id, r.Document.Hosts(), nil)
	for _, kind := range []string{kindKey, kindPolicy} {
		for q := (journal.Query{Kind: kind, Tenant: &tenant, Limit: 1000}); ; {
			page, err := p.journal.List(ctx, q)
			if err != nil {
				return coded(err)
			}
			for i := range page.Items {
				c.Deletes = append(c.Deletes, page.Items[i].Ref)
			}
			if q.After = page.Next; q.After == "" {
				break
			}
		}
	}
	c.Deletes = append(c.Deletes, tenantRef(id))
	if m.DryRun {
		return nil
	}
	_, _, err = p.commit(ctx, m, c)
	return err
}
