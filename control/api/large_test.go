package api

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

var (
	tenantCount = flag.Int("tenants", 200, "tenants of TestLarge")
	postgres    = flag.Bool("postgres", false, "TestLarge on PostgreSQL")
)

// TestLarge measures the control plane with many tenants:
//
//	go test ./control/api -run TestLarge -v -timeout 20m -args -tenants 100000
func TestLarge(t *testing.T) {
	address := ""
	if *postgres {
		address = servertest.Postgres(t)
	}
	s := start(t, address)
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	before := heap()
	const perRequest = 1000
	began := time.Now()
	for from := 0; from < *tenantCount; from += perRequest {
		var b strings.Builder
		b.WriteString(`{"tenants": [`)
		for i := from; i < min(from+perRequest, *tenantCount); i++ {
			if i > from {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"id": "t%06d", "name": "Tenant %d", "domain": "t%d.example.com", "plan": "%s", "features": {"analytics": true},
				"backends": [{"id": "app", "endpoints": [{"url": "http://10.0.0.%d:8080"}]}],
				"routes": [{"id": "api", "match": {"path": "/api/"}, "auth": "none", "backend": "app"}, {"id": "all", "match": {"path": "/"}, "auth": "none", "backend": "app"}]}`,
				i, i, i, []string{"free", "premium", "enterprise"}[i%3], i%250+1)
		}
		b.WriteString(`]}`)
		w := s.ask("POST /api/v1/apply\n\n" + b.String())
		var out applied
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Refused > 0 || len(out.Items) != min(perRequest, *tenantCount-from) {
			t.Fatalf("%d %.500s", w.Code, w.Body)
		}
	}
	took := time.Since(began)
	t.Logf("apply: %d tenants in %v, %.0f a second", *tenantCount, took.Round(time.Millisecond), float64(*tenantCount)/took.Seconds())
	t.Logf("heap: %.1f MiB, %.1f MiB before", heap(), before)

	measure := func(what string, n int, request func(i int) string) {
		t.Helper()
		times := make([]time.Duration, n)
		for i := range times {
			r := httptest.NewRequest(http.MethodGet, request(i), http.NoBody)
			r.Header.Set("Authorization", "Bearer "+s.owner)
			w := httptest.NewRecorder()
			began := time.Now()
			s.handler.ServeHTTP(w, r)
			times[i] = time.Since(began)
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"id":"t`) {
				t.Fatalf("%s: %d %.300s", request(i), w.Code, w.Body)
			}
		}
		slices.Sort(times)
		t.Logf("%s: p50 %v, p99 %v", what, times[n/2].Round(time.Microsecond), times[n*99/100].Round(time.Microsecond))
	}
	n := min(300, *tenantCount/10)
	nth := func(i int) int { return i * (*tenantCount - 1) / n }
	measure("read one", n, func(i int) string { return fmt.Sprintf("/api/v1/tenants/t%06d", nth(i)) })
	measure("list 100", n, func(int) string { return "/api/v1/tenants" })
	next := ""
	measure("list 100, page by page", min(n, *tenantCount/100), func(int) string {
		page, err := s.plane.Tenants(t.Context(), control.TenantFilter{After: next, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		asked := "/api/v1/tenants"
		if next != "" {
			asked += "?cursor=" + next
		}
		next = page.Next
		return asked
	})
	measure("list 100 of a plan", n, func(int) string { return "/api/v1/tenants?plan=premium" })
	measure("list 100 active, newest first", n, func(int) string { return "/api/v1/tenants?status=active&sort=-updated" })
	measure("find by host", n, func(i int) string { return fmt.Sprintf("/api/v1/tenants?host=t%d.example.com", nth(i)) })
	measure("find by prefix", n, func(i int) string { return fmt.Sprintf("/api/v1/tenants?prefix=t%05d", nth(i)/10) })

	began = time.Now()
	snapshot, err := s.plane.Snapshot(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("snapshot: %v, %.1f MiB packed, heap with it %.1f MiB", time.Since(began).Round(time.Millisecond), float64(snapshot.Size())/(1<<20), heap())
	began = time.Now()
	size, lines := 0, 0
	for text := range snapshot.Parts() {
		size += len(text)
		lines++
	}
	t.Logf("reading it: %v, %d parts, %.1f MiB", time.Since(began).Round(time.Millisecond), lines, float64(size)/(1<<20))

	url, token := s.served(time.Minute), s.token(control.Gateway)
	f := follow(t, url, token, "gw", snapshot.Position)
	times := make([]time.Duration, n)
	for i := range times {
		request := fmt.Sprintf("PATCH /api/v1/tenants/t%06d\n\n"+`{"name": "changed %d"}`, nth(i), i)
		s.made(request)
		began := time.Now()
		f.update()
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	t.Logf("from the answer to the update on a stream: p50 %v, p99 %v", times[n/2].Round(time.Microsecond), times[n*99/100].Round(time.Microsecond))
}
