package control

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Kinds of events that mean more than their edits.
const (
	kindRestore = "tenant.restore"
	kindPurge   = "tenant.purge"
	// kindRollBack and kindRollBackPlan bring back what was stored before, which
	// later bounds do not refuse.
	kindRollBack     = "tenant.rollback"
	kindRollBackPlan = "plan.rollback"
)

// DeleteTenant takes a tenant out of service at once; after Grace it is purged
// with its keys and policies. Until then RestoreTenant brings it back. What it
// subscribes to ends with its running period. A document that would be refused by now is no hindrance.
func (p *Plane) DeleteTenant(ctx context.Context, id gatehouse.TenantID, m Mutation) (Tenant, error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return tenantIn(&e, err)
	}
	for attempt := 1; ; attempt++ {
		var r tenantRecord
		found, err := read(ctx, &p.journal.Reader, tenantRef(id), &r)
		if err != nil {
			return Tenant{}, err
		}
		if err := m.matches(&found); err != nil {
			return Tenant{}, err
		}
		if r.Deletion != nil {
			return Tenant{}, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the tenant is deleted already"}
		}
		at := p.now().UTC().Truncate(time.Second)
		r.Deletion = &Deletion{At: at, Purge: at.Add(p.grace)}
		c := journal.Change{
			Kind: "tenant.delete", Tenant: string(id), Subject: string(id),
			Expect: map[journal.Ref]int64{tenantRef(id): int64(found.Revision)}, Puts: []journal.Put{r.stored()},
		}
		if err := p.books.Leave(ctx, &c, id, *r.Deletion); err != nil {
			return Tenant{}, err
		}
		d, err := p.commit(ctx, m, c)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && attempt < attempts {
			continue
		}
		if d.preview != nil {
			return r.show(Meta{Preview: d.preview}, nil), err
		}
		return tenantIn(&d.event, err)
	}
}

// RestoreTenant takes a deletion back.
func (p *Plane) RestoreTenant(ctx context.Context, id gatehouse.TenantID, m Mutation) (Tenant, error) {
	return p.changeTenant(ctx, id, kindRestore, nil, m, func(now *tenantRecord, c *journal.Change) (tenantRecord, error) {
		if now.Deletion == nil {
			return tenantRecord{}, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the tenant is not deleted"}
		}
		next := *now
		next.Deletion = nil
		return next, p.books.Return(ctx, c, id)
	})
}

// PurgeTenant removes a deleted tenant with everything that is its own, before
// its time where early is true. It is refused while something of the tenant is
// not billed yet; its invoices stay. It answers what was removed, without files.
func (p *Plane) PurgeTenant(ctx context.Context, id gatehouse.TenantID, early bool, m Mutation) (Tenant, error) {
	if _, ok, err := p.replayed(ctx, m); ok || err != nil {
		return Tenant{Tenant: gatehouse.Tenant{ID: id}}, err
	}
	var r tenantRecord
	found, err := read(ctx, &p.journal.Reader, tenantRef(id), &r)
	if err != nil {
		return Tenant{}, err
	}
	if err := m.matches(&found); err != nil {
		return Tenant{}, err
	}
	if r.Deletion == nil || !early && p.now().Before(r.Deletion.Purge) {
		return Tenant{}, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the tenant is not deleted, or its time of grace is not over"}
	}
	tenant := string(id)
	c := journal.Change{Kind: kindPurge, Tenant: tenant, Subject: tenant, Expect: map[journal.Ref]int64{tenantRef(id): int64(found.Revision)}}
	if err := p.books.Close(ctx, &c, id); err != nil {
		return Tenant{}, err
	}
	p.reserve(&c, id, r.Document.Hosts(), nil)
	for _, kind := range []string{kindKey, kindPolicy} {
		for q := (journal.Query{Kind: kind, Tenant: &tenant, Limit: 1000}); ; {
			page, err := p.journal.List(ctx, q)
			if err != nil {
				return Tenant{}, coded(err)
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
	d, err := p.commit(ctx, m, c)
	return r.show(Meta{Preview: d.preview}, nil), err
}

// Run does what is due until ctx ends: it purges tenants whose time of grace is
// over and forgets the answers of old applies. Several control planes on one
// journal may run it: each thing is done once.
func (p *Plane) Run(ctx context.Context) error {
	tick := time.NewTicker(upkeep)
	defer tick.Stop()
	for {
		if err := p.Upkeep(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("upkeep of the journal", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// upkeep is the time between two rounds of Run.
const upkeep = time.Minute

// Upkeep is one round of Run.
func (p *Plane) Upkeep(ctx context.Context) error {
	m := Mutation{Actor: "system:purge", Why: "the time of grace is over"}
	q := journal.Query{Kind: kindTenant, Where: []journal.Field{{Name: "deleted", Value: "true"}}, Limit: 1000}
	for {
		page, err := p.journal.List(ctx, q)
		if err != nil {
			return coded(err)
		}
		for i := range page.Items {
			var r tenantRecord
			if err := json.Unmarshal(page.Items[i].Body, &r); err != nil {
				return err
			}
			if r.Deletion == nil || p.now().Before(r.Deletion.Purge) {
				continue
			}
			revision := page.Items[i].Revision
			m.Match = &revision
			if _, err := p.PurgeTenant(ctx, r.Document.ID, false, m); err != nil && !overtaken(err) {
				return err
			}
		}
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	return p.forgetAnswers(ctx)
}

// overtaken reports that another did it, or something else, first.
func overtaken(err error) bool {
	code := gatehouse.CodeOf(err)
	return code == gatehouse.CodeNotFound || code == gatehouse.CodeStale || code == gatehouse.CodeConflict
}

// answersKept is how long the answer of an apply is kept, as idempotency keys
// are.
const answersKept = 24 * time.Hour

func (p *Plane) forgetAnswers(ctx context.Context) error {
	c := journal.Change{Actor: "system:upkeep", Kind: "answers.forget", Why: "older than a day"}
	for r, err := range p.journal.All(ctx, kindAnswer) {
		if err != nil {
			return coded(err)
		}
		if p.now().Sub(r.Created) > answersKept {
			c.Deletes = append(c.Deletes, r.Ref)
		}
	}
	if len(c.Deletes) == 0 {
		return nil
	}
	_, err := p.journal.Commit(ctx, c)
	if errors.Is(err, journal.ErrNotFound) {
		return nil // another was first
	}
	return coded(err)
}
