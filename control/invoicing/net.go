package invoicing

import (
	"cmp"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

func takesBack(c metering.Cell) bool { return c.Value < 0 }

// net takes negative cells off the others of their meter within the same
// segment of the same period, the nearest in time first, and of their route
// and consumer where they name one. Those that name most are first, wherever
// they lie: what may be taken off any usage leaves them theirs. Where one of a
// route and one of a consumer want the same usage, and one of them has other, it
// takes the other. What is more than there was is lost, and no more than must
// be: usage is not below zero. The order of the cells does not matter.
func net(cells []metering.Cell, s *billing.Subscription, book billing.Book) (out []metering.Cell, lost int64) {
	var back []metering.Cell
	for _, c := range cells {
		if takesBack(c) {
			back = append(back, c)
		} else {
			out = append(out, c)
		}
	}
	out = billing.Fold(out)
	slices.SortFunc(back, func(x, y metering.Cell) int {
		return cmp.Or(cmp.Compare(wide(&x), wide(&y)), x.Window.Compare(y.Window), cmp.Compare(x.Meter, y.Meter), cmp.Compare(x.Series.Route, y.Series.Route),
			cmp.Compare(x.Series.Consumer, y.Series.Consumer), cmp.Compare(x.Series.Plan, y.Series.Plan), cmp.Compare(x.Value, y.Value))
	})
	n := netting{cells: out, takers: make([]taker, len(back)), by: map[int][]int{}}
	for i, b := range back {
		n.takers[i] = taker{left: -b.Value, near: near(out, b, segmentAt(s, book, b.Window)), took: map[int]int64{}}
		for _, at := range n.takers[i].near {
			n.take(i, at, n.takers[i].left)
		}
	}
	for i := range back {
		for n.takers[i].left > 0 && n.exchange(i) {
		}
		lost += n.takers[i].left
	}
	return out, lost
}

// near are the cells that usage may be taken off by b, the nearest first.
func near(cells []metering.Cell, b metering.Cell, within billing.Period) []int {
	var out []int
	for i := range cells {
		c := &cells[i]
		if c.Meter == b.Meter && within.Has(c.Window) && (b.Series.Route == "" || b.Series.Route == c.Series.Route) &&
			(b.Series.Consumer == "" || b.Series.Consumer == c.Series.Consumer) {
			out = append(out, i)
		}
	}
	away := func(i int) time.Duration { return cells[i].Window.Sub(b.Window).Abs() }
	slices.SortStableFunc(out, func(x, y int) int { return cmp.Compare(away(x), away(y)) })
	return out
}

// netting is net under way.
type netting struct {
	cells  []metering.Cell
	takers []taker
	// by are those that took of each cell.
	by map[int][]int
}

// taker is a cell that takes usage back: how much it has still to take, off
// which cells it may, and what it took of each.
type taker struct {
	left int64
	near []int
	took map[int]int64
}

// take has a taker take up to so much of a cell.
func (n *netting) take(taker, cell int, most int64) {
	t := &n.takers[taker]
	part := min(most, n.cells[cell].Value)
	if part <= 0 {
		return
	}
	if t.took[cell] == 0 && !slices.Contains(n.by[cell], taker) {
		n.by[cell] = append(n.by[cell], taker)
	}
	t.took[cell] += part
	n.cells[cell].Value -= part
	t.left -= part
}

// step is how a search came to a taker: it would give up what it took of a cell
// to the one before it.
type step struct{ from, cell int }

// exchange lets a taker that lacks something have what others took, down the
// shortest row of those that give up a cell and take another instead, and
// reports whether there was one. It is a flow that grows along an augmenting
// path (Edmonds and Karp), so that nothing is lost where all could be taken.
func (n *netting) exchange(lacks int) bool {
	came := map[int]step{lacks: {-1, -1}}
	for queue := []int{lacks}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, cell := range n.takers[at].near {
			if n.cells[cell].Value > 0 {
				n.pass(came, lacks, at, cell)
				return true
			}
			for _, other := range n.by[cell] {
				if _, seen := came[other]; !seen && n.takers[other].took[cell] > 0 {
					came[other] = step{at, cell}
					queue = append(queue, other)
				}
			}
		}
	}
	return false
}

// pass has the last taker of a row take of a cell, and each give up as much to
// the one before it.
func (n *netting) pass(came map[int]step, lacks, last, cell int) {
	part := min(n.takers[lacks].left, n.cells[cell].Value)
	for at := last; at != lacks; at = came[at].from {
		part = min(part, n.takers[at].took[came[at].cell])
	}
	for at := last; ; {
		n.take(at, cell, part)
		if at == lacks {
			return
		}
		// What it gives up is there for the one before.
		cell = came[at].cell
		n.takers[at].took[cell] -= part
		n.takers[at].left += part
		n.cells[cell].Value += part
		at = came[at].from
	}
}

// wide is how little a cell that takes usage back names of what it is taken
// off: 0 for a route and a consumer, 3 for neither.
func wide(c *metering.Cell) (n int) {
	if c.Series.Route == "" {
		n += 2
	}
	if c.Series.Consumer == "" {
		n++
	}
	return n
}
