package ledger

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

func march(q Query) Query {
	if q.Tenants == nil {
		q.AllTenants = true
	}
	if q.Meter == "" {
		q.Meter = metering.MeterRequests
	}
	if q.From.IsZero() {
		q.From, q.To = at("2027-03-01 00:00"), at("2027-03-02 00:00")
	}
	return q
}

func TestWriteKeepsTheLarger(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		small, large := cell("2027-03-01 10:00", "acme", "orders", "requests", 5), cell("2027-03-01 10:00", "acme", "orders", "requests", 9)
		write(t, l, []metering.Cell{small})
		write(t, l, []metering.Cell{large, small, large}) // one row thrice in one batch
		write(t, l, []metering.Cell{small})
		other := large
		other.Epoch.Nonce++ // a clone of the volume
		write(t, l, []metering.Cell{other})
		same(t, show(usageOf(t, l, march(Query{Window: Hour, GroupBy: []Dimension{Tenant, Route, Consumer, Plan}}))),
			"18 of requests, sealed 03-01T10:00, complete false\n"+
				"03-01T10:00 03-01T11:00 18 tenant=acme route=orders consumer=c plan=free\n")
		sound(t, l)
	})
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	for range 2 {
		l, err := Open(t.Context(), "sqlite:"+path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, l, []metering.Cell{cell("2027-03-01 10:00", "acme", "orders", "requests", 5)})
		same(t, show(usageOf(t, l, march(Query{}))), "5 of requests, sealed 03-01T10:00, complete false\n")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenFaults(t *testing.T) {
	f := func(dsn, want string) {
		t.Helper()
		l, err := Open(t.Context(), dsn)
		if err == nil {
			t.Fatalf("opened %v", l.Close())
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	f("", "no file and no address")
	f("/nowhere/at/all.db", "open ledger")
	f("postgres://%zz", "open ledger: ")
	f("postgres://nobody@127.0.0.1:1/x?connect_timeout=1", "open ledger")
}

func TestWriteRefuses(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		f := func(change func(*metering.Cell), want string) {
			t.Helper()
			c := cell("2027-03-01 10:00", "acme", "orders", "requests", 5)
			change(&c)
			err := l.Write(t.Context(), metering.Batch{Cells: []metering.Cell{c}})
			same(t, fmt.Sprint(err), "write to ledger: cell 0"+want)
		}
		f(func(c *metering.Cell) { c.Value = -1 }, " of acme: value -1 is negative")
		f(func(c *metering.Cell) { c.Window = c.Window.Add(time.Second) }, " of acme: 2027-03-01T10:00:01Z is not a whole minute")
		f(func(c *metering.Cell) { c.Window = time.Time{} }, " of acme: a time is from 2000 to 2500")
		f(func(c *metering.Cell) { c.Meter = "" }, `: gateway "g", meter "" or tenant "acme" is missing`)
		f(func(c *metering.Cell) { c.Series.Consumer = "a\xff" }, ` of "acme": a name is not text`)
		f(func(c *metering.Cell) { c.Series.Consumer = "a\x00" }, ` of "acme": a name is not text`)
		if n := count(t, l, "metering_cell"); n != 0 {
			t.Errorf("%d cells were written", n)
		}
	})
}

// TestNothingIsDeleted: the database itself keeps what was recorded.
func TestNothingIsDeleted(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		write(t, l, []metering.Cell{cell("2027-03-01 10:00", "acme", "orders", "requests", 5)})
		if _, err := l.Record(t.Context(), []Event{event("1")}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Adjust(t.Context(), adjustment("1")); err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			"DELETE FROM metering_cell", "DELETE FROM metering_event", "DELETE FROM metering_adjustment",
			"UPDATE metering_event SET value = 0", "UPDATE metering_adjustment SET value = 0",
		} {
			if _, err := l.write.Exec(statement); err == nil || !strings.Contains(err.Error(), "kept") {
				t.Errorf("%s: %v", statement, err)
			}
		}
		sound(t, l)
	})
}

// TestHugeValues: sums beyond int64 are exact, and no tenant's values spoil
// another's.
func TestHugeValues(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		for i := range 3 {
			write(t, l, []metering.Cell{
				cell(fmt.Sprintf("2027-03-01 10:0%d", i), "evil", "r", metering.MeterUnits, math.MaxInt64),
				cell(fmt.Sprintf("2027-03-01 10:0%d", i), "good", "r", metering.MeterUnits, 1_500_000),
			})
		}
		for _, w := range []Window{Hour, Day} {
			same(t, strings.ReplaceAll(show(usageOf(t, l, march(Query{Meter: metering.MeterUnits, Window: w, GroupBy: []Dimension{Tenant}}))),
				"03-01T10:00 03-01T11:00", "03-01T00:00 03-02T00:00"),
				"27670116110568.827421 of units, sealed 03-01T10:00, complete false\n"+
					"03-01T00:00 03-02T00:00 27670116110564.327421 tenant=evil\n"+
					"03-01T00:00 03-02T00:00 4.5 tenant=good\n")
		}
		sound(t, l)
	})
}

func TestSeals(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		f := func(to, want string) {
			t.Helper()
			u := usageOf(t, l, Query{AllTenants: true, Meter: "requests", From: at("2027-03-01 10:00"), To: at(to)})
			same(t, fmt.Sprint(clock(u.SealedUntil), " ", u.Complete), want)
		}
		one := cell("2027-03-01 10:00", "acme", "orders", "requests", 5)
		f("2027-03-01 10:01", "never false")
		write(t, l, []metering.Cell{cell("2027-03-01 10:01", "acme", "orders", "requests", 5)})
		f("2027-03-01 10:01", "03-01T10:01 true") // its gateway began then
		write(t, l, []metering.Cell{one})
		f("2027-03-01 10:01", "03-01T10:00 false")
		write(t, l, []metering.Cell{one}, seal("2027-03-01 10:00"))
		write(t, l, []metering.Cell{one}) // late, again: it stays sealed
		f("2027-03-01 10:01", "03-01T10:01 true")
		f("2027-03-01 10:02", "03-01T10:01 false")
		write(t, l, nil, seal("2027-03-01 10:05"))
		write(t, l, nil, seal("2027-03-01 10:04"))
		f("2027-03-01 10:06", "03-01T10:06 true")
		f("2027-03-01 10:07", "03-01T10:06 false")
		last := seal("2027-03-01 10:06")
		last.Final = true
		write(t, l, nil, last)
		f("2027-03-01 10:07", "03-01T10:06 false") // the next epoch may count in that minute
		next := cell("2027-03-01 10:06", "acme", "orders", "requests", 5)
		next.Epoch.Counter++
		write(t, l, []metering.Cell{next})
		f("2027-03-01 10:07", "03-01T10:06 false")
		write(t, l, nil, metering.Seal{Gateway: "g", Epoch: next.Epoch, Window: at("2027-03-01 10:07")})
		f("2027-03-01 10:08", "03-01T10:08 true")
		other := one
		other.Gateway = "h"
		write(t, l, []metering.Cell{other})
		f("2027-03-01 10:01", "03-01T10:00 false")
		found, err := l.Retire(t.Context(), "h")
		same(t, fmt.Sprint(found, err), "true <nil>")
		found, err = l.Retire(t.Context(), "nix")
		same(t, fmt.Sprint(found, err), "false <nil>")
		f("2027-03-01 10:08", "03-01T10:08 true")
		gateways, err := l.Gateways(t.Context())
		same(t, fmt.Sprint(gateways, err), "[{g 2027-03-01 10:08:00 +0000 UTC 0001-01-01 00:00:00 +0000 UTC} "+
			"{h 2027-03-01 10:00:00 +0000 UTC 2027-03-01 12:00:00 +0000 UTC}] <nil>")
	})
}

func TestQueryRefuses(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "ledger.db"))
	f := func(change func(*Query), want string) {
		t.Helper()
		q := march(Query{})
		change(&q)
		_, err := l.Usage(t.Context(), q)
		same(t, fmt.Sprint(gatehouse.CodeOf(err), ": ", err), "GH-CP-001: GH-CP-001 "+want)
	}
	f(func(q *Query) { q.AllTenants = false }, "a query names its tenants, or all of them")
	f(func(q *Query) { q.Tenants = []gatehouse.TenantID{"acme"} }, "a query names its tenants, or all of them")
	f(func(q *Query) { q.Meter = "" }, "a query names its meter")
	f(func(q *Query) { q.From = q.To }, "a range ends after it begins, and at most 20 years after")
	f(func(q *Query) { q.To = q.To.AddDate(21, 0, 0) }, "a range ends after it begins, and at most 20 years after")
	f(func(q *Query) { q.To = q.To.Add(1) }, "range of the query: 2027-03-02T00:00:00.000000001Z is not a whole minute")
	f(func(q *Query) { q.Window = "WEEK" }, `window "WEEK" is none of MINUTE, HOUR, DAY, MONTH and NONE`)
	f(func(q *Query) { q.GroupBy = []Dimension{Tenant, Tenant} }, `group "tenant" is not tenant, route, consumer or plan, each once`)
	f(func(q *Query) { q.GroupBy = []Dimension{"id; DROP"} }, `group "id; DROP" is not tenant, route, consumer or plan, each once`)
	f(func(q *Query) { q.Filter = map[Dimension][]string{"id": {}} }, `filter "id" is none of tenant, route, consumer and plan`)
	f(func(q *Query) { q.Limit = 10_001 }, "a limit is from 1 to 10000")
	f(func(q *Query) { q.Cursor = "nix" }, "the cursor is not of this query")
}
