package insight_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/insight"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
	"pgregory.net/rapid"
)

// noon is in the middle of a day of UTC.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// stores runs f on both databases.
func stores(t *testing.T, f func(*testing.T, *insight.Store)) {
	for name, address := range map[string]func(testing.TB) string{
		"SQLite":     func(t testing.TB) string { return filepath.Join(t.TempDir(), "journal.db") },
		"PostgreSQL": servertest.Postgres,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open(t, address(t)))
		})
	}
}

func open(t testing.TB, address string) *insight.Store {
	t.Helper()
	s, err := insight.Open(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// add adds minutes of a source that has added nothing yet.
func add(t testing.TB, s *insight.Store, minutes ...control.Minute) {
	t.Helper()
	if n, err := s.Add(context.Background(), control.Source{Gateway: "edge", Epoch: rand.Text()}, 1, minutes); err != nil || n != len(minutes) {
		t.Fatal(n, err)
	}
}

// minute is n requests of 1 ms, and as many of 4 ms, in a minute.
func minute(route gatehouse.RouteID, method string, class int, at time.Time, n int64) control.Minute {
	return control.Minute{
		Tenant: "studio", Route: route, At: at, Method: method, Class: class, Requests: 2 * n, BytesIn: n, BytesOut: 10 * n,
		Times: []control.TimeCount{{Micros: 1000, Count: n}, {Micros: 4000, Count: n}},
	}
}

// series are the answer to a query as text.
func series(t testing.TB, s *insight.Store, q control.AnalyticsQuery, now time.Time) string {
	t.Helper()
	a, err := s.Series(context.Background(), q, now)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s to %s by %ds\n", a.From.Format(time.DateTime), a.To.Format(time.DateTime), a.Step)
	for _, g := range a.Series {
		for _, p := range g.Points {
			fmt.Fprintf(&b, "%q %s: %d, %d errors, %d denied, %d limited, %d in, %d out, %g/%g/%g ms\n", g.Group, p.At.Format(time.DateTime),
				p.Requests, p.Errors, p.Denied, p.Limited, p.BytesIn, p.BytesOut, p.P50, p.P90, p.P99)
		}
	}
	return b.String()
}

func TestSeries(t *testing.T) {
	stores(t, func(t *testing.T, s *insight.Store) {
		refused := control.Minute{Tenant: "studio", Route: "", At: noon.Add(70 * time.Second), Method: "GET", Class: 4, Requests: 3, Denied: 3, Limited: 2}
		elsewhere := minute("api", "GET", 2, noon, 100)
		elsewhere.Tenant = "shop"
		add(t, s, minute("api", "GET", 2, noon.Add(5*time.Second), 1), minute("api", "POST", 5, noon, 2), minute("web", "GET", 2, noon.Add(time.Minute), 3), refused, elsewhere)
		add(t, s, minute("api", "GET", 2, noon.Add(59*time.Second), 9))
		f := func(from, to time.Time, step time.Duration, group string, now time.Time, want string) {
			t.Helper()
			if got := series(t, s, control.AnalyticsQuery{Tenant: "studio", From: from, To: to, Step: step, GroupBy: group}, now); got != want {
				t.Errorf("step %s by %q\ngot\n%swant\n%s", step, group, got, want)
			}
		}
		soon := noon.Add(10 * time.Minute)
		f(noon, soon, time.Minute, "", soon, `2026-03-14 12:00:00 to 2026-03-14 12:10:00 by 60s
"" 2026-03-14 12:00:00: 24, 4 errors, 0 denied, 0 limited, 12 in, 120 out, 1/4/4 ms
"" 2026-03-14 12:01:00: 9, 0 errors, 3 denied, 2 limited, 3 in, 30 out, 1/4/4 ms
`)
		f(noon.Add(time.Second), noon.Add(61*time.Second), time.Minute, "route", soon, `2026-03-14 12:00:00 to 2026-03-14 12:02:00 by 60s
"(none)" 2026-03-14 12:01:00: 3, 0 errors, 3 denied, 2 limited, 0 in, 0 out, 0/0/0 ms
"api" 2026-03-14 12:00:00: 24, 4 errors, 0 denied, 0 limited, 12 in, 120 out, 1/4/4 ms
"web" 2026-03-14 12:01:00: 6, 0 errors, 0 denied, 0 limited, 3 in, 30 out, 1/4/4 ms
`)
		f(noon, soon, 5*time.Minute, "status", soon, `2026-03-14 12:00:00 to 2026-03-14 12:10:00 by 300s
"2xx" 2026-03-14 12:00:00: 26, 0 errors, 0 denied, 0 limited, 13 in, 130 out, 1/4/4 ms
"4xx" 2026-03-14 12:00:00: 3, 0 errors, 3 denied, 2 limited, 0 in, 0 out, 0/0/0 ms
"5xx" 2026-03-14 12:00:00: 4, 4 errors, 0 denied, 0 limited, 2 in, 20 out, 1/4/4 ms
`)
		f(noon, soon, 90*time.Second, "method", soon, `2026-03-14 12:00:00 to 2026-03-14 12:10:00 by 120s
"GET" 2026-03-14 12:00:00: 29, 0 errors, 3 denied, 2 limited, 13 in, 130 out, 1/4/4 ms
"POST" 2026-03-14 12:00:00: 4, 4 errors, 0 denied, 0 limited, 2 in, 20 out, 1/4/4 ms
`)
		// What is older is there by the hour alone, and then by the day.
		f(noon, soon, time.Minute, "", noon.Add(50*time.Hour), `2026-03-14 12:00:00 to 2026-03-14 13:00:00 by 3600s
"" 2026-03-14 12:00:00: 33, 4 errors, 3 denied, 2 limited, 15 in, 150 out, 1/4/4 ms
`)
		f(noon, soon, time.Hour, "", noon.AddDate(0, 6, 0), `2026-03-14 00:00:00 to 2026-03-15 00:00:00 by 86400s
"" 2026-03-14 00:00:00: 33, 4 errors, 3 denied, 2 limited, 15 in, 150 out, 1/4/4 ms
`)
	})
}

// Whatever is written, in whatever order and parts: minutes, hours and days
// come to the same.
func TestSumsAreConserved(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "journal.db"))
	day := noon.Truncate(24 * time.Hour)
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		tenant := gatehouse.TenantID(fmt.Sprint("t", n))
		var want control.Load
		minutes := make([]control.Minute, rapid.IntRange(1, 12).Draw(r, "rows"))
		for i := range minutes {
			m := minute(gatehouse.RouteID(rapid.SampledFrom([]string{"", "a", "b"}).Draw(r, "route")), rapid.SampledFrom([]string{"GET", "PUT"}).Draw(r, "method"),
				rapid.IntRange(0, 5).Draw(r, "class"), day.Add(time.Duration(rapid.Int64Range(0, 24*3600-1).Draw(r, "at"))*time.Second), rapid.Int64Range(0, 1<<30).Draw(r, "n"))
			m.Tenant, m.Denied = tenant, m.Requests/3
			minutes[i] = m
			want.Requests, want.Denied, want.BytesIn, want.BytesOut = want.Requests+m.Requests, want.Denied+m.Denied, want.BytesIn+m.BytesIn, want.BytesOut+m.BytesOut
			if m.Class == 5 {
				want.Errors += m.Requests
			}
		}
		add(t, s, minutes...)
		for _, step := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
			for _, group := range []string{"", "route", "status", "method"} {
				a, err := s.Series(context.Background(), control.AnalyticsQuery{Tenant: tenant, From: day, To: day.Add(24 * time.Hour), Step: step, GroupBy: group}, noon)
				if err != nil {
					r.Fatal(err)
				}
				var got control.Load
				for _, g := range a.Series {
					for _, p := range g.Points {
						got.Requests, got.Denied, got.BytesIn, got.BytesOut, got.Errors = got.Requests+p.Requests, got.Denied+p.Denied, got.BytesIn+p.BytesIn, got.BytesOut+p.BytesOut, got.Errors+p.Errors
					}
				}
				if got != want {
					r.Fatalf("step %s by %q: %+v, want %+v", step, group, got, want)
				}
			}
		}
	})
}

// Minutes go after two days, hours after ninety and days after two years; what
// is coarser stays.
func TestRetention(t *testing.T) {
	stores(t, func(t *testing.T, s *insight.Store) {
		add(t, s, minute("api", "GET", 2, noon, 1), minute("api", "GET", 2, noon.Add(47*time.Hour), 1))
		f := func(now time.Time, want int64) {
			t.Helper()
			if n, err := s.Prune(context.Background(), now); err != nil || n != want {
				t.Errorf("at %s: %d, %v; want %d", now.Format(time.DateTime), n, err, want)
			}
		}
		f(noon.Add(48*time.Hour), 0)
		f(noon.Add(48*time.Hour+time.Second), 1)
		f(noon.AddDate(0, 0, 88), 1) // the other minute
		f(noon.AddDate(0, 0, 91), 1)
		f(noon.AddDate(0, 0, 100), 1)
		whole := control.AnalyticsQuery{Tenant: "studio", From: noon.Truncate(24 * time.Hour), To: noon.AddDate(0, 0, 3).Truncate(24 * time.Hour), Step: time.Hour}
		if got, want := series(t, s, whole, noon.AddDate(1, 0, 0)), `2026-03-14 00:00:00 to 2026-03-17 00:00:00 by 86400s
"" 2026-03-14 00:00:00: 2, 0 errors, 0 denied, 0 limited, 1 in, 10 out, 1/4/4 ms
"" 2026-03-16 00:00:00: 2, 0 errors, 0 denied, 0 limited, 1 in, 10 out, 1/4/4 ms
`; got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		f(noon.AddDate(3, 0, 0), 2)
	})
}

// A cancelled write has written a part, and says which: the rest can follow.
func TestAddCancelled(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "journal.db"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if n, err := s.Add(ctx, control.Source{Gateway: "edge", Epoch: "1"}, 1, []control.Minute{minute("api", "GET", 2, noon, 1)}); n != 0 || err == nil {
		t.Error(n, err)
	}
	if got := series(t, s, control.AnalyticsQuery{Tenant: "studio", From: noon, To: noon.Add(time.Minute), Step: time.Minute}, noon); strings.Count(got, "\n") != 1 {
		t.Error(got)
	}
}

// Whoever is not sure that minutes were taken sends them again, to whichever
// control plane: each counts once. Sources do not mix.
func TestAddAgain(t *testing.T) {
	for name, address := range map[string]func(testing.TB) string{
		"SQLite":     func(t testing.TB) string { return filepath.Join(t.TempDir(), "journal.db") },
		"PostgreSQL": servertest.Postgres,
	} {
		t.Run(name, func(t *testing.T) {
			at := address(t)
			both := []*insight.Store{open(t, at), open(t, at)}
			all := make([]control.Minute, 130) // three transactions
			for i := range all {
				all[i] = minute(gatehouse.RouteID(fmt.Sprint("r", i%7)), "GET", 2, noon, 1)
			}
			var running sync.WaitGroup
			for source := range 3 {
				from := control.Source{Gateway: fmt.Sprint("edge-", source/2), Epoch: fmt.Sprint(source)}
				running.Go(func() {
					for first := 0; first < len(all); first += 17 { // parts of 40, which overlap
						some := all[first:min(first+40, len(all))]
						for _, s := range both {
							if n, err := s.Add(context.Background(), from, uint64(first)+1, some); err != nil || n != len(some) {
								t.Error(n, err)
							}
						}
					}
				})
			}
			running.Wait()
			got := series(t, both[0], control.AnalyticsQuery{Tenant: "studio", From: noon, To: noon.Add(time.Minute), Step: time.Minute}, noon)
			if want := fmt.Sprintf("12:00:00: %d, 0 errors", 3*2*len(all)); !strings.Contains(got, want) {
				t.Errorf("%swant %s", got, want)
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "journal.db"))
	minutes := make([]control.Minute, 200)
	for i := range minutes {
		minutes[i] = minute("api", "GET", 2, noon, 1)
		minutes[i].Tenant = gatehouse.TenantID(fmt.Sprint("t", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		add(b, s, minutes...)
	}
	b.ReportMetric(float64(b.N*len(minutes))/b.Elapsed().Seconds(), "rows/s")
}
