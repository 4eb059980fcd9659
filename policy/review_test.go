package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// TestReview compares all of a review but times and bytes.
func TestReview(t *testing.T) {
	e := engine(t, policy.Config{Deadline: time.Minute, MaxSteps: 500})
	f := func(source, test, want string) {
		t.Helper()
		var tests []gatehouse.Module
		if test != "" {
			tests = []gatehouse.Module{module("a_test.rego", "package gatehouse.tenant_test\n\nimport data.gatehouse.tenant\n"+test)}
		}
		r, faults := e.Review([]gatehouse.Module{module("a.rego", "package gatehouse.tenant\n"+source)}, tests)
		var b strings.Builder
		for _, fault := range faults {
			fmt.Fprintf(&b, "%s:%d %s\n", fault.Pointer, fault.Line, fault.Reason)
		}
		for _, read := range r.Reads {
			fmt.Fprintf(&b, "%s %s:%d:%d\n", read.Path, read.Module, read.Line, read.Column)
		}
		if r.Uncached != nil {
			fmt.Fprintf(&b, "not kept: %s %s:%d\n", r.Uncached.Path, r.Uncached.Module, r.Uncached.Line)
		}
		fmt.Fprintf(&b, "%v %ds, %d passed %d failed, cost of %d and %v, %d failed\n", r.Cacheable, r.CacheSeconds, r.Tests.Passed, r.Tests.Failed, r.Cost.FromTests, r.Cost.Generated > 0, r.Cost.Failed)
		for _, u := range r.Near {
			fmt.Fprintf(&b, "%s: %d of %d\n", u.Limit, u.Used, u.Most)
		}
		if b.String() != want {
			t.Errorf("%s\n got %s\nwant %s", source, b.String(), want)
		}
		if c := r.Cost; c.Generated > 0 && (r.Bytes < 50_000 || c.Steps.Median < 1 || c.Steps.Most < c.Steps.Median || c.Time.Most < c.Time.Median || c.Time.Median <= 0) {
			t.Errorf("%d bytes, %+v", r.Bytes, c)
		}
	}
	f("allow if input.plan == \"gold\"\nallow if \"editor\" in input.principal.roles\n",
		"test_gold if tenant.allow with input as {\"plan\": \"gold\"}\ntest_other if {\n\tnot tenant.allow with input as {\"plan\": \"free\"}\n\tnot tenant.allow with input as {\"plan\": \"gold\"}\n}\n",
		"input.plan a.rego:2:10\ninput.principal.roles a.rego:3:22\ntrue 0s, 1 passed 1 failed, cost of 2 and true, 0 failed\n")
	f("cache_seconds := 60\nallow if input.time > 1\n", "", "input.time a.rego:3:10\ntrue 60s, 0 passed 0 failed, cost of 0 and true, 0 failed\n")
	f("allow if {\n\tinput.plan\n\tinput.time > 1\n}\n", "",
		"/modules/0/source:4 decisions cannot be kept, each request is evaluated: reads input.time, which every request has its own of\n"+
			"input.plan a.rego:3:2\ninput.time a.rego:4:2\nnot kept: reads input.time, which every request has its own of a.rego:4\nfalse 0s, 0 passed 0 failed, cost of 0 and true, 0 failed\n")
	f("allow if { xs := numbers.range(1, 25); count([1 | some a in xs; some b in xs; a == b]) == 25 }\n", "",
		"true 0s, 0 passed 0 failed, cost of 0 and true, 8 failed\nsteps of one evaluation: 500 of 500\n")
	f("allow if { xs := numbers.range(1, 18); count([1 | some a in xs; some b in xs; a == b]) == 18 }\n", "",
		"true 0s, 0 passed 0 failed, cost of 0 and true, 0 failed\nsteps of one evaluation: 408 of 500\n")
	f("allow := true\n"+strings.Repeat("x := 1\n", 1600), "", "true 0s, 0 passed 0 failed, cost of 0 and true, 0 failed\nrules: 1601 of 2000\n")
	f("allow if http.send({})\n", "", "/modules/0/source:2 undefined function http.send\nfalse 0s, 0 passed 0 failed, cost of 0 and false, 0 failed\n")
	f("allow := true\n", "test_x if nothing\n", "/tests/0/source:3 import data.gatehouse.tenant unused\n/tests/0/source:4 var nothing is unsafe\nfalse 0s, 0 passed 0 failed, cost of 0 and false, 0 failed\n")

	r, faults := e.Review(nil, nil)
	if len(faults) > 0 || !r.Cacheable || r.Cost.Generated > 0 {
		t.Errorf("%v %+v", faults, r)
	}
	if _, faults := e.Review(nil, []gatehouse.Module{module("a_test.rego", "package gatehouse.tenant_test\n")}); len(faults) != 1 || !faults[0].Warning {
		t.Errorf("%v", faults)
	}
}

// TestReviewOfHostile: measuring what is hostile ends soon.
func TestReviewOfHostile(t *testing.T) {
	e := engine(t, policy.Config{})
	for name, rules := range hostile() {
		start := time.Now()
		r, _ := e.Review([]gatehouse.Module{module("a.rego", "package gatehouse.tenant\n"+rules)}, nil)
		if r.Cost.Failed == 0 {
			t.Errorf("%s: %+v", name, r.Cost)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}
