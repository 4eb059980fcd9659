package invoicing

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// Broken is the error for invoices that are not what they were, or not all.
type Broken struct {
	// Reason names the first that is not as it should be.
	Reason string
}

func (e *Broken) Error() string { return e.Reason }

// link is what the chain of a series depends on: invoices are long.
type link struct {
	number, previous, hash string
	year, n                int
}

// linkOf is that of an invoice of a seller; false for one of another series.
func linkOf(inv *billing.Invoice, seller string) (link, bool) {
	l := link{number: inv.Number, previous: inv.Previous, hash: inv.Hash}
	rest, ours := strings.CutPrefix(inv.Number, seller+"-")
	year, n, two := strings.Cut(rest, "-")
	if !ours || !two {
		return l, false
	}
	var errYear, errN error
	l.year, errYear = strconv.Atoi(year)
	l.n, errN = strconv.Atoi(n)
	return l, errYear == nil && errN == nil
}

// gapless sorts a series by number and returns an error that names the first
// number that is missing or there twice, or the first broken link of the chain.
func gapless(series []link, seller string) error {
	slices.SortFunc(series, func(a, b link) int { return cmp.Or(cmp.Compare(a.year, b.year), cmp.Compare(a.n, b.n)) })
	year, n, previous := 0, 0, ""
	for i := range series {
		at := &series[i]
		if n++; at.year != year {
			year, n = at.year, 1
		}
		if want := billing.Number(seller, year, n); at.number != want {
			return &Broken{fmt.Sprintf("invoice %s stands where %s should: a number is missing or there twice", at.number, want)}
		}
		if at.previous != previous {
			return &Broken{fmt.Sprintf("invoice %s does not follow the one before it", at.number)}
		}
		previous = at.hash
	}
	return nil
}
