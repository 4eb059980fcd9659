package ledger_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// TestTenantCells holds what billing reads: cells of one tenant, events and
// signed adjustments, from the first minute of a range up to its end.
func TestTenantCells(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]func(testing.TB) string{
		"SQLite":     func(t testing.TB) string { return filepath.Join(t.TempDir(), "ledger.db") },
		"PostgreSQL": servertest.Postgres,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := ledger.Open(t.Context(), address(t))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			start := time.Date(2026, 1, 31, 22, 30, 0, 0, time.UTC)
			var b metering.Batch
			add := func(tenant gatehouse.TenantID, minute int, meter string, v int64) {
				b.Cells = append(b.Cells, metering.Cell{
					Gateway: "gw", Epoch: metering.Epoch{Counter: 1, Nonce: 1<<64 - 1}, Window: start.Add(time.Duration(minute) * time.Minute), Meter: meter, Value: v,
					Series: metering.SeriesKey{Tenant: tenant, Route: "r", Consumer: "c", Plan: "p"},
				})
			}
			add("a", -1, "requests", 1) // before
			add("a", 0, "requests", 2)
			add("a", 0, "bytes_in", 3)
			add("b", 0, "requests", 4)
			add("a", 119, "requests", 5)
			add("a", 120, "requests", 6) // behind
			if err := l.Write(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			event := ledger.Event{ID: "1", Source: "s", Meter: "requests", Tenant: "a", Time: start.Add(90 * time.Second), Value: "10"}
			second := event
			second.ID = "2"
			if _, err := l.Record(t.Context(), []ledger.Event{event, second}); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Adjust(t.Context(), ledger.Adjustment{ID: "x", Tenant: "a", Meter: "requests", Time: start, Value: "-7", Reason: "r", Approver: "me"}); err != nil {
				t.Fatal(err)
			}
			var got []string
			for c, err := range l.TenantCells(t.Context(), "a", start, start.Add(2*time.Hour)) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%s %s %s %s/%s/%s/%s %s %d", c.Gateway, c.Epoch, c.Window.Format("15:04"), c.Series.Tenant, c.Series.Route, c.Series.Consumer, c.Series.Plan, c.Meter, c.Value))
			}
			slices.Sort(got)
			want := `(adjustments) 0-0000000000000000 22:30 a/// requests -7
(events) 0-0000000000000000 22:31 a/// requests 20
gw 1-ffffffffffffffff 00:29 a/r/c/p requests 5
gw 1-ffffffffffffffff 22:30 a/r/c/p bytes_in 3
gw 1-ffffffffffffffff 22:30 a/r/c/p requests 2`
			if s := strings.Join(got, "\n"); s != want {
				t.Errorf("got\n%s\nwant\n%s", s, want)
			}
		})
	}
}
