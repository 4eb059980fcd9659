package ledger_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// TestMeters holds that the meters of a tenant are those of its cells, events
// and adjustments, and no other's, whose names are none of its business.
func TestMeters(t *testing.T) {
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
			at := time.Date(2026, 1, 31, 22, 30, 0, 0, time.UTC)
			var b metering.Batch
			for i, meter := range []string{"requests", "secret-of-b"} {
				b.Cells = append(b.Cells, metering.Cell{
					Gateway: "gw", Epoch: metering.Epoch{Counter: 1, Nonce: 7}, Window: at, Meter: meter, Value: 1,
					Series: metering.SeriesKey{Tenant: []gatehouse.TenantID{"a", "b"}[i], Route: "r"},
				})
			}
			if err := l.Write(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Record(t.Context(), []ledger.Event{{ID: "1", Source: "s", Meter: "of-events", Tenant: "a", Time: at, Value: "10"}}); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Adjust(t.Context(), ledger.Adjustment{ID: "x", Tenant: "a", Meter: "adjusted", Time: at, Value: "7", Reason: "r", Approver: "me"}); err != nil {
				t.Fatal(err)
			}
			for tenant, want := range map[gatehouse.TenantID]string{"a": "[adjusted of-events requests]", "b": "[secret-of-b]", "none": "[]"} {
				if got, err := l.TenantMeters(t.Context(), tenant); err != nil || fmt.Sprint(got) != want {
					t.Errorf("%s: %v, %v; want %s", tenant, got, err, want)
				}
			}
			if got, err := l.Meters(t.Context()); err != nil || fmt.Sprint(got) != "[adjusted of-events requests secret-of-b]" {
				t.Errorf("of all: %v, %v", got, err)
			}
		})
	}
}
