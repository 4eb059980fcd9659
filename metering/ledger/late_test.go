package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// TestLate holds that whatever is written of watched usage is noted, by all
// three ways in, and nothing else is.
func TestLate(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		see := func(after int64, want string) {
			t.Helper()
			late, err := l.Late(t.Context(), "a", after)
			got := fmt.Sprint(late.Note, " ", clock(late.First))
			if err != nil || got != want {
				t.Errorf("got %s, want %s (%v)", got, want, err)
			}
		}
		watch := func(until string) {
			t.Helper()
			if err := l.Watch(t.Context(), map[gatehouse.TenantID]time.Time{"a": at(until), "z": at(until)}); err != nil {
				t.Fatal(err)
			}
		}
		put := func(tenant, minute string) {
			t.Helper()
			write(t, l, []metering.Cell{cell(minute, "a", "r", "requests", 1), cell(minute, "b", "r", "requests", 1)}[map[string]int{"a": 0, "b": 1}[tenant]:][:1])
		}
		put("a", "2027-02-01 10:00")
		see(0, "0 never") // nobody watches
		watch("2027-02-01 12:00")
		put("a", "2027-02-01 12:00")
		put("b", "2027-02-01 10:00")
		see(0, "0 never")
		put("a", "2027-02-01 11:59")
		see(0, "1 02-01T00:00")
		see(1, "1 never")
		watch("2027-01-01 00:00") // does not go back
		put("a", "2027-01-20 11:59")
		see(0, "2 01-20T00:00")
		see(1, "2 01-20T00:00")
		put("a", "2027-02-01 00:00")
		see(2, "3 02-01T00:00")
		if _, err := l.Record(t.Context(), []Event{{Source: "s", ID: "1", Meter: "requests", Tenant: "a", Time: at("2027-01-03 00:00"), Value: "1"}}); err != nil {
			t.Fatal(err)
		}
		see(3, "4 01-03T00:00")
		if _, err := l.Adjust(t.Context(), Adjustment{ID: "x", Tenant: "a", Meter: "requests", Time: at("2027-01-05 00:00"), Value: "-1", Reason: "r", Approver: "me"}); err != nil {
			t.Fatal(err)
		}
		see(4, "5 01-05T00:00")
		// A batch of events is one note, and what was there already is none.
		batch := []Event{
			{Source: "s", ID: "2", Meter: "requests", Tenant: "a", Time: at("2027-01-04 00:00"), Value: "1"},
			{Source: "s", ID: "3", Meter: "requests", Tenant: "a", Time: at("2027-01-06 00:00"), Value: "1"},
			{Source: "s", ID: "4", Meter: "requests", Tenant: "b", Time: at("2027-01-06 00:00"), Value: "1"},
		}
		for range 2 {
			if _, err := l.Record(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			see(5, "6 01-04T00:00")
		}
		notes, err := l.Noted(t.Context())
		if got := fmt.Sprint(notes); err != nil || got != "map[a:6]" {
			t.Error(got, err)
		}
		// An interruption is of minutes before it, whenever it is dated.
		interrupted := []metering.Cell{cell("2027-03-07 12:00", "a", "r", metering.MeterInterrupted, 1), cell("2027-03-07 12:00", "b", "r", metering.MeterInterrupted, 1)}
		write(t, l, interrupted)
		see(6, "7 03-07T00:00")
		if err := l.Watch(t.Context(), map[gatehouse.TenantID]time.Time{"c": at("2027-02-01 12:00").Add(time.Second)}); err != nil {
			t.Fatal(err)
		}
		write(t, l, []metering.Cell{cell("2027-02-01 12:00", "c", "r", "requests", 1)})
		if late, err := l.Late(t.Context(), "c", 0); err != nil || late.Note != 1 {
			t.Error("the minute that is watched in part is not noted:", late, err)
		}
	})
}
