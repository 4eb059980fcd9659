package ledger

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

var rounds = flag.Int("rounds", 1, "rounds of writing and asking in TestUsageAgrees")

// model is the ledger, naively: the largest value of each cell, and whatever
// else was added.
type model struct {
	cells map[metering.Cell]int64 // by identity: Value is 0
	other []metering.Cell         // events and adjustments
}

func (m *model) write(b metering.Batch) {
	for _, c := range b.Cells {
		v := c.Value
		c.Value = 0
		m.cells[c] = max(m.cells[c], v)
	}
}

func (m *model) usage(q Query) string {
	type key struct {
		start, end int64
		group      string
	}
	sums := map[key]int64{}
	var total int64
	spans := slices.Collect(windows(q.Window, q.Zone, q.From.Unix()/60, q.To.Unix()/60))
	add := func(c metering.Cell, v int64) {
		k := map[Dimension]string{Tenant: string(c.Series.Tenant), Route: string(c.Series.Route), Consumer: c.Series.Consumer, Plan: string(c.Series.Plan)}
		if c.Meter != q.Meter || c.Window.Before(q.From) || !c.Window.Before(q.To) ||
			!q.AllTenants && !slices.Contains(q.Tenants, c.Series.Tenant) {
			return
		}
		for d, values := range q.Filter {
			if !slices.Contains(values, k[d]) {
				return
			}
		}
		total += v
		minute := c.Window.Unix() / 60
		for _, s := range spans {
			if s.start <= minute && minute < s.end {
				group := ""
				for _, d := range q.GroupBy {
					group += k[d] + "\x00"
				}
				sums[key{s.start, s.end, group}] += v
			}
		}
	}
	for c, v := range m.cells {
		add(c, v)
	}
	for _, c := range m.other {
		add(c, c.Value)
	}
	keys := []key{}
	for k := range sums {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.start != b.start {
			return int(a.start - b.start)
		}
		return strings.Compare(a.group, b.group)
	})
	s := fmt.Sprint(total, "\n")
	if q.Window != None || len(q.GroupBy) > 0 {
		for _, k := range keys {
			s += fmt.Sprintf("%d %d %q %d\n", k.start, k.end, k.group, sums[k])
		}
	}
	return s
}

// answer reads all pages of a query.
func answer(t *testing.T, l *Ledger, q Query) string {
	t.Helper()
	s := ""
	for {
		u := usageOf(t, l, q)
		if len(u.Items) > q.Limit {
			t.Fatalf("%d items, and the limit is %d", len(u.Items), q.Limit)
		}
		if s == "" {
			s = u.Total.String() + "\n"
		}
		for _, i := range u.Items {
			group := ""
			for _, d := range q.GroupBy {
				group += i.Group[d] + "\x00"
			}
			s += fmt.Sprintf("%d %d %q %s\n", i.Start.Unix()/60, i.End.Unix()/60, group, i.Value.String())
		}
		if u.Next == "" {
			return s
		}
		q.Cursor = u.Next
	}
}

// TestUsageAgrees writes at random, in any order and more than once, and
// compares answers at random with the model's.
func TestUsageAgrees(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		random := rand.New(rand.NewPCG(3, 4))
		m := &model{cells: map[metering.Cell]int64{}}
		zones := []*time.Location{time.UTC, location(t, "Europe/Rome"), location(t, "Asia/Kathmandu"), location(t, "Australia/Lord_Howe"), location(t, "America/St_Johns")}
		for round := range *rounds {
			var batches []metering.Batch
			for range 3 {
				b := metering.Batch{}
				for range random.IntN(150) {
					b.Cells = append(b.Cells, someCell(random))
				}
				m.write(b)
				batches = append(batches, b, b, b)
			}
			random.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
			for _, b := range batches {
				write(t, l, b.Cells)
			}
			c := someCell(random)
			c.Value %= 1000
			e := Event{
				ID: fmt.Sprint(round), Source: "s", Meter: c.Meter, Tenant: c.Series.Tenant, Route: c.Series.Route, Consumer: c.Series.Consumer,
				Plan: c.Series.Plan, Time: c.Window.Add(59 * time.Second), Value: fmt.Sprint(c.Value),
			}
			for range 2 {
				if _, err := l.Record(t.Context(), []Event{e}); err != nil {
					t.Fatal(err)
				}
			}
			m.other = append(m.other, c)
			c = someCell(random)
			c.Value = -1 - c.Value%1000
			a := Adjustment{
				ID: e.ID, Meter: c.Meter, Tenant: c.Series.Tenant, Route: c.Series.Route, Consumer: c.Series.Consumer,
				Plan: c.Series.Plan, Time: c.Window, Value: fmt.Sprint(c.Value), Reason: "r", Approver: "a",
			}
			for range 2 {
				if _, err := l.Adjust(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			m.other = append(m.other, c)
			for range 10 {
				q := someQuery(random, zones)
				if got, want := answer(t, l, q), m.usage(q); got != want {
					t.Fatalf("round %d: %+v\ngot\n%s\nwant\n%s", round, q, got, want)
				}
			}
		}
		sound(t, l)
		levels(t, l, zones)
	})
}

var (
	tenants   = []gatehouse.TenantID{"acme", "bolt", "core"}
	dimension = []Dimension{Tenant, Route, Consumer, Plan}
)

// someCell is around a change of Rome's clock, or of the month. There are few
// of them, so that they come again with other values.
func someCell(random *rand.Rand) metering.Cell {
	window := at("2026-10-24 00:00").Add(time.Duration(random.IntN(40)*97) * time.Minute)
	if random.IntN(4) == 0 {
		window = at("2026-10-31 20:00").Add(time.Duration(random.IntN(10)*97) * time.Minute)
	}
	return metering.Cell{
		Gateway: fmt.Sprint("g", random.IntN(2)),
		Epoch:   metering.Epoch{Counter: 1, Nonce: uint64(random.IntN(2))},
		Window:  window,
		Series: metering.SeriesKey{
			Tenant: tenants[random.IntN(len(tenants))], Route: gatehouse.RouteID(fmt.Sprint("r", random.IntN(2))),
			Consumer: []string{"", "Ann", "bob", "Ünal", "a b"}[random.IntN(5)], Plan: "free",
		},
		Meter: []string{"requests", "bytes_in"}[random.IntN(2)],
		Value: random.Int64N(1 << 40),
	}
}

func someQuery(random *rand.Rand, zones []*time.Location) Query {
	from := at("2026-10-22 00:00").Add(time.Duration(random.IntN(6*minutesPerDay)) * time.Minute)
	q := Query{
		AllTenants: true, Meter: []string{"requests", "bytes_in", "nix"}[min(random.IntN(9), 8)%2], From: from,
		To:     from.Add(time.Duration(1+random.IntN(8*minutesPerDay)) * time.Minute),
		Window: []Window{Minute, Hour, Day, Month, None}[random.IntN(5)],
		Zone:   zones[random.IntN(len(zones))], Limit: []int{3, 100, 1000}[min(random.IntN(8), 2)],
	}
	if q.Window == Minute { // the model is slow
		q.To = from.Add(100 * time.Minute)
	}
	for _, d := range random.Perm(4)[:random.IntN(4)] {
		q.GroupBy = append(q.GroupBy, dimension[d])
	}
	if random.IntN(2) == 0 {
		q.AllTenants, q.Tenants = false, tenants[:1+random.IntN(2)]
	}
	switch random.IntN(4) {
	case 0:
		q.Filter = map[Dimension][]string{Consumer: {"", "bob"}}
	case 1:
		q.Filter = map[Dimension][]string{Route: {"r1"}, Consumer: {"Ünal", "nobody"}}
	case 2:
		if random.IntN(10) == 0 {
			q.Filter = map[Dimension][]string{Plan: nil}
		}
	}
	return q
}

// levels: the items of each window add up to those of the next.
func levels(t *testing.T, l *Ledger, zones []*time.Location) {
	for _, zone := range zones {
		q := Query{
			AllTenants: true, Meter: "requests", Zone: zone, Limit: MaxLimit,
			From: at("2026-10-24 10:37"), To: at("2026-11-01 17:11"), GroupBy: []Dimension{Tenant},
		}
		if zone != time.UTC {
			q.From = at("2026-10-31 20:37")
		}
		want := usageOf(t, l, q).Items
		for _, w := range []Window{Minute, Hour, Day, Month} {
			q.Window, q.Cursor = w, ""
			sums := map[string]int64{}
			for {
				u := usageOf(t, l, q)
				for _, i := range u.Items {
					n, _ := i.Value.Base()
					sums[i.Group[Tenant]] += n
				}
				if q.Cursor = u.Next; q.Cursor == "" {
					break
				}
			}
			for _, i := range want {
				if n, _ := i.Value.Base(); sums[i.Group[Tenant]] != n {
					t.Errorf("%s, %s: items add up to %d, and the total of %s is %d", zone, w, sums[i.Group[Tenant]], i.Group[Tenant], n)
				}
			}
		}
	}
}

// TestFewSeries: of many series, those of one tenant are looked up.
func TestFewSeries(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		var cells []metering.Cell
		for i := range 100 {
			cells = append(cells, cell("2027-03-01 10:00", gatehouse.TenantID(fmt.Sprint("t", i)), "r", "requests", int64(i)),
				cell("2027-03-01 11:59", gatehouse.TenantID(fmt.Sprint("t", i)), "r", "requests", 1000))
		}
		write(t, l, cells)
		same(t, show(usageOf(t, l, march(Query{Tenants: []gatehouse.TenantID{"t7"}, Window: Hour, GroupBy: []Dimension{Tenant}}))),
			"1007 of requests, sealed 03-01T10:00, complete false\n"+
				"03-01T10:00 03-01T11:00 7 tenant=t7\n"+
				"03-01T11:00 03-01T12:00 1000 tenant=t7\n")
		same(t, show(usageOf(t, l, march(Query{Window: Day, GroupBy: []Dimension{Tenant}, Limit: 1}))),
			"104950 of requests, sealed 03-01T10:00, complete false\n"+
				"03-01T00:00 03-02T00:00 1000 tenant=t0\n"+
				"more\n")
	})
}

// TestCursorIsOfItsQuery: a cursor cannot be carried to another query.
func TestCursorIsOfItsQuery(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		write(t, l, []metering.Cell{cell("2027-03-01 10:00", "acme", "r", "requests", 1), cell("2027-03-01 10:00", "bolt", "r", "requests", 2)})
		q := march(Query{GroupBy: []Dimension{Tenant}, Limit: 1})
		q.Cursor = usageOf(t, l, q).Next
		q.Limit = 5
		same(t, show(usageOf(t, l, q)), "3 of requests, sealed 03-01T10:00, complete false\n03-01T00:00 03-02T00:00 2 tenant=bolt\n")
		q.AllTenants, q.Tenants = false, []gatehouse.TenantID{"acme"}
		_, err := l.Usage(t.Context(), q)
		same(t, fmt.Sprint(err), "GH-CP-001 the cursor is not of this query")
	})
}
