package invoicing

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// gapless sorts a series by number and returns an error that names the first
// number that is missing or there twice, or the first broken link of the chain.
func gapless(series []billing.Invoice, seller string) error {
	slices.SortFunc(series, func(a, b billing.Invoice) int { return cmp.Compare(a.Number, b.Number) })
	year, n := 0, 0
	for i := range series {
		at := 0
		if _, err := fmt.Sscanf(series[i].Number[len(seller)+1:], "%d-", &at); err != nil {
			return fmt.Errorf("invoice %s has no year in its number", series[i].Number)
		}
		if n++; at != year {
			year, n = at, 1
		}
		if want := billing.Number(seller, year, n); series[i].Number != want {
			return fmt.Errorf("invoice %s stands where %s should: a number is missing or there twice", series[i].Number, want)
		}
	}
	return billing.Verify(series)
}
