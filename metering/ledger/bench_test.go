package ledger

import (
	"database/sql"
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

var seriesOfMonth = flag.Int("series", 500, "series of BenchmarkMonth; each has two cells a day for 31 days")

func engines(b *testing.B, f func(b *testing.B, l *Ledger)) {
	b.Run("sqlite", func(b *testing.B) { f(b, open(b, filepath.Join(b.TempDir(), "ledger.db"))) })
	b.Run("postgres", func(b *testing.B) { f(b, open(b, servertest.Postgres(b))) })
}

func seriesNumber(i int) metering.SeriesKey {
	return metering.SeriesKey{
		Tenant: gatehouse.TenantID(fmt.Sprintf("tenant-%d", i/10)), Route: gatehouse.RouteID(fmt.Sprintf("route-%d", i%5)),
		Consumer: fmt.Sprintf("consumer-%d", i%10), Plan: "standard",
	}
}

// fill makes cells of as many series: of a minute and an epoch.
func fill(cells []metering.Cell, window time.Time, value int64) {
	for i := range cells {
		cells[i] = metering.Cell{
			Gateway: "gateway-1", Epoch: metering.Epoch{Counter: 1, Nonce: 7}, Window: window,
			Series: seriesNumber(i), Meter: metering.MeterRequests, Value: value,
		}
	}
}

// BenchmarkWrite writes transactions of new cells, of cells that grow, and of
// cells that were written before.
func BenchmarkWrite(b *testing.B) {
	engines(b, func(b *testing.B, l *Ledger) {
		for _, rows := range []int{1_000, 10_000} {
			cells := make([]metering.Cell, rows)
			window := at("2027-03-01 00:00").Add(time.Duration(rows) * time.Hour)
			n := int64(0)
			run := func(name string, next func()) {
				b.Run(fmt.Sprintf("%s/%d", name, rows), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						next()
						write(b, l, cells)
					}
					b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
				})
			}
			run("new", func() { window = window.Add(time.Minute); fill(cells, window, 1) })
			run("grown", func() { n++; fill(cells, window, 1+n) })
			run("replayed", func() {})
		}
	})
}

// BenchmarkMonth asks for a month of all series, and of one tenant's ten.
func BenchmarkMonth(b *testing.B) {
	engines(b, func(b *testing.B, l *Ledger) {
		cells := make([]metering.Cell, *seriesOfMonth)
		from := at("2027-03-01 00:00")
		written := 0
		for half := range 62 {
			fill(cells, from.Add(time.Duration(half)*12*time.Hour+7*time.Minute), 1000)
			write(b, l, cells)
			written += len(cells)
		}
		bytes := float64(size(b, l)) / float64(written)
		kolkata := location(b, "Asia/Kolkata")
		for name, q := range map[string]Query{
			"all/total":          {},
			"all/tenants":        {GroupBy: []Dimension{Tenant}, Limit: MaxLimit},
			"all/days":           {Window: Day},
			"all/days-kolkata":   {Window: Day, Zone: kolkata},
			"tenant/days":        {Tenants: []gatehouse.TenantID{"tenant-7"}, Window: Day},
			"tenant/hours":       {Tenants: []gatehouse.TenantID{"tenant-7"}, Window: Hour},
			"tenant/series-days": {Tenants: []gatehouse.TenantID{"tenant-7"}, Window: Day, GroupBy: []Dimension{Route, Consumer}},
		} {
			q = march(q)
			q.From, q.To = from, from.AddDate(0, 1, 0)
			if q.Zone != nil {
				q.From, q.To = q.From.Add(-330*time.Minute), q.To.Add(-330*time.Minute)
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if u := usageOf(b, l, q); u.Total.String() == "0" {
						b.Fatal("no usage")
					}
				}
				b.ReportMetric(bytes, "B/cell")
			})
		}
	})
}

// size is the bytes of the database.
func size(b *testing.B, l *Ledger) (n int64) {
	query := "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
	if l.engine == postgres {
		query = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relname LIKE 'metering%' AND relkind = 'r'"
	}
	if err := l.view(b.Context(), func(tx *sql.Tx) error { return tx.QueryRow(query).Scan(&n) }); err != nil {
		b.Fatal(err)
	}
	return n
}
