package journal_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/journal/journaltest"
)

// concurrently calls f with 0 to n-1 from several goroutines.
func concurrently(workers, n int, f func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < n; i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}

// tenant is the provisioning of a tenant with ten keys, in one event.
func tenant(i int) journal.Change {
	id := fmt.Sprintf("tenant-%06d", i)
	c := journal.Change{Actor: "ann", Kind: "tenant.create", Tenant: id, Subject: id, Expect: map[journal.Ref]int64{}}
	put := func(kind, name, body string) {
		r := journal.Ref{Kind: kind, Tenant: id, ID: name}
		c.Expect[r] = journal.Absent
		c.Puts = append(c.Puts, journal.Put{Ref: r, Body: []byte(body)})
	}
	put("tenant", id, fmt.Sprintf(`{"id":%q,"name":"Tenant %d","domain":"t%d.example.com","plan":"plan%d","status":%q,`+
		`"backends":[{"name":"app","endpoints":["http://10.0.0.1:8080"]}],"routes":[{"path":"/*","backend":"app"}]}`,
		id, i, i, i%3, []string{"active", "suspended"}[i%50/49]))
	for k := range 10 {
		put("key", fmt.Sprintf("key-%d", k), fmt.Sprintf(`{"id":"key-%d","hash":"%064d","scopes":["read","write"]}`, k, i*10+k))
	}
	return c
}

// TestLarge holds the journal against many tenants and says how long things
// take; what it checks is that they are right.
func TestLarge(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := *tenantCount
			j := journaltest.Open(t, journal.Config{Address: address(t), Index: index})
			start := time.Now()
			concurrently(64, n, func(i int) {
				if _, err := j.Commit(t.Context(), tenant(i)); err != nil {
					t.Error(err)
				}
			})
			t.Logf("created %d tenants and %d keys: %.0f tenants/s", n, 10*n, float64(n)/time.Since(start).Seconds())
			where := func(name, value string) journal.Query {
				return journal.Query{Kind: "tenant", Where: []journal.Field{{Name: name, Value: value}}}
			}
			middle := fmt.Sprintf("tenant-%06d", n/2)
			both := where("plan", "plan1")
			both.Where = append(both.Where, journal.Field{Name: "status", Value: "suspended"})
			newest := journal.Query{Kind: "tenant", Order: journal.ByNewest}
			suspended := 0
			for i := range n {
				if i%50 == 49 && i%3 == 1 {
					suspended++
				}
			}
			for _, c := range []struct {
				name string
				q    journal.Query
				want int
			}{
				{"first page", journal.Query{Kind: "tenant"}, 100},
				{"plan", where("plan", "plan1"), min((n+1)/3, 100)},
				{"plan and status", both, min(suspended, 100)},
				{"domain", where("domain", fmt.Sprintf("t%d.example.com", n/2)), 1},
				{"id prefix", journal.Query{Kind: "tenant", TenantPrefix: middle}, 1},
				{"newest", newest, 100},
				{"newest of a plan", journal.Query{Kind: "tenant", Where: both.Where[:1], Order: journal.ByNewest}, min((n+1)/3, 100)},
				{"keys of one tenant", journal.Query{Kind: "key", Tenant: &middle}, 10},
			} {
				var took []time.Duration
				for range 50 {
					start := time.Now()
					p, err := j.List(t.Context(), c.q)
					took = append(took, time.Since(start))
					if err != nil || len(p.Items) != c.want {
						t.Fatalf("%s: %d items, want %d, %v", c.name, len(p.Items), c.want, err)
					}
				}
				slices.Sort(took)
				t.Logf("list by %s: p50 %s p98 %s", c.name, took[25], took[49])
			}
			start = time.Now()
			seen := 0
			err := j.Snapshot(t.Context(), func(s *journal.Snapshot) error {
				for _, err := range s.All(t.Context()) {
					if err != nil {
						return err
					}
					seen++
				}
				return nil
			})
			if err != nil || seen != 11*n {
				t.Errorf("snapshot of %d resources, want %d, %v", seen, 11*n, err)
			}
			t.Logf("snapshot of %d resources: %s", seen, time.Since(start))
			start = time.Now()
			r, err := j.Verify(t.Context())
			if err != nil || r.Fault != nil || r.Events != uint64(n) {
				t.Errorf("verify: %+v %v", r, err)
			}
			t.Logf("verify: %.0f events/s (%d edits each)", float64(n)/time.Since(start).Seconds(), 11)
			start = time.Now()
			journaltest.Sound(t, j)
			t.Logf("verify with state: %s", time.Since(start))
		})
	}
}

func BenchmarkCommit(b *testing.B) {
	for name, address := range stores {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprint(name, "/", writers), func(b *testing.B) {
				j := journaltest.Open(b, journal.Config{Address: address(b), Index: index})
				b.ReportAllocs()
				b.ResetTimer()
				concurrently(writers, b.N, func(i int) {
					id := fmt.Sprint("t", i%1000)
					_, err := j.Commit(b.Context(), journal.Change{
						Actor: "ann", Kind: "tenant.update", Tenant: id,
						Puts: []journal.Put{{Ref: journal.Ref{Kind: "tenant", Tenant: id, ID: id}, Body: []byte(`{"plan":"p","status":"active"}`)}},
					})
					if err != nil {
						b.Error(err)
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for name, address := range stores {
		b.Run(name, func(b *testing.B) {
			const n = 10000
			j := journaltest.Open(b, journal.Config{Address: address(b)})
			concurrently(64, n, func(i int) {
				c := journal.Change{Actor: "ann", Kind: "tenant.update", Tenant: "t", Why: "a reason"}
				c.Puts = []journal.Put{{Ref: journal.Ref{Kind: "tenant", Tenant: "t", ID: fmt.Sprint(i % 100)}, Body: []byte(`{"plan":"p","status":"active"}`)}}
				if _, err := j.Commit(b.Context(), c); err != nil {
					b.Error(err)
				}
			})
			b.ReportAllocs()
			for b.Loop() {
				if r, err := j.Verify(b.Context()); err != nil || r.Fault != nil {
					b.Fatal(r, err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
