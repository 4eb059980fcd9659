package metering

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

func TestUsage(t *testing.T) {
	m := memory(t)
	acme := m.Tenant("acme")
	acme.since = noon.Add(-time.Hour)
	s := acme.Series("", "orders", []byte("ann"))
	s.Count(200, 10, 20, 1_500_000, 2500*time.Nanosecond)
	s.Count(101, 0, 0, 0, 0)
	s.Count(304, 0, 0, 0, 0)
	s.Count(429, 0, 0, 0, 0)
	s.Deny()
	s.Count(599, 0, 0, 0, 0)
	s.Count(0, 0, 0, 0, 0) // the caller went away
	s.AddBytes(1, 2)
	s.AddUnits(500_000)
	s.AddTime(time.Microsecond)
	acme.Series("", "orders", []byte("bob")).Count(200, 0, 0, 0, 0)
	acme.Series("", "items", []byte("ann")).Count(500, 0, 0, 0, 0)
	acme.Series("", "", nil).Count(404, 0, 0, 0, 0)
	m.Tenant("umbrella").Series("", "orders", []byte("ann")).Count(200, 99, 99, 99, 99)

	counts := func(n, c1, c2, c3, c4, c5, denied, in, out, us, units int) string {
		return fmt.Sprintf(`"requests":%d,"status":{"1xx":%d,"2xx":%d,"3xx":%d,"4xx":%d,"5xx":%d},"denied":%d,"bytes_in":%d,"bytes_out":%d,"compute_us":%d,"units_millionths":%d`,
			n, c1, c2, c3, c4, c5, denied, in, out, us, units)
	}
	want := `{"tenant":"acme","as_of":"2026-03-05T12:00:00Z","since":"2026-03-05T11:00:00Z",` +
		`"total":{` + counts(9, 1, 2, 1, 2, 2, 1, 11, 22, 3, 2_000_000) + `},` +
		`"routes":[{"route":"",` + counts(1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + `},` +
		`{"route":"items",` + counts(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0) + `},` +
		`{"route":"orders",` + counts(7, 1, 2, 1, 1, 1, 1, 11, 22, 3, 2_000_000) + `}],` +
		`"principals":[{"principal":"ann",` + counts(7, 1, 1, 1, 1, 2, 1, 11, 22, 3, 2_000_000) + `},` +
		`{"principal":"",` + counts(1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + `},` +
		`{"principal":"bob",` + counts(1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0) + `}],` +
		`"other_principals":{` + counts(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) + `}}`
	if got := asJSON(t, m.Usage("acme", noon)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	const none = `{"tenant":"nobody","as_of":"2026-03-05T12:00:00Z","total":`
	if got := asJSON(t, m.Usage("nobody", noon)); !strings.HasPrefix(got, none) || !strings.Contains(got, `"routes":[],"principals":[]`) {
		t.Errorf("got %s", got)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPrincipalNames(t *testing.T) {
	f := func(principal, want string) {
		t.Helper()
		m := memory(t)
		s := m.Tenant("acme").Series("", "r", []byte(principal))
		if again := m.Tenant("acme").Series("", "r", []byte(principal)); again != s {
			t.Errorf("%.20q has two series", principal)
		}
		s.Count(200, 0, 0, 0, 0)
		if got := m.Usage("acme", noon).Principals[0].Principal; got != want {
			t.Errorf("%.20q is shown as %s, want %s", principal, got, want)
		}
	}
	f("", "")
	f("ann@example.com", "ann@example.com")
	f(Overflow, string(hashed([]byte(Overflow))))
	f("jürg", "jürg")
	f(strings.Repeat("x", 128), strings.Repeat("x", 128))
	f("abc\n", "sha256:edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb")
	f("\xff", "sha256:a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89")
	// One that looks like a hash must not pass for another principal's.
	f("sha256:x", "sha256:fe8eb9ab9836bcf963c044b6f84eb71c089db399876f45e72a6c21b488da26c4")
	f(strings.Repeat("x", 10<<10), "sha256:04f8f86af2cd14ffe9bbe8da1518ce9c980ae13fba87feb386b103544e9c4c6b")
}

func TestSeriesAreApart(t *testing.T) {
	acme := memory(t).Tenant("acme")
	if acme.Series("", "a", []byte("b")) == acme.Series("", "b", []byte("a")) {
		t.Error("a route and a principal changed places")
	}
}

func TestSeriesBound(t *testing.T) {
	m := memory(t)
	acme := m.Tenant("acme")
	const beyond = 500
	for round := range 2 {
		for i := range MaxSeries + beyond {
			route := gatehouse.RouteID([]string{"a", "b"}[i%2])
			// Every third is shown by its hash, and has two entries.
			acme.Series("", route, fmt.Append(nil, []string{"p", "q", "\n"}[i%3], i)).Count(200, 1, 0, 0, 0)
		}
		u := m.Usage("acme", noon)
		n := int64(round + 1)
		got := fmt.Sprint(u.Total.Requests, u.Total.BytesIn, u.Routes[0].Requests, u.Routes[1].Requests, len(u.Principals), u.OtherPrincipals.Requests)
		want := fmt.Sprint(n*(MaxSeries+beyond), n*(MaxSeries+beyond), n*(MaxSeries+beyond)/2, n*(MaxSeries+beyond)/2, TopPrincipals, n*(MaxSeries+beyond-TopPrincipals))
		if got != want {
			t.Errorf("round %d: got %s, want %s", round, got, want)
		}
		if len(acme.series) != MaxSeries+2 {
			t.Errorf("%d series, want %d and one more for each route", len(acme.series), MaxSeries)
		}
		if want := MaxSeries + MaxSeries/3; acme.entries != want {
			t.Errorf("%d entries, want %d: two for each series that is shown by a hash", acme.entries, want)
		}
	}
}

func TestUnitsSaturate(t *testing.T) {
	m := memory(t)
	var got []int64
	for _, who := range []string{"a", "b"} {
		s := m.Tenant("acme").Series("", "r", []byte(who))
		for range 1500 {
			s.AddUnits(gatehouse.MaxUnits)
		}
		got = append(got, s.counts().Units)
	}
	got = append(got, m.Usage("acme", noon).Total.Units)
	if want := []int64{math.MaxInt64, math.MaxInt64, math.MaxInt64}; !slices.Equal(got, want) {
		t.Errorf("got %d", got)
	}
}

// Nothing is lost or counted twice when tenants and series are made while
// others count.
func TestCountRace(t *testing.T) {
	const workers, each, series = 8, 2000, 300
	b := newBench(t)
	m := b.open(b.options())
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			acme := m.Tenant("acme")
			for i := range each {
				s := acme.Series("", "r", fmt.Append(nil, (i*(w+1))%series))
				s.Count(200, 0, 0, 0, time.Microsecond)
				s.AddBytes(1, 2)
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			m.tick()
			m.Usage("acme", noon)
		}
	})
	wg.Wait()
	u := m.Usage("acme", noon)
	c := u.Total
	got := fmt.Sprint(c.Requests, c.Status.Success, c.BytesIn, c.BytesOut, c.Compute, len(m.Tenant("acme").series))
	if want := fmt.Sprint(workers*each, workers*each, workers*each, 2*workers*each, workers*each, series); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAllocations(t *testing.T) {
	acme := memory(t).Tenant("acme")
	p := []byte("ann@example.com")
	if n := testing.AllocsPerRun(100, func() { acme.Series("", "orders", p).Count(200, 1, 1, 1, 1) }); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}
