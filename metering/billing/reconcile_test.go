package billing_test

import (
	"flag"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

var manyTenants = flag.Int("tenants", 60, "tenants of TestReconcile; 1000 is the long form")

// TestReconcile bills two months of many tenants on three plans, with changes,
// credits and usage that comes late, and holds the invoices against the cells:
// every request is on exactly one line, what came late on an adjustment, and
// the numbers have no gap.
func TestReconcile(t *testing.T) {
	plans := []*billing.Plan{plan(t, free), plan(t, premium), plan(t, strings.NewReplacer(`"premium"`, `"enterprise"`, `"30"`, `"90"`).Replace(premium))}
	b := book(plans...)
	random := rand.New(rand.NewSource(1))
	var series []billing.Invoice
	issue := func(r billing.Run) billing.Invoice {
		inv := draft(t, r)
		previous := ""
		if n := len(series); n > 0 {
			previous = series[n-1].Hash
		}
		inv = finalize(t, inv, len(series)+1, previous)
		if r.Wallet != nil {
			if err := r.Wallet.Book(inv.Number, inv.Wallet, r.At); err != nil {
				t.Fatal(err)
			}
			if err := r.Wallet.Check(); err != nil {
				t.Fatal(err)
			}
		}
		series = append(series, inv)
		return inv
	}
	for n := range *manyTenants {
		tenant := gatehouse.TenantID(fmt.Sprint("t", n))
		sub := &billing.Subscription{ID: fmt.Sprint("s", n), Tenant: tenant, Plan: plans[n%3].Ref(), Start: at("2026-01-01T00:00:00Z"), TimeZone: []string{"UTC", "Europe/Rome", "Asia/Kathmandu"}[n%3]}
		sub.Anchor = at("2025-12-01T00:00:00Z").Add(time.Duration(n%28) * 24 * time.Hour)
		w := &billing.Wallet{Currency: "EUR"}
		if err := w.Add(billing.Grant{ID: "welcome", Amount: dec("7.50"), Granted: sub.Start}); err != nil {
			t.Fatal(err)
		}
		var cells, late []metering.Cell
		for i := range 200 {
			c := cell("2026-01-01T00:00:00Z", "requests", random.Int63n(50))
			c.Series.Tenant, c.Gateway, c.Epoch.Counter = tenant, fmt.Sprint("gw", i%3), uint32(i)
			c.Window = c.Window.Add(time.Duration(random.Intn(59*24*60)) * time.Minute)
			if cells = append(cells, c); i%20 == 0 {
				late = append(late, c)
			}
		}
		seen := cells[:0:0]
		for i, c := range cells {
			if i%20 != 0 {
				seen = append(seen, c)
			}
		}
		var earlier []billing.Invoice
		add := func(r billing.Run) {
			r.Book, r.Subscription, r.Earlier, r.Wallet, r.At = b, sub, earlier, w, at("2026-06-01T00:00:00Z")
			earlier = append(earlier, issue(r))
		}
		add(billing.Run{Kind: billing.Opening})
		if n%4 == 0 {
			sub.Changes = []billing.Change{{At: at("2026-01-20T10:30:00Z"), Plan: plans[(n+1)%3].Ref()}}
		}
		for index := range 4 {
			known := seen
			if index == 3 {
				known = append(seen[:len(seen):len(seen)], late...)
			}
			add(billing.Run{Index: index, Cells: known, CompleteFrom: sub.Start})
		}
		reconcile(t, sub, b, cells, earlier)
	}
	if err := billing.Verify(series); err != nil {
		t.Error(err)
	}
	for i, inv := range series {
		if inv.Number != billing.Number("GH", 2026, i+1) {
			t.Fatalf("invoice %d has the number %s", i+1, inv.Number)
		}
	}
}

// reconcile counts requests by cells and by lines, and prices each segment
// once more from the cells alone.
func reconcile(t *testing.T, sub *billing.Subscription, b billing.Book, cells []metering.Cell, invoices []billing.Invoice) {
	t.Helper()
	type segment struct {
		plan  billing.PlanRef
		start time.Time
	}
	counted, ends, billed := map[segment]billing.Decimal{}, map[segment]time.Time{}, map[segment]billing.Decimal{}
	parts := map[segment]billing.Decimal{}
	for _, inv := range invoices {
		for _, l := range inv.Lines {
			if l.Price != "calls" {
				continue
			}
			key := segment{l.Plan, l.Period.Start}
			counted[key], ends[key] = l.Trace.Metered, l.Period.End // an adjustment states all there is
			billed[key] = billed[key].Add(l.Amount)
			if parts[key] = billing.Int(1); l.Trace.Fraction != nil {
				parts[key] = *l.Trace.Fraction
			}
		}
	}
	all, onLines := int64(0), billing.Decimal{}
	for _, c := range cells {
		all += c.Value
	}
	for key, n := range counted {
		sum := int64(0)
		for _, c := range cells {
			if !c.Window.Before(key.start) && c.Window.Before(ends[key]) {
				sum += c.Value
			}
		}
		if n.Cmp(billing.Int(sum)) != 0 {
			t.Errorf("%s %v: %s requests on lines, %d in cells", sub.Tenant, key, n, sum)
		}
		want := b[key.plan].Price("calls").Due("EUR", billing.HalfUp, billing.Usage{Quantity: billing.Int(sum)}, billing.Decimal{}, true, parts[key]).Amount()
		if billed[key].Cmp(want) != 0 {
			t.Errorf("%s %v: %s was billed for what costs %s", sub.Tenant, key, billed[key], want)
		}
		onLines = onLines.Add(n)
	}
	if onLines.Cmp(billing.Int(all)) != 0 {
		t.Errorf("%s: %s requests on lines, %d in cells", sub.Tenant, onLines, all)
	}
}
