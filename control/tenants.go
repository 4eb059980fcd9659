package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

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
	q := journal.Query{Kind: kindTenant, TenantPrefix: f.Prefix, After: f.After, Limit: f.Limit}
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
	if f.Status != "" {
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

// Selects reports whether a tenant is one of those.
func (f *TenantFilter) Selects(t *Tenant) bool {
	status := t.Status
	if status == "" {
		status = gatehouse.Active
	}
	host := f.Host == "" || slices.ContainsFunc(t.Hosts(), func(h string) bool { return strings.EqualFold(h, f.Host) })
	return host && (f.Plan == "" || f.Plan == string(t.Plan)) && (f.Status == "" || f.Status == string(status)) &&
		strings.HasPrefix(string(t.ID), f.Prefix) && f.Deleted == (t.Deletion != nil)
}
