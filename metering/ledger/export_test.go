package ledger

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

func TestExport(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "ledger.db"))
	evil := cell("2027-03-01 10:00", "acme", "orders", metering.MeterUnits, 1_500_000)
	evil.Series.Consumer = "=cmd|<a>,\""
	write(t, l, []metering.Cell{evil, cell("2027-03-01 11:00", "acme", "orders", metering.MeterUnits, 1<<62)}, seal("2027-03-01 10:00"))
	groups := []Dimension{Tenant, Consumer}
	u := usageOf(t, l, march(Query{Meter: metering.MeterUnits, Window: Hour, GroupBy: groups, Limit: 2}))
	f := func(write func(*strings.Builder) error, want string) {
		t.Helper()
		var b strings.Builder
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		same(t, b.String(), want)
	}
	items := []string{
		`{"start":"2027-03-01T10:00:00Z","end":"2027-03-01T11:00:00Z","value":"1.5","group":{"consumer":"=cmd|<a>,\"","tenant":"acme"}}`,
		`{"start":"2027-03-01T11:00:00Z","end":"2027-03-01T12:00:00Z","value":"4611686018427.387904","group":{"consumer":"c","tenant":"acme"}}`,
	}
	const head, tail = `{"meter":"units","unit":"units","from":"2027-03-01T00:00:00Z","to":"2027-03-02T00:00:00Z","window":"HOUR",`,
		`"total":"4611686018428.887904","as_of":"2027-03-01T12:00:00Z","sealed_until":"2027-03-01T10:01:00Z","complete":false}` + "\n"
	f(func(b *strings.Builder) error { return u.WriteJSON(b) }, head+`"items":[`+strings.Join(items, ",")+"],"+tail)
	f(func(b *strings.Builder) error { return u.WriteNDJSON(b) },
		`{"meter":"units",`+items[0][1:]+"\n"+`{"meter":"units",`+items[1][1:]+"\n"+head+tail)
	f(func(b *strings.Builder) error { return u.WriteCSV(b, groups) }, `meter,unit,start,end,value,tenant,consumer
units,units,2027-03-01T10:00:00Z,2027-03-01T11:00:00Z,1.5,acme,"'=cmd|<a>,"""
units,units,2027-03-01T11:00:00Z,2027-03-01T12:00:00Z,4611686018427.387904,acme,c
`)
	all := usageOf(t, l, march(Query{Meter: metering.MeterUnits}))
	f(func(b *strings.Builder) error { return all.WriteCSV(b, nil) }, `meter,unit,start,end,value
units,units,2027-03-01T00:00:00Z,2027-03-02T00:00:00Z,4611686018428.887904
`)
	f(func(b *strings.Builder) error { return all.WriteJSON(b) },
		strings.Replace(head, "HOUR", "NONE", 1)+`"items":[],`+tail)

	// What is written as events another ledger takes.
	u.Items = u.Items[:1]
	var b strings.Builder
	if err := u.WriteEvents(&b, "gatehouse/usage", ""); err != nil {
		t.Fatal(err)
	}
	events, err := ReadEvents(EventsType+"; charset=utf-8", strings.NewReader(b.String()))
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	other := open(t, filepath.Join(t.TempDir(), "other.db"))
	for _, want := range []Verdict{Recorded, Duplicate} {
		if got, err := other.Record(t.Context(), events); err != nil || got[0].Verdict != want {
			t.Error(got, err)
		}
	}
	same(t, show(usageOf(t, other, march(Query{Meter: metering.MeterUnits, GroupBy: groups}))),
		"1.5 of units, sealed never, complete false\n03-01T00:00 03-02T00:00 1.5 tenant=acme consumer==cmd|<a>,\"\n")
}

func TestReadEvents(t *testing.T) {
	f := func(kind, body, want string) {
		t.Helper()
		events, err := ReadEvents(kind, strings.NewReader(body))
		got := fmt.Sprint(events)
		if err != nil {
			got = string(gatehouse.CodeOf(err)) + " " + err.(*gatehouse.Error).Message //nolint:errorlint // as it is returned
		}
		same(t, got, want)
	}
	const one = `{"specversion":"1.0","id":"1","source":"s","type":"tokens","subject":"acme","time":"2027-03-01T10:00:00+01:00","data":{"value":%s,"route":"r","extra":{}}}`
	f(EventType, fmt.Sprintf(one, "0.10"), "[{1 s tokens acme 2027-03-01 10:00:00 +0100 +0100 0.10 r  }]")
	f(EventsType, "["+fmt.Sprintf(one, `"12"`)+"]", "[{1 s tokens acme 2027-03-01 10:00:00 +0100 +0100 12 r  }]")
	f(EventsType, "[]", "[]")
	f("application/json", "[]", "GH-CP-001 events are of type application/cloudevents+json or application/cloudevents-batch+json")
	f(EventsType, "{}", "GH-CP-001 the body is not a JSON array of events")
	f(EventsType, `[{"specversion":"0.3"}]`, `GH-CP-001 event 0: specversion is "0.3", and 1.0 is expected`)
	f(EventsType, `[{"specversion":"1.0","time":"today"}]`, "GH-CP-001 event 0: time is not of RFC 3339")
	f(EventsType, `[{"specversion":"1.0","datacontenttype":"text/xml"}]`, "GH-CP-001 event 0: datacontenttype is not application/json")
	f(EventsType, `[{"specversion":"1.0","data":"x"}]`, "GH-CP-001 event 0: it is not a CloudEvent in JSON whose data is an object with a value")
	f(EventsType, "["+strings.Repeat("{},", 1000)+"{}]", "GH-CP-001 at most 1000 events at once")
}
