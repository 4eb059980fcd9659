package invoicing_test

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

var manyTenants = flag.Int("tenants", 30, "tenants of TestMonth; 1000 is the long form")

// cellsEach is how many cells each tenant has.
const cellsEach = 200

// TestMonth bills a month of traffic, and the month after in which the rest of
// it comes in, for many tenants on three plans, with other anchors and zones,
// changes, credit, late usage, external events and adjustments, day by day
// under a fake clock. Then every line is held against what was written to the
// ledger.
func TestMonth(t *testing.T) {
	t.Parallel()
	h := open(t, stores["SQLite"](t))
	m := &month{house: h, random: rand.New(rand.NewSource(7)), used: map[gatehouse.TenantID][]metering.Cell{}, plans: map[billing.PlanRef]billing.Plan{}}
	for _, text := range []string{free, premium, enterprise} {
		p := h.price(text)
		m.plans[p.Ref()] = p
	}
	began := time.Now()
	tenants := *manyTenants
	if raced {
		tenants = min(tenants, 4)
	}
	m.begin(tenants)
	var billed time.Duration
	invoices := 0
	for day := at("2026-01-01"); day.Before(at("2026-03-20")); day = day.AddDate(0, 0, 1) {
		h.set(day.Format(time.DateOnly))
		m.day(day)
		start := time.Now()
		invoices += h.round().Finalized
		billed += time.Since(start)
	}
	reconciled := time.Now()
	lines := m.reconcile()
	sound(t, h)
	t.Logf("%d tenants, %d cells, %d invoices, %d metered lines: 0 differences; billing %s (%s an invoice), reconciling %s, all %s; %s",
		tenants, m.cells, invoices, lines, billed.Round(time.Millisecond), (billed / time.Duration(max(1, invoices))).Round(time.Microsecond),
		time.Since(reconciled).Round(time.Millisecond), time.Since(began).Round(time.Millisecond), memory())
}

// memory is the most that the process held, and what its heap is now.
func memory() string {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	peak := "?"
	if text, err := os.ReadFile("/proc/self/status"); err == nil {
		if found := regexp.MustCompile(`VmHWM:\s+(\d+ kB)`).FindSubmatch(text); found != nil {
			peak = string(found[1])
		}
	}
	return fmt.Sprintf("heap %d MiB, peak resident %s", s.HeapInuse>>20, peak)
}

type month struct {
	*house
	random *rand.Rand
	// used is what was written of each tenant, as the ledger should have it.
	used    map[gatehouse.TenantID][]metering.Cell
	plans   map[billing.PlanRef]billing.Plan
	tenants []gatehouse.TenantID
	late    metering.Batch
	cells   int
}

// begin subscribes the tenants.
func (m *month) begin(n int) {
	ctx := m.t.Context()
	for i := range n {
		tenant := gatehouse.TenantID(fmt.Sprintf("t%04d", i))
		m.tenants = append(m.tenants, tenant)
		in := invoicing.NewSubscription{
			Plan: []gatehouse.PlanID{"free", "premium", "enterprise"}[i%3], TimeZone: []string{"UTC", "Europe/Rome", "Asia/Kathmandu"}[i%3],
			Anchor: at("2025-12-01").AddDate(0, 0, i%28),
		}
		if _, err := m.Subscribe(ctx, tenant, in, as); err != nil {
			m.t.Fatal(err)
		}
		if i%3 > 0 {
			credit := invoicing.Credit{Currency: "EUR", Grant: billing.Grant{ID: "welcome", Amount: dec("7.50"), Expires: at("2026-02-10")}}
			if _, err := m.Grant(ctx, tenant, credit, as); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

// day writes a day's usage of January, reports what was late on 15 February,
// and changes plans.
func (m *month) day(day time.Time) {
	ctx := m.t.Context()
	if day.Equal(at("2026-02-15")) {
		m.write(m.late)
		m.outside()
	}
	b := metering.Batch{}
	each := cellsEach / 31
	if raced {
		each = 1
	}
	if day.Before(at("2026-02-01")) && (!raced || day.Day()%5 == 0 || day.Day()%7 == 0) {
		for i, tenant := range m.tenants {
			for n := range each {
				c := m.cell(tenant, day, i*100+n)
				if n == 0 && day.Day()%7 == 0 {
					m.late.Cells = append(m.late.Cells, c)
					continue
				}
				b.Cells = append(b.Cells, c)
			}
		}
	}
	for i := range 3 {
		b.Seals = append(b.Seals, metering.Seal{Gateway: fmt.Sprint("gw", i), Epoch: metering.Epoch{Counter: 1, Nonce: uint64(i)}, Window: day.AddDate(0, 0, 1).Add(-time.Minute)})
	}
	// The day is over when its usage is written.
	m.set(day.AddDate(0, 0, 1).Format(time.DateOnly))
	m.write(b)
	if day.Equal(at("2026-01-20")) {
		for i, tenant := range m.tenants {
			to := []gatehouse.PlanID{"premium", "enterprise", "free"}[i%3]
			if _, err := m.Change(ctx, tenant, "main", invoicing.Move{Plan: to, At: at("2026-01-21 10:30")}, as); i%4 == 0 && err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

func (m *month) cell(tenant gatehouse.TenantID, day time.Time, salt int) metering.Cell {
	gateway := salt % 3
	c := metering.Cell{
		Gateway: fmt.Sprint("gw", gateway), Epoch: metering.Epoch{Counter: 1, Nonce: uint64(gateway)},
		Window: day.Add(time.Duration(m.random.Intn(24*60)) * time.Minute), Meter: "requests", Value: m.random.Int63n(90) + 1,
		Series: metering.SeriesKey{Tenant: tenant, Route: gatehouse.RouteID(fmt.Sprint("r", salt%5)), Consumer: fmt.Sprint("c", salt%7)},
	}
	for slices.ContainsFunc(m.used[tenant], func(o metering.Cell) bool { // of one identity there is one cell
		o.Value = c.Value
		return o == c
	}) {
		c.Window = day.Add(time.Duration(m.random.Intn(24*60)) * time.Minute)
	}
	m.used[tenant] = append(m.used[tenant], c)
	m.cells++
	return c
}

// outside records an event and takes usage back, for every tenant.
func (m *month) outside() {
	for i, tenant := range m.tenants {
		c := m.used[tenant][i%len(m.used[tenant])]
		_, err := m.ledger.Record(m.t.Context(), []ledger.Event{{ID: string(tenant), Source: "crm", Meter: "requests", Tenant: tenant, Time: c.Window, Value: "13"}})
		if err != nil {
			m.t.Fatal(err)
		}
		extra := c
		extra.Gateway, extra.Value = ledger.FromEvents, 13
		m.used[tenant] = append(m.used[tenant], extra)
		if i%5 > 0 {
			continue
		}
		adjustment := ledger.Adjustment{ID: string(tenant), Tenant: tenant, Meter: "requests", Time: c.Window, Value: "-9", Reason: "outage"}
		if _, err := m.Adjust(m.t.Context(), adjustment, as); err != nil {
			m.t.Fatal(err)
		}
		extra.Gateway, extra.Value = ledger.FromAdjustments, -9
		m.used[tenant] = append(m.used[tenant], extra)
	}
}

// reconcile holds every metered line against the cells that were written, and
// what was charged for each segment against the price of its sum, and returns
// how many lines there were.
func (m *month) reconcile() (lines int) {
	type segment struct {
		plan  billing.PlanRef
		start time.Time
	}
	for _, tenant := range m.tenants {
		if lines, err := m.Differences(m.t.Context(), tenant, "main", billing.Period{}); len(lines) > 0 || err != nil {
			m.t.Errorf("%s: %v %v", tenant, lines, err)
		}
		page, err := m.Invoices(m.t.Context(), invoicing.InvoiceFilter{Tenant: tenant})
		if err != nil {
			m.t.Fatal(err)
		}
		ends, stated, issued, charged := map[segment]time.Time{}, map[segment]billing.Decimal{}, map[segment]time.Time{}, map[segment]billing.Decimal{}
		for _, inv := range page.Items {
			for _, l := range inv.Lines {
				if l.Price != "calls" {
					continue
				}
				lines++
				key := segment{l.Plan, l.Period.Start}
				charged[key] = charged[key].Add(l.Amount)
				if ends[key] = l.Period.End; !inv.Issued.Before(issued[key]) {
					stated[key], issued[key] = l.Trace.Metered, inv.Issued
				}
			}
		}
		counted := int64(0)
		for key, n := range stated {
			sum := int64(0)
			for _, c := range m.used[tenant] {
				if !c.Window.Before(key.start) && c.Window.Before(ends[key]) {
					sum += c.Value
				}
			}
			counted += sum
			if n.Cmp(billing.Int(sum)) != 0 {
				m.t.Errorf("%s %v: the lines state %s requests, the cells %d", tenant, key, n, sum)
			}
			if want := costs(key.plan.ID, sum); charged[key].Cmp(want) != 0 {
				m.t.Errorf("%s %v: %d requests cost %s, and %s was charged", tenant, key, sum, want, charged[key])
			}
		}
		all := int64(0)
		for _, c := range m.used[tenant] {
			all += c.Value
		}
		if all != counted {
			m.t.Errorf("%s: %d requests are on lines, %d in the ledger", tenant, counted, all)
		}
		u, err := m.ledger.Usage(m.t.Context(), ledger.Query{Tenants: []gatehouse.TenantID{tenant}, Meter: "requests", From: at("2025-12-01"), To: at("2026-04-01")})
		if err != nil || u.Total.String() != fmt.Sprint(all) {
			m.t.Errorf("%s: the ledger has %s, %d were written (%v)", tenant, u.Total, all, err)
		}
	}
	return lines
}

// costs prices requests by hand: 0, 1 cent each, or 2 cents for the first 1,000
// and half a cent from there on; in cents, halves up.
func costs(plan gatehouse.PlanID, n int64) billing.Decimal {
	tenths := int64(0)
	switch plan {
	case "premium":
		tenths = 10 * n
	case "enterprise":
		tenths = 20*min(n, 1000) + 5*max(0, n-1000)
	}
	return billing.Fraction((tenths+5)/10, 100)
}

// TestMonthTwice bills the same month twice in two houses, and holds that the
// invoices have the same bytes.
func TestMonthTwice(t *testing.T) {
	t.Parallel()
	var texts [2]string
	for i := range texts {
		h := open(t, stores["SQLite"](t))
		h.fill()
		h.round()
		page, err := h.Invoices(t.Context(), invoicing.InvoiceFilter{})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, inv := range page.Items {
			text, err := inv.Document(invoicing.JSON)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(text)
		}
		texts[i] = b.String()
	}
	if texts[0] != texts[1] || len(texts[0]) < 1000 {
		t.Errorf("%s\n\n%s", texts[0], texts[1])
	}
}
