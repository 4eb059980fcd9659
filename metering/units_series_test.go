package metering

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Units of a route count in meters of their own, over kills and restarts and
// when the logs are gone; they follow the bound of the tenant's series, and
// are in no Usage.
func TestUnitSeries(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Series = 2
	m := b.open(o)
	count := func(m *Meter, consumer string, n int64) {
		s := m.Tenant("acme").Series("gold", "r", []byte(consumer))
		s.Unit("tokens").AddUnits(n)
		s.Unit("jobs").AddUnits(2 * n)
		s.Count(200, 0, 0, 7, 0)
		if one, two := s.Unit("tokens"), s.Unit("tokens"); one != two {
			t.Error("two series for one unit")
		}
	}
	for i, consumer := range []string{"ann", "bob", "eve", "joe"} {
		count(m, consumer, int64(i+1))
	}
	if u := m.Usage("acme", b.wall); u.Total.Units != 28 || u.Total.Requests != 4 {
		t.Errorf("%+v", u.Total)
	}
	end(t, m)
	m = b.open(o)
	count(m, "ann", 10)
	end(t, m)

	a, err := Read(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{}
	for _, c := range a.Cells {
		if c.Meter == "tokens" || c.Meter == "jobs" {
			sums[c.Series.Consumer+" "+c.Meter] += c.Value
		}
		if c.Series.unit != "" {
			t.Errorf("%+v", c)
		}
	}
	for _, d := range a.Dropped {
		if d.Meter == "tokens" || d.Meter == "jobs" {
			sums[d.Series.Consumer+" "+d.Meter] += d.Value
		}
	}
	var got []string
	for name, n := range sums {
		got = append(got, fmt.Sprint(name, " ", n))
	}
	slices.Sort(got)
	if text, want := strings.Join(got, ", "), "__overflow__ jobs 14, __overflow__ tokens 7, ann jobs 22, ann tokens 11, bob jobs 4, bob tokens 2"; text != want {
		t.Errorf("%s, want %s", text, want)
	}
	if n := a.Sum(MeterUnits); n != 35 {
		t.Errorf("%d units", n)
	}
	// The totals name them too.
	h := newHistory()
	h.add(SeriesKey{Tenant: "acme", Consumer: "ann", unit: "tokens"}, &values{atUnits: 5})
	h.add(SeriesKey{Tenant: "acme", Consumer: "ann"}, &values{atUnits: 6})
	var sum totals
	sum.set(h)
	again := newHistory()
	sum.add(again)
	if len(again.sums) != 2 || again.sums[SeriesKey{Tenant: "acme", Consumer: "ann", unit: "tokens"}][atUnits] != 5 {
		t.Errorf("%+v", sum)
	}
}

// The alarm is raised and taken back once.
func TestMissingAlarm(t *testing.T) {
	b := newBench(t)
	o := b.options()
	sink := &rows{latest: map[Cell]int64{}}
	o.Sinks = []Sink{sink}
	m := b.open(o)
	m.Tenant("acme").Series("", "r", nil).Count(200, 0, 0, 0, 0)
	for range 8 {
		b.pass(m, 60e9)
	}
	if _, err := m.ships[0].round(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.pass(m, 60e9)
		if _, err := m.ships[0].round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	m.alarm()
	var told []string
	for _, e := range b.told {
		if strings.Contains(e.What, "sink") {
			told = append(told, e.What)
		}
	}
	if text := strings.Join(told, ", "); text != "usage is missing from a sink, a usage sink has caught up" {
		t.Error(text, m.Sinks())
	}
	for _, s := range m.ships {
		s.close()
	}
	end(t, m)
}
