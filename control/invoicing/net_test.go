package invoicing

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

var netStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func netCell(gateway, route, consumer string, minute int, n int64) metering.Cell {
	return metering.Cell{
		Gateway: gateway, Window: netStart.Add(time.Duration(minute) * time.Minute), Meter: "requests", Value: n,
		Series: metering.SeriesKey{Tenant: "acme", Route: gatehouse.RouteID(route), Consumer: consumer},
	}
}

func netted(cells []metering.Cell) ([]metering.Cell, int64) {
	plan := &billing.Plan{ID: "p", Version: 1, Cadence: billing.Cadence{Unit: billing.Month}}
	s := &billing.Subscription{Tenant: "acme", Plan: plan.Ref(), Start: netStart}
	return net(slices.Clone(cells), s, billing.Book{plan.Ref(): plan})
}

// TestNetCrossing holds that a route's adjustment leaves a consumer what only
// that one may take.
func TestNetCrossing(t *testing.T) {
	t.Parallel()
	out, lost := netted([]metering.Cell{
		netCell("gw", "r1", "c1", 10, 5), netCell("gw", "r1", "c2", 20, 5),
		netCell("a", "r1", "", 10, -5), netCell("b", "", "c1", 10, -5),
	})
	if lost != 0 || out[0].Value != 0 || out[1].Value != 0 {
		t.Errorf("%d is lost: %v", lost, out)
	}
}

// TestNetProperties holds that no more is lost of what takes usage back than
// must be, by Hall's theorem: so much as some of it exceeds all that it may be
// taken off; that what is taken is what goes; and that neither order nor
// repetition of the cells matters.
func TestNetProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		routes, consumers := rapid.SampledFrom([]string{"r1", "r2"}), rapid.SampledFrom([]string{"c1", "c2"})
		var used, back []metering.Cell
		for n := range rapid.IntRange(1, 6).Draw(t, "used") {
			gateway := string(rune('a' + n)) // each is one of its own
			used = append(used, netCell(gateway, routes.Draw(t, "route"), consumers.Draw(t, "consumer"), rapid.IntRange(0, 9).Draw(t, "minute"), rapid.Int64Range(0, 9).Draw(t, "n")))
		}
		for range rapid.IntRange(0, 6).Draw(t, "back") {
			c := netCell("(adjustments)", routes.Draw(t, "route"), consumers.Draw(t, "consumer"), rapid.IntRange(0, 9).Draw(t, "minute"), -rapid.Int64Range(1, 9).Draw(t, "n"))
			if wide := rapid.IntRange(0, 3).Draw(t, "wide"); wide >= 2 {
				c.Series.Route = ""
				if wide == 3 {
					c.Series.Consumer = ""
				}
			} else if wide == 1 {
				c.Series.Consumer = ""
			}
			back = append(back, c)
		}
		must := int64(0)
		for set := range 1 << len(back) {
			wanted, there := int64(0), int64(0)
			for _, c := range used {
				for i, b := range back {
					if set>>i&1 == 1 && (b.Series.Route == "" || b.Series.Route == c.Series.Route) && (b.Series.Consumer == "" || b.Series.Consumer == c.Series.Consumer) {
						there += c.Value
						break
					}
				}
			}
			for i, b := range back {
				if set>>i&1 == 1 {
					wanted -= b.Value
				}
			}
			must = max(must, wanted-there)
		}
		out, lost := netted(append(slices.Clone(used), back...))
		if lost != must {
			t.Fatalf("%d is lost, %d must be", lost, must)
		}
		left, all := int64(0), int64(0)
		for _, c := range out {
			if c.Value < 0 {
				t.Fatalf("usage below zero: %v", c)
			}
			left += c.Value
		}
		for _, c := range append(slices.Clone(used), back...) {
			all += c.Value
		}
		if left != all+lost {
			t.Fatalf("%d is left, of %d with %d lost", left, all, lost)
		}
		other := rapid.Permutation(append(append(slices.Clone(used), back...), used...)).Draw(t, "other")
		if again, lostAgain := netted(other); lostAgain != lost || !slices.Equal(again, out) {
			t.Fatalf("in another order:\n%v\n%v", again, out)
		}
	})
}
