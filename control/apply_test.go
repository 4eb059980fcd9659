package control_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// effects are what an apply did, one after the other.
func effects(t *testing.T, p *control.Plane, w control.Wanted, dry bool) string {
	t.Helper()
	m := by
	m.DryRun = dry
	all, err := p.Apply(t.Context(), w, m)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i := range all {
		e := &all[i]
		fmt.Fprintf(&b, "%s %s %s", e.Action, e.Kind, e.ID)
		if e.Action == control.ActionRefuse {
			fmt.Fprintf(&b, ": %v%s", e.Faults, e.Reason)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// A dry run says what the apply then does, also of what depends on what comes
// before it in the same apply, and changes nothing.
func TestApplyDryRun(t *testing.T) {
	p, j := plane(t)
	f := func(what string, prune bool, plans, tenants []string, want ...string) {
		t.Helper()
		w := control.Wanted{Prune: prune}
		for _, id := range plans {
			w.Plans = append(w.Plans, gatehouse.Plan{ID: gatehouse.PlanID(id)})
		}
		for _, text := range tenants {
			w.Tenants = append(w.Tenants, tenant(t, text))
		}
		before, err := j.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		dry := effects(t, p, w, true)
		if after, err := j.Head(t.Context()); err != nil || after.Seq != before.Seq {
			t.Errorf("%s: the dry run changed %v, %v", what, after, err)
		}
		if done := effects(t, p, w, false); dry != done {
			t.Errorf("%s: the dry run says\n%sand the apply\n%s", what, dry, done)
		}
		got := strings.Split(strings.TrimSpace(dry), "\n")
		for _, line := range want {
			if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, line) }) {
				t.Errorf("%s: no %q in\n%s", what, line, dry)
			}
		}
	}
	a := func(plan string, hosts ...string) string {
		return fmt.Sprintf(`{"id": "a", "plan": %q, "domain": %q}`, plan, strings.Join(hosts, ""))
	}
	b := func(plan, host string) string {
		return fmt.Sprintf(`{"id": "b", "plan": %q, "domain": %q}`, plan, host)
	}
	f("a plan that is new", false, []string{"gold"}, []string{a("gold", "a.test")}, "create plan gold", "create tenant a")
	f("a plan that is nowhere", false, nil, []string{b("none", "b.test")}, "refuse tenant b: /plan: plan \"none\" does not exist")
	f("a plan with faults", false, []string{"Not An Id"}, []string{b("Not An Id", "b.test")}, "refuse plan", "refuse tenant b")
	f("another tenant", false, nil, []string{b("gold", "c.test")}, "create tenant b")
	f("a host that another takes and one that it gives up", false, nil, []string{b("gold", "a.test"), a("gold", "x.test")}, "change tenant b", "change tenant a")
	f("a plan that is left", true, []string{"silver", "free", "premium", "enterprise"}, []string{a("silver", "x.test"), b("silver", "a.test")},
		"create plan silver", "change tenant a", "delete plan gold")
	f("a plan that is kept by one", true, []string{"free", "premium", "enterprise"}, []string{a("free", "x.test"), b("silver", "a.test")},
		"change tenant a", "unchanged tenant b", "refuse plan silver: ")
	f("nothing", false, []string{"silver"}, []string{a("free", "x.test")}, "unchanged plan silver", "unchanged tenant a")

	// Which of two gets a host that both want is not said before; that one of
	// them does not is.
	both := control.Wanted{Tenants: []gatehouse.Tenant{tenant(t, `{"id": "y", "domain": "y.test"}`), tenant(t, `{"id": "z", "domain": "y.test"}`)}}
	if got := effects(t, p, both, true); strings.Count(got, "refuse") != 1 || strings.Count(got, "create") != 1 {
		t.Error(got)
	}
}

// What would delete every tenant is refused, or more than was allowed, before
// anything is done; what came meanwhile is not deleted.
func TestPruneLimit(t *testing.T) {
	p, j := plane(t)
	for _, id := range []string{"a", "b"} {
		if _, err := p.CreateTenant(t.Context(), gatehouse.Tenant{ID: gatehouse.TenantID(id)}, nil, by); err != nil {
			t.Fatal(err)
		}
	}
	plans := []gatehouse.Plan{{ID: "free"}, {ID: "premium"}, {ID: "enterprise"}, {ID: "new"}}
	f := func(what string, w control.Wanted, dry bool, want gatehouse.Code, deleted int) {
		t.Helper()
		w.Prune = true
		before, err := j.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := by
		m.DryRun = dry
		all, err := p.Apply(t.Context(), w, m)
		if err != nil { // as the command line asks
			m.Idempotency = journal.Idempotency{Key: what, Request: what}
			_, err = p.Apply(t.Context(), w, m)
		}
		n := 0
		for i := range all {
			if all[i].Action == control.ActionDelete {
				n++
			}
		}
		after, _ := j.Head(t.Context())
		if err != nil && gatehouse.CodeOf(err) != want || err == nil && want != "" || n != deleted || (want != "" || dry) && after != before {
			t.Errorf("%s: %v, %d deleted, from %d to %d", what, err, n, before.Seq, after.Seq)
		}
	}
	f("nothing", control.Wanted{}, false, gatehouse.CodeInvalid, 0)
	f("plans only", control.Wanted{Plans: plans}, false, gatehouse.CodeInvalid, 0)
	f("tenants that are not there", control.Wanted{Plans: plans, Tenants: []gatehouse.Tenant{{ID: "x"}, {ID: "y"}}}, false, gatehouse.CodeInvalid, 0)
	f("plans that are not there", control.Wanted{Plans: []gatehouse.Plan{{ID: "x"}}, Tenants: []gatehouse.Tenant{{ID: "a"}, {ID: "b"}}}, false, gatehouse.CodeInvalid, 0)
	f("one that is refused", control.Wanted{Plans: plans, Tenants: []gatehouse.Tenant{{ID: "a"}, {ID: "x", Plan: "none"}}}, true, "", 0)
	f("too few", control.Wanted{PruneLimit: 4}, false, gatehouse.CodeConflict, 0)
	f("a dry run", control.Wanted{}, true, "", 5)
	f("a dry run with too few", control.Wanted{PruneLimit: 1}, true, gatehouse.CodeConflict, 0)
	f("one of two", control.Wanted{Plans: plans, Tenants: []gatehouse.Tenant{{ID: "b"}}}, false, "", 1)
	f("the last", control.Wanted{Plans: plans, PruneLimit: 1}, false, "", 1)
	f("plans by plans", control.Wanted{Plans: plans[3:]}, false, "", 3)
	f("all plans", control.Wanted{}, false, gatehouse.CodeInvalid, 0)
	f("all plans, as is meant", control.Wanted{PruneLimit: 10}, false, "", 1)
	f("nothing of nothing", control.Wanted{}, false, "", 0)
}

// An apply that would be refused now is answered as it was when it was made.
func TestPruneRepeated(t *testing.T) {
	p, _ := plane(t)
	for _, id := range []string{"a", "b"} {
		if _, err := p.CreateTenant(t.Context(), gatehouse.Tenant{ID: gatehouse.TenantID(id)}, nil, by); err != nil {
			t.Fatal(err)
		}
	}
	w := control.Wanted{Plans: []gatehouse.Plan{{ID: "free"}, {ID: "premium"}, {ID: "enterprise"}}, Tenants: []gatehouse.Tenant{{ID: "b"}}, Prune: true}
	once := by
	once.Idempotency = journal.Idempotency{Key: "k", Request: "r"}
	first, err := p.Apply(t.Context(), w, once)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), control.Wanted{PruneLimit: 10, Prune: true, Tenants: []gatehouse.Tenant{{ID: "c"}}}, by); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), w, by); gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
		t.Fatalf("anew: %v", err)
	}
	if again, err := p.Apply(t.Context(), w, once); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("%+v, and again %+v: %v", first, again, err)
	}
}

// Nothing is deleted while anything that is wanted is refused, which is said of
// each that stays.
func TestPruneSpares(t *testing.T) {
	p, _ := plane(t)
	for _, id := range []string{"a", "b"} {
		if _, err := p.CreateTenant(t.Context(), gatehouse.Tenant{ID: gatehouse.TenantID(id)}, nil, by); err != nil {
			t.Fatal(err)
		}
	}
	w := control.Wanted{Prune: true, Plans: []gatehouse.Plan{{ID: "free"}, {ID: "premium"}}, Tenants: []gatehouse.Tenant{{ID: "a"}, {ID: "c", Plan: "none"}}}
	for _, dry := range []bool{true, false} {
		got := strings.Split(strings.TrimSpace(effects(t, p, w, dry)), "\n")
		want := []string{"change plan free", "change plan premium", "unchanged tenant a", "refuse tenant c: ", "refuse tenant b: ", "refuse plan enterprise: "}
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) || i > 3 && !strings.Contains(got[i], "prune deletes nothing") {
				t.Fatalf("dry run %t: %q, want %q", dry, got, want)
			}
		}
	}
	if _, err := p.Tenant(t.Context(), "b"); err != nil {
		t.Error(err)
	}
}
