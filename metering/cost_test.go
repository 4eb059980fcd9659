package metering

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// BenchmarkCount is what metering costs a request: the series is found, the
// request opened, counted and closed, in a mapped live file.
func BenchmarkCount(b *testing.B) {
	m := liveMeter(b)
	acme := m.Tenant("acme")
	for i := range 1000 {
		acme.Series("gold", "orders", fmt.Append(nil, "user-", i, "@example.com"))
	}
	p := []byte("user-500@example.com")
	now := time.Now()
	a := Answer{Status: 200, BytesIn: 100, BytesOut: 2000, Time: time.Millisecond}
	one := func(p []byte) {
		f := acme.Series("gold", "orders", p).Begin(now)
		f.Answer(&a)
		f.End()
	}
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			one(p)
		}
	})
	b.Run("series", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			acme.Series("gold", "orders", p)
		}
	})
	s := acme.Series("gold", "orders", p)
	b.Run("count", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Count(200, 100, 2000, 0, time.Millisecond)
		}
	})
	b.Run("two threads, one series", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(1)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				one(p)
			}
		})
	})
	b.Run("two threads, two series", func(b *testing.B) {
		b.ReportAllocs()
		names := make(chan []byte, 64)
		for i := range cap(names) {
			names <- fmt.Append(nil, "user-", i, "@example.com")
		}
		b.RunParallel(func(pb *testing.PB) {
			p := <-names
			for pb.Next() {
				one(p)
			}
		})
	})
}

func liveMeter(b testing.TB) *Meter {
	b.Helper()
	m, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { end(b, m) })
	return m
}

// BenchmarkFlush is one flush of 10,000 series of 1,000 tenants that have all
// counted since the last.
func BenchmarkFlush(b *testing.B) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := liveMeter(b)
	var all []*Series
	for i := range 10_000 {
		t := m.Tenant(gatehouse.TenantID(fmt.Sprint("tenant-", i%1000)))
		all = append(all, t.Series("gold", "orders", fmt.Append(nil, "user-", i/1000, "@example.com")))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	m.tick()
	b.ReportAllocs()
	start := m.flush.written.Load()
	n := 0
	for b.Loop() {
		for _, s := range all {
			s.Count(200, 100, 2000, 0, time.Millisecond)
		}
		m.tick()
		n++
	}
	_ = start
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/10_000, "heap-B/series")
	b.ReportMetric(float64(logged(b, m))/float64(n), "log-B/flush")
	mapped := 0
	for _, s := range m.live.segments {
		mapped += len(s.b)
	}
	b.ReportMetric(float64(mapped)/(1<<20), "live-MiB")
}

// logged returns the bytes that are in the log of m.
func logged(t testing.TB, m *Meter) int64 {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(m.flush.wal.dir, "wal-*"))
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, name := range list[:len(list)-1] {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n + m.flush.wal.at
}
