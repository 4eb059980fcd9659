package policy

import (
	"errors"
	"testing"
	"time"
)

// TestAside: from the third cut on each adds nine times what it took, so the sum
// is nine times the work; never more, however many are under way at once.
func TestAside(t *testing.T) {
	e := &Engine{start: time.Now()}
	var a aside
	const took = 5 * time.Millisecond
	for i := range 500 {
		c := a.cut(e, took)
		if i < cutsAside-1 {
			if c.Aside != 0 || a.holds(e) {
				t.Errorf("aside after %d cuts: %v", i+1, c)
			}
			continue
		}
		if !a.holds(e) {
			t.Errorf("not aside after %d cuts", i+1)
		}
		// The first cuts are free, and some of the rest may have passed.
		all := time.Duration(i+1) * took
		if most := asideFactor * (all - (cutsAside-1)*took); c.Aside > most || c.Aside < most-time.Since(e.start) || c.Aside > 10*all {
			t.Errorf("after %d cuts that took %v: aside for %v", i+1, all, c.Aside)
		}
		if c.Took != took {
			t.Errorf("%+v", c)
		}
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
