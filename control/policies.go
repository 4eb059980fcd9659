package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// Policy is a pushed set of Rego modules as it is shown: one revision of a
// tenant's policy. It never changes. What is enforced is what stands in the
// tenant's document; Active and Shadow tell whether that is this one.
type Policy struct {
	Pushed
	Meta
	Tenant gatehouse.TenantID `json:"tenant"`
	// Active says that the tenant's document holds these very modules, Shadow
	// that it holds them as its shadow.
	Active bool `json:"active"`
	Shadow bool `json:"shadow"`
	// TenantRevision is that of the tenant's document, in the answer to what
	// changed it.
	TenantRevision uint64 `json:"tenant_revision,omitempty"`
	// Warnings are faults that do not keep the modules from being used; in the
	// answer to the push.
	Warnings gatehouse.Faults `json:"warnings,omitempty"`
}

// Pushed is what is kept of a push.
type Pushed struct {
	// Number counts a tenant's pushes from 1.
	Number int `json:"number"`
	// Digest is the SHA-256 of the modules, in hexadecimal.
	Digest string `json:"digest"`
	// By is who pushed it.
	By string `json:"by"`
	// Modules are compiled together; Tests are run at the push only.
	Modules []gatehouse.Module `json:"modules,omitempty"`
	Tests   []gatehouse.Module `json:"tests,omitempty"`
	// Review is what was found out at the push.
	Review policy.Review `json:"review"`
}

// NewPolicy is what is pushed.
type NewPolicy struct {
	// Modules are the whole set.
	Modules []gatehouse.Module `json:"modules"`
	// Tests are modules in package gatehouse.tenant_test or gatehouse.tenant.
	Tests []gatehouse.Module `json:"tests,omitempty"`
	// Activate enforces the set in the same event.
	Activate bool `json:"activate,omitempty"`
}

func policyRef(tenant gatehouse.TenantID, number int) journal.Ref {
	return journal.Ref{Kind: kindPolicy, Tenant: string(tenant), ID: fmt.Sprintf("%08d", number)}
}

// digest tells sets of modules apart. Their order has no meaning.
func digest(modules []gatehouse.Module) string {
	sorted := slices.SortedFunc(slices.Values(modules), func(a, b gatehouse.Module) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	for _, m := range sorted {
		fmt.Fprintf(h, "%d %s %d %s ", len(m.Name), m.Name, len(m.Source), m.Source)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (r *Pushed) show(owner *gatehouse.Tenant, meta Meta, whole bool) Policy {
	v := Policy{Pushed: *r, Meta: meta, Tenant: owner.ID}
	v.Active = len(owner.Policy.Modules) > 0 && digest(owner.Policy.Modules) == r.Digest
	v.Shadow = len(owner.Policy.Shadow) > 0 && digest(owner.Policy.Shadow) == r.Digest
	if !whole {
		v.Modules, v.Tests, v.Review.Tests.Results = nil, nil, nil
	}
	return v
}

// Review checks modules as a push does, and stores nothing. Faults of the
// modules and tests, and tests that failed, are CodeInvalid.
func (p *Plane) Review(ctx context.Context, in NewPolicy) (policy.Review, gatehouse.Faults, error) {
	select {
	case p.reviews <- struct{}{}:
		defer func() { <-p.reviews }()
	case <-ctx.Done():
		return policy.Review{}, nil, coded(ctx.Err())
	}
	if len(in.Modules) == 0 {
		return policy.Review{}, nil, fault("/modules", "there are no modules", "to have the baseline alone decide, take policy out of the tenant's document")
	}
	if err := invalid(append(moduleNames("/modules", in.Modules), moduleNames("/tests", in.Tests)...)); err != nil {
		return policy.Review{}, nil, err
	}
	review, faults := p.engine.Review(in.Modules, in.Tests)
	if err := invalid(faults); err != nil {
		return review, nil, err
	}
	for _, t := range review.Tests.Results {
		if t.Passed {
			continue
		}
		i := slices.IndexFunc(in.Tests, func(m gatehouse.Module) bool { return m.Name == t.Module })
		faults = append(faults, gatehouse.Fault{
			Pointer: gatehouse.Pointer("tests", max(i, 0), "source"), Line: t.Line, Reason: fmt.Sprintf("%s failed: %s", t.Name, t.Failure),
		})
	}
	return review, faults, invalid(faults)
}

// moduleNames are the faults that the names of modules would have in a
// document.
func moduleNames(at string, modules []gatehouse.Module) gatehouse.Faults {
	probe := gatehouse.Tenant{ID: "t", Policy: gatehouse.Policy{Modules: modules}}
	var faults gatehouse.Faults
	for _, f := range probe.Validate() {
		if strings.HasSuffix(f.Pointer, "/name") {
			f.Pointer = at + strings.TrimPrefix(f.Pointer, "/policy/modules")
			f.Also = ""
			faults = append(faults, f)
		}
	}
	return faults
}

// PushPolicy stores a set of modules as the next revision of a tenant's policy,
// once it compiles and its tests pass.
func (p *Plane) PushPolicy(ctx context.Context, tenant gatehouse.TenantID, in NewPolicy, m Mutation) (Policy, error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return p.policyIn(ctx, &e, err)
	}
	if _, _, err := p.alive(ctx, tenant); err != nil {
		return Policy{}, err
	}
	review, warnings, err := p.Review(ctx, in)
	if err != nil {
		return Policy{}, err
	}
	for attempt := 1; ; attempt++ {
		owner, alive, err := p.alive(ctx, tenant)
		if err != nil {
			return Policy{}, err
		}
		if m.Match != nil && int64(*m.Match) != alive {
			return Policy{}, coded(&journal.StaleError{Ref: tenantRef(tenant), Current: uint64(alive)})
		}
		last, err := p.lastPolicy(ctx, tenant)
		if err != nil {
			return Policy{}, err
		}
		r := Pushed{Number: last + 1, Digest: digest(in.Modules), By: m.Actor, Modules: in.Modules, Tests: in.Tests, Review: review}
		c := journal.Change{
			Kind: "policy.push", Tenant: string(tenant), Subject: strconv.Itoa(r.Number),
			Expect: map[journal.Ref]int64{policyRef(tenant, r.Number): journal.Absent, tenantRef(tenant): alive},
			Puts:   []journal.Put{put(policyRef(tenant, r.Number), r)},
		}
		if in.Activate {
			now := owner
			owner.Document.Policy.Modules = in.Modules
			if _, err := p.prepareRecord(ctx, &c, &owner, &now, nil, nil); err != nil {
				return Policy{}, err
			}
		}
		d, err := p.commit(ctx, m, c)
		if code := gatehouse.CodeOf(err); attempt < attempts && (code == gatehouse.CodeStale || code == gatehouse.CodeConflict) {
			continue // another push, or a change of the tenant
		}
		if err != nil || d.replayed {
			return p.policyIn(ctx, &d.event, err)
		}
		meta := Meta{Preview: d.preview}
		if stored, ok := d.event.Resource(policyRef(tenant, r.Number)); ok {
			meta = metaOf(&stored)
		}
		out := r.show(&owner.Document, meta, true)
		out.Warnings = warnings
		return out, nil
	}
}

// lastPolicy is the number of the newest push, 0 for none.
func (p *Plane) lastPolicy(ctx context.Context, tenant gatehouse.TenantID) (int, error) {
	id := string(tenant)
	page, err := p.journal.List(ctx, journal.Query{Kind: kindPolicy, Tenant: &id, Order: journal.ByNewest, Limit: 1})
	if err != nil || len(page.Items) == 0 {
		return 0, coded(err)
	}
	return strconv.Atoi(page.Items[0].ID)
}

// PushModule pushes the modules in force, or those of the revision base when
// that is not 0, with one module put in or replaced. Where tests is not empty
// it replaces the tests of that name, x_test.rego for x.rego.
func (p *Plane) PushModule(ctx context.Context, tenant gatehouse.TenantID, base int, module gatehouse.Module, tests string, activate bool, m Mutation) (Policy, error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return p.policyIn(ctx, &e, err)
	}
	in, err := p.baseOf(ctx, tenant, base)
	if err != nil {
		return Policy{}, err
	}
	in.Modules = with(in.Modules, module)
	if tests != "" {
		in.Tests = with(in.Tests, gatehouse.Module{Name: strings.TrimSuffix(module.Name, ".rego") + "_test.rego", Source: tests})
	}
	in.Activate = activate
	return p.PushPolicy(ctx, tenant, in, m)
}

// with is modules with one put in or replaced.
func with(modules []gatehouse.Module, one gatehouse.Module) []gatehouse.Module {
	modules = slices.Clone(modules)
	if i := slices.IndexFunc(modules, func(m gatehouse.Module) bool { return m.Name == one.Name }); i >= 0 {
		modules[i] = one
		return modules
	}
	return append(modules, one)
}

// baseOf is the set that one module is pushed into.
func (p *Plane) baseOf(ctx context.Context, tenant gatehouse.TenantID, number int) (NewPolicy, error) {
	owner, _, err := p.alive(ctx, tenant)
	if err != nil {
		return NewPolicy{}, err
	}
	if number == 0 {
		in := NewPolicy{Modules: owner.Document.Policy.Modules}
		// The tests of what is in force are those that it was pushed with.
		page, err := p.Policies(ctx, PolicyFilter{Tenant: tenant, Limit: 100})
		if err != nil {
			return in, err
		}
		for _, v := range page.Items {
			if v.Active {
				number = v.Number
				break
			}
		}
		if number == 0 {
			return in, nil
		}
	}
	v, err := p.Policy(ctx, tenant, number)
	return NewPolicy{Modules: v.Modules, Tests: v.Tests}, err
}

// Policy returns one revision of a tenant's policy.
func (p *Plane) Policy(ctx context.Context, tenant gatehouse.TenantID, number int) (Policy, error) {
	var r Pushed
	found, err := read(ctx, &p.journal.Reader, policyRef(tenant, number), &r)
	if err != nil {
		return Policy{}, err
	}
	owner, err := p.Tenant(ctx, tenant)
	return r.show(&owner.Tenant, metaOf(&found), true), err
}

// PolicyFilter selects policies.
type PolicyFilter struct {
	// Tenant narrows to one when not empty.
	Tenant gatehouse.TenantID
	After  string
	// Limit is 100 when 0, at most 1,000.
	Limit int
}

// Policies returns a page of policies, newest first, without their sources.
func (p *Plane) Policies(ctx context.Context, f PolicyFilter) (Page[Policy], error) {
	q := journal.Query{Kind: kindPolicy, Order: journal.ByNewest, After: f.After, Limit: f.Limit}
	owners := map[string]*gatehouse.Tenant{}
	if f.Tenant != "" {
		owner, err := p.Tenant(ctx, f.Tenant)
		if err != nil {
			return Page[Policy]{}, err
		}
		id := string(f.Tenant)
		q.Tenant, owners[id] = &id, &owner.Tenant
	}
	found, err := p.journal.List(ctx, q)
	if err != nil {
		return Page[Policy]{}, coded(err)
	}
	page := Page[Policy]{Items: make([]Policy, 0, len(found.Items)), Next: found.Next}
	for i := range found.Items {
		r := Pushed{}
		if err := json.Unmarshal(found.Items[i].Body, &r); err != nil {
			return page, err
		}
		id := found.Items[i].Tenant
		if owners[id] == nil {
			owner, err := p.Tenant(ctx, gatehouse.TenantID(id))
			if gatehouse.CodeOf(err) == gatehouse.CodeNotFound {
				continue // purged meanwhile
			}
			if err != nil {
				return page, err
			}
			owners[id] = &owner.Tenant
		}
		page.Items = append(page.Items, r.show(owners[id], metaOf(&found.Items[i]), false))
	}
	return page, nil
}

// policyIn is the policy that an event pushed, as it stands now; err is passed
// on.
func (p *Plane) policyIn(ctx context.Context, e *journal.Event, err error) (Policy, error) {
	if err != nil {
		return Policy{}, err
	}
	number, err := strconv.Atoi(e.Subject)
	if err != nil {
		return Policy{}, notFound(kindPolicy)
	}
	return p.Policy(ctx, gatehouse.TenantID(e.Tenant), number)
}
