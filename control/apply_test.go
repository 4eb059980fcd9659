package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
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
