package invoicing

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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
	out, lost, err := net(context.Background(), slices.Clone(cells), s, billing.Book{plan.Ref(): plan})
	if err != nil {
		panic(err) // the context does not end
	}
	return out, lost
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

// TestNetAnyLast holds that what may be taken off any usage takes no other from
// those that may take of a route or a consumer only, though it is nearer.
func TestNetAnyLast(t *testing.T) {
	t.Parallel()
	out, lost := netted([]metering.Cell{
		netCell("gw", "r1", "c1", 10, 5), netCell("gw", "r1", "c2", 20, 5), netCell("gw", "r2", "c2", 40, 5),
		netCell("a", "r1", "", 10, -5), netCell("b", "", "c1", 10, -5), netCell("c", "", "", 20, -5),
	})
	if lost != 0 || out[0].Value != 0 || out[1].Value != 0 || out[2].Value != 0 {
		t.Errorf("%d is lost: %v", lost, out)
	}
}

// TestNetNearest holds that usage goes of the nearest minutes, of the earlier one
// of two that are as near, whatever route it is of.
func TestNetNearest(t *testing.T) {
	t.Parallel()
	out, lost := netted([]metering.Cell{
		netCell("gw", "r1", "c1", 10, 5), netCell("gw", "r2", "c2", 12, 5), netCell("gw", "r1", "c1", 14, 5), netCell("gw", "r1", "c1", 40, 5),
		netCell("a", "", "", 12, -8), netCell("b", "r1", "c1", 39, -7),
	})
	got := ""
	for _, c := range out {
		got += fmt.Sprint(c.Window.Minute(), ":", c.Value, " ")
	}
	if want := "10:2 12:0 14:3 40:0 "; got != want || lost != 0 {
		t.Errorf("got %s, want %s, and %d is lost", got, want, lost)
	}
}

// crowd is so much usage of routes and consumers, and what takes a part of it
// back: off any usage, off routes, off consumers, and off both.
func crowd(cells, back int) []metering.Cell {
	const routes, consumers = 20, 50
	name := func(kind string, i, of int) string { return fmt.Sprint(kind, i%of) }
	var out []metering.Cell
	for i := range cells {
		out = append(out, netCell(fmt.Sprint("gw", i), name("r", i, routes), name("c", i/routes, consumers), i%40000, 5))
	}
	for i := range back {
		c := netCell("(adjustments)", name("r", i, routes), name("c", i/routes, consumers), i*37%40000, -4)
		if i%4 >= 2 {
			c.Series.Route = ""
		}
		if i%4%2 == 1 {
			c.Series.Consumer = ""
		}
		out = append(out, c)
	}
	return out
}

// TestNetRoom holds that what net needs of memory grows with the cells and with
// what takes of them, not with the one times the other. It is not parallel:
// what others allocate would count.
func TestNetRoom(t *testing.T) {
	cells := crowd(10_000, 1000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, lost := netted(cells)
	runtime.ReadMemStats(&after)
	if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; lost != 0 || mib > 16 {
		t.Errorf("11,000 cells took %d MiB, and %d is lost", mib, lost)
	}
}

// TestNetEnds holds that net ends with its context.
func TestNetEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	plan := &billing.Plan{ID: "p", Version: 1, Cadence: billing.Cadence{Unit: billing.Month}}
	s := &billing.Subscription{Tenant: "acme", Plan: plan.Ref(), Start: netStart}
	if _, _, err := net(ctx, crowd(10, 4), s, billing.Book{plan.Ref(): plan}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func BenchmarkNet(b *testing.B) {
	for _, back := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint("100000 cells/", back, " back"), func(b *testing.B) {
			cells := crowd(100_000, back)
			b.ReportAllocs()
			for b.Loop() {
				netted(cells)
			}
		})
	}
	// All that is taken is of routes and consumers that want the same usage, and
	// there is no more of it than they want.
	b.Run("crossing", func(b *testing.B) {
		cells := crowd(100_000, 0)
		for i := range 20 {
			cells = append(cells, netCell("(adjustments)", fmt.Sprint("r", i), "", i, -12_500))
		}
		for i := range 50 {
			cells = append(cells, netCell("(adjustments)", "", fmt.Sprint("c", i), i, -5000))
		}
		b.ReportAllocs()
		for b.Loop() {
			netted(cells)
		}
	})
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
