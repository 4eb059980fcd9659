package invoicing

import (
	"context"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Version is a plan with its prices. It may be replaced until a subscription
// has used it, and never after.
type Version struct {
	billing.Plan
	control.Meta
	// Used says that a subscription has, or had, this version.
	Used bool `json:"used,omitempty"`
	// Warnings are faults that do not keep it from being used.
	Warnings gatehouse.Faults `json:"warnings,omitempty"`
}

// versionRef sorts by number.
func versionRef(r billing.PlanRef) journal.Ref {
	return journal.Ref{Kind: kindVersion, ID: fmt.Sprintf("%s/%06d", r.ID, r.Version)}
}

const maxVersion = 999_999

// AddVersion stores the next version of a plan, or the one that doc names if it
// is the next.
func (a *Accounts) AddVersion(ctx context.Context, id gatehouse.PlanID, doc billing.Plan, m control.Mutation) (Version, error) {
	v, meta, err := commit[Version](ctx, a, m, event{kind: "price-version.create", main: kindVersion}, func(c *change) error {
		if err := a.Plan(ctx, id); err != nil {
			return err
		}
		have, err := a.Versions(ctx, id)
		if err != nil {
			return err
		}
		next := doc
		next.Version = 1
		if n := len(have); n > 0 {
			next.Version = have[n-1].Version + 1
		}
		if doc.Version != 0 && doc.Version != next.Version {
			return fault("/version", fmt.Sprintf("the next version is %d", next.Version), "leave it out")
		}
		return c.setVersion(ctx, id, &next, false)
	})
	return v.known(meta), err
}

// ReplaceVersion puts other prices in place of a version that nothing has used.
func (a *Accounts) ReplaceVersion(ctx context.Context, ref billing.PlanRef, doc billing.Plan, m control.Mutation) (Version, error) {
	v, meta, err := commit[Version](ctx, a, m, event{kind: "price-version.replace", main: kindVersion}, func(c *change) error {
		var now Version
		if err := c.must(ctx, versionRef(ref), &now); err != nil {
			return err
		}
		if err := c.match(&m, versionRef(ref)); err != nil {
			return err
		}
		if now.Used {
			return conflict("version %d of plan %s is in use and does not change: add another version", ref.Version, ref.ID)
		}
		next := doc
		if next.Version == 0 {
			next.Version = ref.Version
		}
		if next.Version != ref.Version {
			return fault("/version", fmt.Sprintf("is not %d", ref.Version), "leave it out")
		}
		return c.setVersion(ctx, ref.ID, &next, true)
	})
	return v.known(meta), err
}

func (c *change) setVersion(ctx context.Context, id gatehouse.PlanID, doc *billing.Plan, exists bool) error {
	if doc.ID == "" {
		doc.ID = id
	}
	if doc.ID != id {
		return fault("/id", fmt.Sprintf("is not %s", id), "leave it out")
	}
	if doc.Version > maxVersion {
		return conflict("plan %s has too many versions", id)
	}
	faults := doc.Validate()
	if len(faults.Errors()) == 0 {
		faults = append(faults, doc.Billable()...)
	}
	if err := invalid(faults); err != nil {
		return err
	}
	faults = append(faults, c.a.unmetered(ctx, doc)...)
	ref := versionRef(doc.Ref())
	if !exists {
		c.expect[ref] = journal.Absent
	}
	c.put(ref, Version{Plan: *doc, Warnings: faults})
	return nil
}

// Version returns one version of a plan; 0 is the newest.
func (a *Accounts) Version(ctx context.Context, ref billing.PlanRef) (Version, error) {
	if ref.Version == 0 {
		all, err := a.Versions(ctx, ref.ID)
		if err != nil {
			return Version{}, err
		}
		if len(all) == 0 {
			return Version{}, notFound(kindVersion, string(ref.ID))
		}
		return all[len(all)-1], nil
	}
	v, meta, err := get[Version](ctx, a, versionRef(ref))
	return v.known(meta), err
}

// Versions returns the versions of a plan, oldest first.
func (a *Accounts) Versions(ctx context.Context, id gatehouse.PlanID) ([]Version, error) {
	return list[Version](ctx, a, kindVersion, "", journal.Field{Name: "plan", Value: string(id)})
}

func (v Version) known(m control.Meta) Version {
	v.Meta = m
	return v
}

// book reads versions and notes that they are used where use is set.
func (c *change) book(ctx context.Context, s *billing.Subscription, use bool) (billing.Book, error) {
	b := billing.Book{}
	refs := []billing.PlanRef{s.Plan}
	for _, change := range s.Changes {
		refs = append(refs, change.Plan)
	}
	for _, ref := range refs {
		if b[ref] != nil {
			continue
		}
		var v Version
		found, err := c.read(ctx, versionRef(ref), &v)
		if err != nil {
			return nil, err
		}
		if !found {
			delete(c.expect, versionRef(ref)) // billing names the fault
			continue
		}
		b[ref] = &v.Plan
		if use && !v.Used {
			v.Used = true
			c.put(versionRef(ref), v)
		}
		if v.Used && !use {
			delete(c.expect, versionRef(ref)) // it does not change any more
		}
	}
	return b, nil
}
