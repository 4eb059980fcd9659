package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

func event(id string) Event {
	return Event{
		ID: id, Source: "batch", Meter: "tokens", Tenant: "acme", Time: at("2027-01-15 10:30").Add(30 * time.Second),
		Value: "2.5", Consumer: "bob",
	}
}

func adjustment(id string) Adjustment {
	return Adjustment{
		ID: id, Tenant: "acme", Meter: "tokens", Time: at("2027-01-15 10:31"), Value: "-0.5",
		Reason: "test run", Approver: "eve",
	}
}

func TestRecord(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		f := func(want string, events ...Event) {
			t.Helper()
			got, err := l.Record(t.Context(), events)
			same(t, fmt.Sprint(got, err), want)
		}
		other, elsewhere := event("1"), event("1")
		other.Value = "2.6"
		elsewhere.Source = "cron"
		f("[{batch 1 recorded } {batch 2 recorded } {batch 1 duplicate } {batch 1 conflict } {cron 1 recorded }] <nil>",
			event("1"), event("2"), event("1"), other, elsewhere)
		f("[{batch 1 duplicate }] <nil>", event("1"))
		f("[{batch 1 conflict }] <nil>", other)

		again := event("1")
		again.Time = again.Time.In(location(t, "Asia/Kolkata")) // another writing of the same
		again.Value = "2.50"
		f("[{batch 1 duplicate }] <nil>", again)

		now := event("now")
		now.Time = time.Time{}
		f("[{batch now recorded }] <nil>", now)
		l.now = func() time.Time { return noon.Add(time.Hour) }
		f("[{batch now duplicate }] <nil>", now)
		l.now = func() time.Time { return noon }

		bad := func(change func(*Event), reason string) {
			t.Helper()
			e := event("bad")
			change(&e)
			f(fmt.Sprintf("[{%s %s invalid %s} {batch 2 duplicate }] <nil>", e.Source, e.ID, reason), e, event("2"))
		}
		units := "value: units are a decimal number from 0 to 9007199254.740992 with at most 6 fractional digits"
		bad(func(e *Event) { e.Value = "NaN" }, units)
		bad(func(e *Event) { e.Value = "1e3" }, units)
		bad(func(e *Event) { e.Value = "0.0000001" }, units)
		bad(func(e *Event) { e.Value = "9007199254.740993" }, units)
		bad(func(e *Event) { e.Value = "-1" }, "value is negative: that is for an adjustment")
		bad(func(e *Event) { e.Meter, e.Value = metering.MeterRequests, "1.5" }, "value: a whole number is expected")
		bad(func(e *Event) { e.Tenant = "" }, "tenant is not text of 1 to 256 bytes")
		bad(func(e *Event) { e.ID = "" }, "id is not text of 1 to 256 bytes")
		bad(func(e *Event) { e.Time = noon.AddDate(0, 0, 2) }, "time is in the future")
		bad(func(e *Event) { e.Consumer = "\xff" }, "route, consumer or plan is not text of at most 256 bytes")
		rejects, err := l.Rejects(t.Context(), noon)
		if err != nil || len(rejects) != 7 || rejects[4].Count != 1 {
			t.Error(rejects, err)
		}

		q := Query{Tenants: []gatehouse.TenantID{"acme"}, Meter: "tokens", From: at("2027-01-01 00:00"), To: at("2027-04-01 00:00"), Window: Month}
		same(t, show(usageOf(t, l, q)), "10 of units, sealed never, complete false\n"+
			"01-01T00:00 02-01T00:00 7.5\n"+
			"03-01T00:00 04-01T00:00 2.5\n")
		sound(t, l)
	})
}

func TestAdjust(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		f := func(change func(*Adjustment), want string) {
			t.Helper()
			a := adjustment("1")
			change(&a)
			got, err := l.Adjust(t.Context(), a)
			same(t, fmt.Sprint(got, " ", err), want)
		}
		if _, err := l.Record(t.Context(), []Event{event("1")}); err != nil {
			t.Fatal(err)
		}
		f(func(*Adjustment) {}, "recorded <nil>")
		f(func(*Adjustment) {}, "duplicate <nil>")
		f(func(a *Adjustment) { a.Value = "-0.6" }, "conflict <nil>")
		f(func(a *Adjustment) { a.Approver = "mallory" }, "conflict <nil>")
		f(func(a *Adjustment) { a.ID, a.EventSource, a.EventID, a.Value = "2", "batch", "1", "-4" }, "recorded <nil>")
		f(func(a *Adjustment) { a.EventSource, a.EventID = "batch", "2" }, " adjust 1: GH-CP-001 no such event: batch 2")
		f(func(a *Adjustment) { a.EventSource = "batch" }, "invalid GH-CP-001 an event is named by its source and its id")
		f(func(a *Adjustment) { a.Reason = "" }, "invalid GH-CP-001 reason is not text of 1 to 256 bytes")
		f(func(a *Adjustment) { a.Approver = "" }, "invalid GH-CP-001 approver is not text of 1 to 256 bytes")
		f(func(a *Adjustment) { a.Value = "0" }, "invalid GH-CP-001 value is zero")

		// Signed sums are exact at each size of window.
		for _, w := range []Window{Minute, Hour, Day} {
			u := usageOf(t, l, Query{AllTenants: true, Meter: "tokens", From: at("2027-01-15 00:00"), To: at("2027-01-16 00:00"), Window: w})
			total := u.Total.String()
			for _, i := range u.Items {
				total += " " + i.Value.String()
			}
			same(t, total, map[Window]string{Minute: "-2 2.5 -4.5", Hour: "-2 -2", Day: "-2 -2"}[w])
		}
		all, err := l.Adjustments(t.Context(), "acme", at("2027-01-15 00:00"), at("2027-01-16 00:00"))
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		want := adjustment("1")
		want.Recorded = noon
		same(t, fmt.Sprint(all[0]), fmt.Sprint(want))
		sound(t, l)
	})
}
