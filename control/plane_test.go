package control_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// plane opens a control plane on a journal of its own.
func plane(t testing.TB) (*control.Plane, *journal.Journal) {
	t.Helper()
	return planeAt(t, filepath.Join(t.TempDir(), "gatehouse.db"), time.Now)
}

// planeAt opens a control plane on a journal.
func planeAt(t testing.TB, address string, now func() time.Time) (*control.Plane, *journal.Journal) {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{Address: address, Index: control.Index})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	var baseline []gatehouse.Module
	for name, source := range policies.Baseline() {
		baseline = append(baseline, gatehouse.Module{Name: name, Source: source})
	}
	engine, err := policy.NewEngine(policy.Config{Baseline: baseline})
	if err != nil {
		t.Fatal(err)
	}
	check := func(d *gatehouse.Document) gatehouse.Faults {
		var faults gatehouse.Faults
		for i := range d.Tenants {
			_, more := engine.Compile(d.Tenants[i].Policy.Modules)
			faults = append(faults, more.Under(gatehouse.Pointer("tenants", i)+"/policy")...)
		}
		return faults
	}
	p, err := control.New(t.Context(), control.Parts{
		Journal: j, Engine: engine, Check: check, SecretKey: make([]byte, 32), Random: rand.Reader, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, j
}

func tenant(t testing.TB, text string) gatehouse.Tenant {
	t.Helper()
	var doc gatehouse.Tenant
	if faults := control.Decode([]byte(text), &doc); len(faults) > 0 {
		t.Fatal(faults)
	}
	return doc
}

var by = control.Mutation{Actor: "token:test", Why: "a test"}

// The request by which the product was first described works as it stands.
func TestFirstTenant(t *testing.T) {
	p, _ := plane(t)
	doc := tenant(t, `{"name": "Enterprise Corp", "domain": "enterprise.example.com", "plan": "enterprise",
 "features": {"ai_features": true, "advanced_analytics": true, "custom_ml_models": true, "dedicated_support": true},
 "security": {"encryption_level": "enterprise", "compliance_requirements": ["GDPR", "HIPAA", "SOX"], "audit_level": "detailed"},
 "scaling": {"auto_scaling": true, "max_instances": 100, "scaling_strategy": "predictive"}}`)
	made, err := p.CreateTenant(t.Context(), doc, nil, by)
	if err != nil {
		t.Fatal(err)
	}
	if made.ID != "enterprise-corp" || made.Revision != 2 {
		t.Errorf("id %s at revision %d", made.ID, made.Revision)
	}
	want := "/security/encryption_level /security/compliance_requirements /security/audit_level /scaling/auto_scaling /scaling/max_instances /scaling/scaling_strategy"
	if got := strings.Join(made.NotEnforced, " "); got != want {
		t.Errorf("not enforced: %s", got)
	}
	got, err := p.Tenant(t.Context(), made.ID)
	if err != nil || got.Domain != "enterprise.example.com" || !got.Features["ai_features"] {
		t.Errorf("%+v %v", got, err)
	}
}

// code runs f and tells its error's code and message.
func code(t *testing.T, f func() error) string {
	t.Helper()
	err := f()
	var e *gatehouse.Error
	if !errors.As(err, &e) {
		if err != nil {
			t.Errorf("an error without code: %v", err)
		}
		return ""
	}
	text := string(e.Code) + " " + e.Message
	var bad *control.Invalid
	if errors.As(err, &bad) {
		for _, f := range bad.Faults {
			text += "\n" + f.Pointer + " " + f.Reason
		}
	}
	return text
}

func TestTenantLife(t *testing.T) {
	p, _ := plane(t)
	ctx := t.Context()
	route := `"backends": [{"id": "app", "endpoints": [{"url": "http://127.0.0.1:9000"}]}], "routes": [{"id": "all", "match": {"path": "/"}, "auth": "none", "backend": "app"}]`
	a, err := p.CreateTenant(ctx, tenant(t, `{"id": "a", "domain": "a.test", "aliases": ["www.a.test"], `+route+`}`), nil, by)
	if err != nil {
		t.Fatal(err)
	}
	refusals := []struct {
		what string
		do   func() error
		want string
	}{
		{"the id again", func() error {
			_, err := p.CreateTenant(ctx, tenant(t, `{"id": "a"}`), nil, by)
			return err
		}, `GH-CP-003 tenant "a" exists already`},
		{"a host of another", func() error {
			_, err := p.CreateTenant(ctx, tenant(t, `{"id": "b", "domain": "www.a.test"}`), nil, by)
			return err
		}, `GH-CP-003 host "www.a.test" exists already`},
		{"no plan of that name", func() error {
			_, err := p.CreateTenant(ctx, tenant(t, `{"id": "b", "plan": "gold"}`), nil, by)
			return err
		}, "GH-CP-001 the document has faults\n/plan plan \"gold\" does not exist"},
		{"a faulty module", func() error {
			_, err := p.PatchTenant(ctx, "a", json.RawMessage(`{"policy": {"modules": [{"name": "x.rego", "source": "package other"}]}}`), nil, by)
			return err
		}, "GH-CP-001 the document has faults\n/policy/modules/0/source other is not a tenant's package"},
		{"an unknown key", func() error {
			_, err := p.PatchTenant(ctx, "a", json.RawMessage(`{"domian": "x.test"}`), nil, by)
			return err
		}, "GH-CP-001 the document has faults\n/domian unknown key"},
		{"a stale revision", func() error {
			m, old := by, a.Revision-1
			m.Match = &old
			_, err := p.PatchTenant(ctx, "a", json.RawMessage(`{"name": "A"}`), nil, m)
			return err
		}, "GH-CP-004 it is at revision 2 by now"},
		{"a missing secret", func() error {
			_, err := p.PatchTenant(ctx, "a", json.RawMessage(`{"identity": {"jwt": [{"issuer": "i", "audience": ["a"], "algorithms": ["HS256"], "secret_file": "hs"}]}}`), nil, by)
			return err
		}, "GH-CP-001 the document has faults\n/identity/jwt/0/secret_file the content of file \"hs\" is missing"},
	}
	for _, r := range refusals {
		if got := code(t, r.do); got != r.want {
			t.Errorf("%s:\n%s", r.what, got)
		}
	}
	if after, err := p.Tenant(ctx, "a"); err != nil || after.Revision != a.Revision {
		t.Errorf("a refusal changed the tenant: revision %d, %v", after.Revision, err)
	}
	// Hosts that are given up can be taken, deleted tenants hold theirs.
	if _, err := p.PatchTenant(ctx, "a", json.RawMessage(`{"aliases": null, "status": "suspended"}`), nil, by); err != nil {
		t.Fatal(err)
	}
	if _, err := p.CreateTenant(ctx, tenant(t, `{"id": "b", "domain": "www.a.test"}`), nil, by); err != nil {
		t.Error(err)
	}
	if _, err := p.DeleteTenant(ctx, "a", by); err != nil {
		t.Fatal(err)
	}
	if got := code(t, func() error {
		_, err := p.CreateTenant(ctx, tenant(t, `{"id": "c", "domain": "a.test"}`), nil, by)
		return err
	}); got != `GH-CP-003 host "a.test" exists already` {
		t.Error(got)
	}
	if got := code(t, func() error {
		_, err := p.PurgeTenant(ctx, "a", false, by)
		return err
	}); !strings.HasPrefix(got, "GH-CP-003") {
		t.Error(got)
	}
	if _, err := p.PurgeTenant(ctx, "a", true, by); err != nil {
		t.Fatal(err)
	}
	if _, err := p.CreateTenant(ctx, tenant(t, `{"id": "c", "domain": "a.test"}`), nil, by); err != nil {
		t.Error(err)
	}
}

// What data planes are told, change by change, is what a snapshot says in the
// end.
func TestFollow(t *testing.T) {
	p, _ := plane(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	secret := `{"id": "a", "identity": {"api_keys": {}, "jwt": [{"issuer": "i", "audience": ["a"], "algorithms": ["HS256"], "secret_file": "hs"}]}}`
	if _, err := p.CreateTenant(ctx, tenant(t, secret), map[string][]byte{"hs": []byte("0123456789abcdef0123456789abcdef\n")}, by); err != nil {
		t.Fatal(err)
	}
	var live state
	next, stop := pull(p.Follow(ctx, control.Position{}))
	defer stop()
	live.take(t, next)
	if !live.full || string(live.tenants["a"].Identity.JWT[0].Secret) != "0123456789abcdef0123456789abcdef" {
		t.Errorf("the first update: full %v, secret of %d bytes", live.full, len(live.tenants["a"].Identity.JWT[0].Secret))
	}
	k, err := p.CreateKey(ctx, "a", control.NewKey{ID: "one", Roles: []string{"reader"}}, by)
	if err != nil || !gatehouse.WellFormedKey(k.Secret) {
		t.Fatal(k, err)
	}
	live.take(t, next)
	if live.keys["a/one"].Hash != gatehouse.APIKey(k.Secret).Hash() {
		t.Error("the key did not arrive")
	}
	rotated, err := p.RotateKey(ctx, "a", "one", time.Hour, by)
	if err != nil || rotated.Previous.Hash != k.Hash {
		t.Fatal(rotated, err)
	}
	live.take(t, next)
	if _, err := p.DeleteTenant(ctx, "a", by); err != nil {
		t.Fatal(err)
	}
	live.take(t, next)
	if len(live.tenants)+len(live.keys) != 0 {
		t.Errorf("after the deletion: %v %v", live.tenants, live.keys)
	}
	if _, err := p.RestoreTenant(ctx, "a", by); err != nil {
		t.Fatal(err)
	}
	live.take(t, next)
	if live.keys["a/one"].Hash != rotated.Hash {
		t.Error("the key did not come back with its tenant")
	}
	if _, err := p.RevokeKey(ctx, "a", "one", by); err != nil {
		t.Fatal(err)
	}
	live.take(t, next)
	if len(live.keys) != 0 || len(live.tenants) != 1 {
		t.Errorf("in the end: %v %v", live.tenants, live.keys)
	}
	// A follower that knows the last revision gets no snapshot, one of
	// another journal does.
	again, stopAgain := pull(p.Follow(ctx, control.Position{Revision: live.revision, Hash: live.hash}))
	defer stopAgain()
	if _, err := p.PatchTenant(ctx, "a", json.RawMessage(`{"name": "A"}`), nil, by); err != nil {
		t.Fatal(err)
	}
	if u := must(again()); u.Full || u.Revision != live.revision+1 {
		t.Errorf("resumed with full %v, revision %d", u.Full, u.Revision)
	}
	foreign, stopForeign := pull(p.Follow(ctx, control.Position{Revision: live.revision, Hash: strings.Repeat("0", 64)}))
	defer stopForeign()
	if u := must(foreign()); !u.Full {
		t.Error("a position of another journal was gone on with")
	}
}
