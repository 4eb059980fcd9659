package invoicing

import (
	"sort"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// claimed says whose usage is taken: that of a route, of a consumer, of both,
// or any.
type claimed struct {
	route    gatehouse.RouteID
	consumer string
}

func claimOf(c *metering.Cell) claimed { return claimed{c.Series.Route, c.Series.Consumer} }

// The claims that may share usage: of a route with any consumer, and of a
// consumer on any route.
const (
	noSide     = -1
	ofRoute    = 0
	ofConsumer = 1
)

func side(key claimed) int {
	switch {
	case key.route != "" && key.consumer == "":
		return ofRoute
	case key.route == "" && key.consumer != "":
		return ofConsumer
	}
	return noSide
}

// anyUsage is how wide a cell is that names neither route nor consumer.
const anyUsage = 3

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

// claim is all that takes the same usage back. Its cells are counted from 1, in
// order of time; 0 and end are beside them.
type claim struct {
	side  int
	cells []int // indexes of the field's
	// next and last lead from a cell that is used up towards the one that is
	// not, after it and before it: disjoint sets, their paths halved as they are
	// walked. A cell never gets back what was taken of it.
	next, last []int
	// lacks is what could not be taken; at is the instant it is of.
	lacks int64
	at    time.Time
	// pools are the usage that it shares with claims of the other side.
	pools []*pool
	// stuck says that nothing can be had from it any more.
	stuck bool
}

// pool is usage that one claim of a route and one of a consumer share: how much
// each took of it.
type pool struct {
	claims [2]*claim
	took   [2]int64
}

// add adds a cell to a claim, if there is one.
func (c *claim) add(cell int) {
	if c != nil {
		c.cells = append(c.cells, cell)
	}
}

func (c *claim) skips() {
	c.next, c.last = make([]int, len(c.cells)+2), make([]int, len(c.cells)+2)
	for i := range c.next {
		c.next[i], c.last[i] = i, i
	}
}

func (c *claim) end() int { return len(c.cells) + 1 }

func (c *claim) window(f *field, i int) time.Time { return f.cells[c.cells[i-1]].Window }

// from is the first cell that is not before an instant.
func (c *claim) from(f *field, at time.Time) int {
	return 1 + sort.Search(len(c.cells), func(i int) bool { return !f.cells[c.cells[i]].Window.Before(at) })
}

// free is the first cell from i on that is not used up, in steps of 1 by next,
// or of -1 by last.
func (c *claim) free(f *field, skip []int, i, step int) int {
	for {
		switch {
		case skip[i] != i:
			skip[i] = skip[skip[i]]
		case i == 0 || i == c.end() || f.cells[c.cells[i-1]].Value > 0:
			return i
		default:
			skip[i] = i + step
		}
		i = skip[i]
	}
}
