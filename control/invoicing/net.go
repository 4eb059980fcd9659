package invoicing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

func takesBack(c metering.Cell) bool { return c.Value < 0 }

// net takes negative cells of a tenant off the others of their meter within the
// same segment of the same period, the nearest in time first, and of their route
// and consumer where they name one. Those that name most are first, wherever
// they lie: what may be taken off any usage leaves them theirs. Where one of a
// route and one of a consumer want the same usage, and one of them has other, it
// takes the other. What is more than there was is lost, and no more than must
// be: usage is not below zero. The order of the cells does not matter. It takes
// about as long as to sort the cells, and ends with the context's error.
func net(ctx context.Context, cells []metering.Cell, s *billing.Subscription, book billing.Book) (out []metering.Cell, lost int64, err error) {
	var back []metering.Cell
	for _, c := range cells {
		if takesBack(c) {
			back = append(back, c)
		} else {
			out = append(out, c)
		}
	}
	out = billing.Fold(out)
	fields := map[place]*field{}
	var order []*field
	for i := range back {
		b := &back[i]
		within := segmentAt(s, book, b.Window)
		at := place{b.Meter, within.Start}
		f := fields[at]
		if f == nil {
			f = &field{cells: during(out, b.Meter, within)}
			fields[at] = f
			order = append(order, f)
		}
		f.back = append(f.back, b)
	}
	for _, f := range order {
		n, err := f.net(ctx)
		if err != nil {
			return nil, 0, fmt.Errorf("take usage back: %w", err)
		}
		lost += n
	}
	return out, lost, nil
}

// place is one meter in the segment that begins at start.
type place struct {
	meter string
	start time.Time
}

// during are the cells of a meter in a segment, of the folded cells of a tenant.
func during(cells []metering.Cell, meter string, within billing.Period) []metering.Cell {
	edge := func(t time.Time) int {
		return sort.Search(len(cells), func(i int) bool {
			return cmp.Or(cmp.Compare(cells[i].Meter, meter), cells[i].Window.Compare(t)) >= 0
		})
	}
	from := edge(within.Start)
	return cells[from:max(from, edge(within.End))]
}

// field is the usage of one meter in one segment, and what takes of it. Nothing
// that is taken in one changes another.
type field struct {
	cells []metering.Cell // in order of time
	back  []*metering.Cell
	// claims are those that take, by whose usage they take; order has them as
	// they come first.
	claims map[claimed]*claim
	order  []*claim
	// pool is, by cell, the pool that it is in, if it is in one.
	pool []*pool
}

// net takes what it may and returns what is lost.
func (f *field) net(ctx context.Context) (lost int64, err error) {
	slices.SortFunc(f.back, func(x, y *metering.Cell) int {
		return cmp.Or(cmp.Compare(wide(x), wide(y)), x.Window.Compare(y.Window), cmp.Compare(x.Series.Route, y.Series.Route),
			cmp.Compare(x.Series.Consumer, y.Series.Consumer), cmp.Compare(x.Series.Plan, y.Series.Plan), cmp.Compare(x.Value, y.Value))
	})
	f.claim()
	mended := false
	for _, b := range f.back {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		// What may be taken off any usage is last: it does not keep what others
		// could have.
		if wide(b) == anyUsage && !mended {
			if err := f.mend(ctx); err != nil {
				return 0, err
			}
			mended = true
		}
		c := f.claims[claimOf(b)]
		if left := -b.Value - f.take(c, b.Window, -b.Value); left > 0 {
			c.lacks, c.at = c.lacks+left, b.Window
		}
	}
	if !mended {
		err = f.mend(ctx)
	}
	for _, c := range f.order {
		lost += c.lacks
	}
	return lost, err
}

// claim finds the claims, the cells of each, and the pools.
func (f *field) claim() {
	f.claims = map[claimed]*claim{}
	sides := [2]bool{}
	for _, b := range f.back {
		key := claimOf(b)
		if f.claims[key] == nil {
			c := &claim{side: side(key)}
			f.claims[key] = c
			f.order = append(f.order, c)
			if c.side != noSide {
				sides[c.side] = true
			}
		}
	}
	pools := map[claimed]*pool{}
	if sides[ofRoute] && sides[ofConsumer] {
		f.pool = make([]*pool, len(f.cells))
	}
	for i := range f.cells {
		whose := claimOf(&f.cells[i])
		if whose.route != "" && whose.consumer != "" {
			f.claims[whose].add(i)
		}
		var two [2]*claim
		if whose.route != "" {
			two[ofRoute] = f.claims[claimed{route: whose.route}]
			two[ofRoute].add(i)
		}
		if whose.consumer != "" {
			two[ofConsumer] = f.claims[claimed{consumer: whose.consumer}]
			two[ofConsumer].add(i)
		}
		f.claims[claimed{}].add(i)
		if two[ofRoute] == nil || two[ofConsumer] == nil {
			continue
		}
		p := pools[whose]
		if p == nil {
			p = &pool{claims: two}
			pools[whose] = p
			for _, c := range two {
				c.pools = append(c.pools, p)
			}
		}
		f.pool[i] = p
	}
	for _, c := range f.order {
		c.skips()
	}
}

// take takes up to so much of the cells of a claim that are nearest to an
// instant, of those of one minute the first, and returns how much it was.
func (f *field) take(c *claim, at time.Time, most int64) (taken int64) {
	begin := c.from(f, at)
	for taken < most {
		right, left := c.free(f, c.next, begin, 1), c.free(f, c.last, begin-1, -1)
		ahead, before := right < c.end(), left > 0
		if !ahead && !before {
			break
		}
		if i := left; before && (!ahead || at.Sub(c.window(f, i)) <= c.window(f, right).Sub(at)) {
			right = c.free(f, c.next, c.from(f, c.window(f, i)), 1)
		}
		i := c.cells[right-1]
		n := min(most-taken, f.cells[i].Value)
		f.cells[i].Value -= n
		taken += n
		if f.pool != nil && f.pool[i] != nil && c.side != noSide {
			f.pool[i].took[c.side] += n
		}
	}
	return taken
}

// mend has claims that lack something take over what others took, where these
// can take other usage instead.
func (f *field) mend(ctx context.Context) error {
	for _, c := range f.order {
		for c.lacks > 0 && len(c.pools) > 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !f.exchange(c) {
				break
			}
		}
	}
	return nil
}

// exchange lets a claim that lacks something have what others took, down the
// shortest row of those that give up usage and take other instead, and reports
// whether there was one. It is a flow that grows along an augmenting path
// (Edmonds and Karp), so that nothing is lost where all could be taken: a node
// is a claim, and an edge is the usage that two claims share, not a cell.
func (f *field) exchange(lacks *claim) bool {
	came := map[*claim]*pool{lacks: nil}
	for queue := []*claim{lacks}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at.free(f, at.next, 1, 1) < at.end() {
			f.pass(came, lacks, at)
			return true
		}
		for _, p := range at.pools {
			other := p.claims[1-at.side]
			if _, seen := came[other]; !seen && !other.stuck && p.took[other.side] > 0 {
				came[other] = p
				queue = append(queue, other)
			}
		}
	}
	for c := range came { // no row leads from them to usage that is left, nor ever will
		c.stuck = true
	}
	return false
}

// pass has the last claim of a row take of what is left, and each give up as
// much to the one before it.
func (f *field) pass(came map[*claim]*pool, lacks, last *claim) {
	most := lacks.lacks
	for at := last; at != lacks; at = came[at].claims[1-at.side] {
		most = min(most, came[at].took[at.side])
	}
	n := f.take(last, lacks.at, most)
	for at := last; at != lacks; {
		p := came[at]
		p.took[at.side] -= n
		at = p.claims[1-at.side]
		p.took[at.side] += n
	}
	lacks.lacks -= n
}
