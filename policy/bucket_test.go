package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// TestBuckets: what counts as a declaration, for whom, and what follows.
func TestBuckets(t *testing.T) {
	e := testEngine(t, patient)
	f := func(want string, sources ...string) {
		t.Helper()
		var ms []gatehouse.Module
		for i, s := range sources {
			ms = append(ms, gatehouse.Module{Name: fmt.Sprintf("m%d.rego", i), Source: "package gatehouse.tenant" + s})
		}
		p, faults := e.Compile(ms)
		got := ""
		if p != nil {
			got = fmt.Sprint(p.ownDoc.bucket)
		}
		for _, fault := range faults {
			got += fmt.Sprintf(" %s:%d %s (%s)", fault.Pointer, fault.Line, fault.Reason, fault.Hint)
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", strings.Join(sources, "\n---\n"), got, want)
		}
	}
	const exact = "0 /modules/0/source:2 decisions cannot be kept, each request is evaluated: reads input.time, which every request has its own of (say how coarse the time may be: cache_seconds := 60)"
	f(exact, "\nallow if input.time > 1")
	f("60", "\nallow if input.time > 1\ncache_seconds := 60")
	f("60", "\nallow if time.now_ns() > 1\ncache_seconds = 60")
	f("0", "\nallow if input.plan\ncache_seconds := 60")
	f("30", "\nallow if x\nx if input.time > 1\ncache_seconds := 60", ".sub\ncache_seconds := 30\ny if input.time > 2", "\nx if data.gatehouse.tenant.sub.y")
	f("60", "\nallow if data.gatehouse.tenant.sub.y\ncache_seconds := 60", ".sub\ny if input.time > 2")
	f("30", "\nallow if data.gatehouse.tenant.sub.y\ncache_seconds := 60", ".sub\ny if input.time > 2\ncache_seconds := 30")
	f(exact, "\nallow if input.time > 1\nallow if data.gatehouse.tenant.sub.y", ".sub\ncache_seconds := 60\ny if input.time > 2")
	f("60", "\nallow := true if { input.plan == \"x\" } else := true if { input.time > 1 }\ncache_seconds := 60")
	wrong := func(rule string) {
		t.Helper()
		f(" /modules/0/source:3 cache_seconds is not one whole number from 1 to 86400 (declare it once in its package: cache_seconds := 60)", "\nallow := true\n"+rule)
	}
	for _, rule := range []string{
		"cache_seconds := 0", "cache_seconds := -1", "cache_seconds := 86401", "cache_seconds := 1.5", `cache_seconds := "60"`,
		"cache_seconds := input.x", "cache_seconds := 60 if input.plan", "default cache_seconds := 60", "cache_seconds contains 60",
		"cache_seconds.x := 60", "cache_seconds(_) := 60", "cache_seconds if input.plan", "cache_seconds := 60 if { input.plan } else := 30",
	} {
		wrong(rule)
	}
	f(" /modules/0/source:4 cache_seconds is not one whole number from 1 to 86400 (declare it once in its package: cache_seconds := 60)",
		"\nallow := true\ncache_seconds := 60\ncache_seconds := 60")
}

// TestBucketsOfBoth: the baseline's bucket and the tenant's are each their own.
func TestBucketsOfBoth(t *testing.T) {
	c := patient
	c.Baseline = tenantModules("package gatehouse.baseline\ncache_seconds := 90\nallow if input.time % 90000000000 == 0\n")
	e, err := NewEngine(c)
	if err != nil {
		t.Fatal(err)
	}
	p, faults := e.Compile(adversarialModule("cache_seconds := 60\nallow := true\nobligations := {\"log\": {\"at\": sprintf(\"%d\", [input.time / 1000000000])}}"))
	if p == nil {
		t.Fatal(faults)
	}
	for _, at := range []int64{0, 59, 60, 89, 90, 119, 120, 179, 180, 0, 61, 95, 181} {
		want := fmt.Sprint(at / 60 * 60)
		if d := p.Decide(&Input{Time: time.Unix(at, 999)}); !d.Allow || d.Obligations.Log[0].Value != want {
			t.Errorf("at %d: %+v, want %s", at, d, want)
		}
	}
	if n := keptIn(&p.cache); n != 5 { // [0, 60), [60, 90), [90, 120), [120, 180), [180, 240)
		t.Errorf("%d decisions are kept", n)
	}
}

func keptIn(c *cache) (n int) {
	t := c.table.Load()
	for i := range t.slots {
		if t.slots[i].Load() != nil {
			n++
		}
	}
	return n
}

func TestFloor(t *testing.T) {
	f := func(ns int64, seconds int, want int64) {
		t.Helper()
		if got := floor(time.Unix(0, ns), seconds); got != want {
			t.Errorf("floor(%d, %d) = %d, want %d", ns, seconds, got, want)
		}
	}
	const s = int64(time.Second)
	f(5, 0, 5)
	f(59*s, 60, 0)
	f(60*s, 60, 60*s)
	f(13*s+1, 7, 7*s)
	f(-1, 60, -60*s)
	f(-60*s, 60, -60*s)
	f(0, 60, 0)
}
