package control

import (
	"context"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// outlook is what a dry run of an apply has come to so far, and the store does
// not have: what comes later in the same apply is judged by both. A nil one
// has nothing.
type outlook struct {
	plans map[gatehouse.PlanID]bool
	// refs are resources that would be there by now, or would not.
	refs map[journal.Ref]bool
	// left is by how many tenants a plan would have fewer.
	left map[gatehouse.PlanID]int
}

func newOutlook() *outlook {
	return &outlook{plans: map[gatehouse.PlanID]bool{}, refs: map[journal.Ref]bool{}, left: map[gatehouse.PlanID]int{}}
}

// hasPlan reports whether the apply brings the plan about.
func (o *outlook) hasPlan(id gatehouse.PlanID) bool { return o != nil && o.plans[id] }

// leaving is by how many tenants a plan would have fewer.
func (o *outlook) leaving(id gatehouse.PlanID) int {
	if o == nil {
		return 0
	}
	return o.left[id]
}

// possible reports what would refuse c, and notes what it would do.
func (o *outlook) possible(ctx context.Context, p *Plane, c *journal.Change) error {
	rest := *c
	rest.Expect = map[journal.Ref]int64{}
	for ref, want := range c.Expect {
		there, told := o.refs[ref]
		switch {
		case !told:
			rest.Expect[ref] = want
		case there && want == journal.Absent:
			return coded(&journal.ExistsError{Ref: ref})
		}
	}
	if err := p.possible(ctx, &rest); err != nil {
		return err
	}
	for i := range c.Puts {
		o.refs[c.Puts[i].Ref] = true
	}
	for _, ref := range c.Deletes {
		o.refs[ref] = false
	}
	return nil
}

// moves notes that a tenant would go from one plan to another; either may be
// empty.
func (o *outlook) moves(from, to gatehouse.PlanID) {
	o.left[from]++
	o.left[to]--
}
