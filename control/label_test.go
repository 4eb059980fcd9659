package control_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Names that were stored before they had a bound stay, whatever else is done to
// what has them; new ones of the kind are refused.
func TestStoredLabels(t *testing.T) {
	p, j := plane(t)
	ctx := t.Context()
	long := strings.Repeat("n", 201)
	hash := "sha256:" + strings.Repeat("a", 64)
	puts := []journal.Put{}
	for ref, body := range map[journal.Ref]string{
		{Kind: "tenant", Tenant: "a", ID: "a"}: `{"state": "active", "deleted": false, "document": {"id": "a", "name": "LONG", "security": {"compliance_requirements": ["a\nb"]},
			"identity": {"api_keys": {"keys": [{"id": "d", "hash": "` + hash + `", "roles": ["x\ty"]}]}}}}`,
		{Kind: "plan", ID: "p"}:             `{"id": "p", "name": "LONG"}`,
		{Kind: "key", Tenant: "a", ID: "k"}: `{"id": "k", "hash": "sha256:` + strings.Repeat("b", 64) + `", "name": "LONG", "roles": ["x\ty"]}`,
	} {
		puts = append(puts, journal.Put{Ref: ref, Body: json.RawMessage(strings.ReplaceAll(body, "LONG", long))})
	}
	old, err := j.Commit(ctx, journal.Change{Actor: "token:test", Kind: "old", Puts: puts})
	if err != nil {
		t.Fatal(err)
	}
	check := func(what, at string, err error) {
		t.Helper()
		switch bad, ok := errors.AsType[*control.Invalid](err); {
		case at == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case at != "" && (!ok || len(bad.Faults.Errors()) != 1 || bad.Faults.Errors()[0].Pointer != at):
			t.Errorf("%s: %v, want a fault at %s", what, err, at)
		}
	}
	patch := func(what, text, at string) {
		t.Helper()
		_, err := p.PatchTenant(ctx, "a", json.RawMessage(text), nil, by)
		check(what, at, err)
	}
	now, err := p.Tenant(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Plan(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	same := control.Wanted{Plans: []gatehouse.Plan{plan.Plan}, Tenants: []gatehouse.Tenant{now.Tenant}}
	if got := effects(t, p, same, true); got != "unchanged plan p\nunchanged tenant a\n" {
		t.Error(got)
	}
	same.Plans[0].Limits.Concurrency, same.Tenants[0].Plan = 5, "p"
	if got := effects(t, p, same, false); got != "change plan p\nchange tenant a\n" {
		t.Error(got)
	}
	patch("suspend", `{"status": "suspended"}`, "")
	patch("a requirement beside", `{"security": {"compliance_requirements": ["GDPR", "a\nb"]}}`, "")
	patch("another name", `{"name": "`+long+`n"}`, "/name")
	patch("another requirement", `{"security": {"compliance_requirements": ["GDPR", "a\nb", "a\nc"]}}`, "/security/compliance_requirements/2")
	_, err = p.DeleteTenant(ctx, "a", by)
	check("delete", "", err)
	_, err = p.RestoreTenant(ctx, "a", by)
	check("restore", "", err)
	patch("a good name", `{"name": "good"}`, "")
	patch("the name that was", `{"name": "`+long+`"}`, "/name")
	_, err = p.RollBackTenant(ctx, "a", old.Seq, by)
	check("roll the tenant back", "", err)

	doc := plan.Plan
	doc.Name = long + "n"
	_, err = p.ReplacePlan(ctx, "p", doc, by)
	check("another name of the plan", "/name", err)
	doc.Name = "good"
	_, err = p.ReplacePlan(ctx, "p", doc, by)
	check("a good name of the plan", "", err)
	_, err = p.RollBackPlan(ctx, "p", old.Seq, by)
	check("roll the plan back", "", err)

	good, bad, scopes := "good", long+"n", []string{"a", "b\n"}
	_, err = p.RotateKey(ctx, "a", "k", 0, by)
	check("rotate", "", err)
	_, err = p.PatchKey(ctx, "a", "k", control.KeyPatch{Name: &bad}, by)
	check("another name of the key", "/name", err)
	_, err = p.PatchKey(ctx, "a", "k", control.KeyPatch{Scopes: &scopes}, by)
	check("a scope", "/scopes/1", err)
	_, err = p.PatchKey(ctx, "a", "k", control.KeyPatch{Name: &good}, by)
	check("a good name of the key", "", err)
	_, err = p.RollBackKey(ctx, "a", "k", old.Seq, by)
	check("roll the key back", "", err)
	_, err = p.CreateKey(ctx, "a", control.NewKey{Name: long}, by)
	check("make a key", "/name", err)
	_, err = p.CreateTenant(ctx, gatehouse.Tenant{ID: "b", Name: long}, nil, by)
	check("make a tenant", "/name", err)
	_, err = p.CreatePlan(ctx, gatehouse.Plan{ID: "q", Name: long}, by)
	check("make a plan", "/name", err)
}
