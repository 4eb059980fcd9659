package policy

import (
	"errors"
	"testing"
	"time"
)

// TestAside: from the third cut on each adds nine times what it took, then
// twice that, up to a bound; and the sum is at least nine times the work.
func TestAside(t *testing.T) {
	e := &Engine{start: time.Now()}
	var a aside
	const took = 5 * time.Millisecond
	var total time.Duration
	for i := range 40 {
		c := a.cut(e, took)
		total += took
		if i < cutsAside-1 {
			if c.Aside != 0 || a.holds(e) {
				t.Errorf("aside after %d cuts: %v", i+1, c)
			}
			continue
		}
		if !a.holds(e) {
			t.Errorf("not aside after %d cuts", i+1)
		}
		if i == cutsAside-1 && (c.Aside > 9*took || c.Aside < 8*took) {
			t.Errorf("first aside for %v", c.Aside)
		}
		// The first cuts are free.
		if free := (cutsAside - 1) * took; c.Aside < 8*(total-free) {
			t.Errorf("after %d cuts that took %v: aside for %v", i+1, total, c.Aside)
		}
		if c.Took != took {
			t.Errorf("%+v", c)
		}
	}
	// Each at the full growth adds 9 << 6 times 5ms.
	before := a.until.Load()
	a.cut(e, took)
	if added := time.Duration(a.until.Load() - before); added != 2880*time.Millisecond {
		t.Errorf("added %v", added)
	}
	before = a.until.Load()
	a.cut(e, time.Second)
	if added := time.Duration(a.until.Load() - before); added != maxAside {
		t.Errorf("a long one added %v", added)
	}

	// What is long ago does not count.
	a = aside{last: -2 * cutWindow, cuts: 30}
	if c := a.cut(e, took); c.Aside != 0 {
		t.Errorf("aside for cuts of long ago: %v", c)
	}
}

// TestAsideDespiteSuccess: cheap requests between the costly ones do not help;
// the callback is told of every cut, and the baseline's denials are as ever.
func TestAsideDespiteSuccess(t *testing.T) {
	var cuts []Cut
	c := patient
	c.MaxSteps, c.CacheEntries, c.Cut = 1000, -1, func(c Cut) { cuts = append(cuts, c) }
	e := testEngine(t, c)
	p, faults := e.Compile(adversarialModule(`allow if input.plan == "cheap"
allow if { input.plan == "dear"; xs := numbers.range(1, 1000); count([1 | some a in xs; some b in xs; a == b]) == 1000 }`))
	if p == nil {
		t.Fatal(faults)
	}
	decide := func(plan string) Decision { return p.Decide(&Input{Tenant: "acme", Auth: "none", Plan: plan}) }
	for range cutsAside {
		if d := decide("cheap"); !d.Allow {
			t.Fatalf("%+v", d)
		}
		if d := decide("dear"); !errors.Is(d.Err, ErrBudget) || d.By != ByTenant {
			t.Fatalf("%+v", d)
		}
	}
	p.aside.until.Store(int64(time.Since(e.start) + time.Hour))
	for _, plan := range []string{"cheap", "dear"} {
		if d := decide(plan); !errors.Is(d.Err, ErrAside) || d.Allow || d.Status != 403 || d.By != ByTenant {
			t.Errorf("%+v", d)
		}
	}
	if d := p.Decide(&Input{Auth: "required"}); d.Err != nil || d.Status != 401 || d.By != ByBaseline {
		t.Errorf("%+v", d)
	}
	if len(cuts) != cutsAside || cuts[0].Tenant != "acme" || cuts[0].Aside != 0 || cuts[cutsAside-1].Aside == 0 {
		t.Errorf("%+v", cuts)
	}
	p.aside.until.Store(1)
	if d := decide("cheap"); !d.Allow {
		t.Errorf("not tried again: %+v", d)
	}
	if x := e.Explain(p, &Input{Auth: "none", Plan: "dear"}); !errors.Is(x.Decision.Err, ErrBudget) {
		t.Errorf("%+v", x.Decision)
	}
}
