package control_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// A change that changes nothing is answered with what there is, as it was, and
// is no event; with another revision in Match it is refused all the same.
func TestUnchanged(t *testing.T) {
	stores(t, func(t *testing.T, address string) {
		p, j := planeAt(t, address, time.Now)
		ctx := t.Context()
		doc := tenant(t, `{"id": "a", "name": "A & B", "domain": "a.test", "plan": "free", "identity": {"api_keys": {}, "jwt": [{"issuer": "i", "audience": ["a"], "algorithms": ["HS256"], "secret_file": "hs"}]}}`)
		secret := map[string][]byte{"hs": []byte("0123456789abcdef0123456789abcdef")}
		made, err := p.CreateTenant(ctx, doc, secret, by)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := p.Plan(ctx, "free")
		if err != nil {
			t.Fatal(err)
		}
		key, err := p.CreateKey(ctx, "a", control.NewKey{ID: "k", Name: "K"}, by)
		if err != nil {
			t.Fatal(err)
		}
		before, err := j.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		name := "K"
		for what, f := range map[string]func(control.Mutation) (control.Meta, error){
			"an empty patch": func(m control.Mutation) (control.Meta, error) {
				got, err := p.PatchTenant(ctx, "a", json.RawMessage(`{}`), nil, m)
				return got.Meta, err
			},
			"a patch of the same": func(m control.Mutation) (control.Meta, error) {
				got, err := p.PatchTenant(ctx, "a", json.RawMessage(`{"name": "A & B", "features": null}`), secret, m)
				return got.Meta, err
			},
			"the same document": func(m control.Mutation) (control.Meta, error) {
				got, err := p.ReplaceTenant(ctx, "a", doc, secret, m)
				return got.Meta, err
			},
			"the same revision": func(m control.Mutation) (control.Meta, error) {
				got, err := p.RollBackTenant(ctx, "a", made.Revision, m)
				return got.Meta, err
			},
			"the same plan": func(m control.Mutation) (control.Meta, error) {
				got, err := p.ReplacePlan(ctx, "free", plan.Plan, m)
				return got.Meta, err
			},
			"the same key": func(m control.Mutation) (control.Meta, error) {
				got, err := p.PatchKey(ctx, "a", "k", control.KeyPatch{Name: &name}, m)
				return got.Meta, err
			},
		} {
			want := made.Meta
			switch what {
			case "the same plan":
				want = plan.Meta
			case "the same key":
				want = key.Meta
			}
			m := by
			if got, err := f(m); err != nil || got != want {
				t.Errorf("%s: %+v, want %+v; %v", what, got, want, err)
			}
			wrong := want.Revision + 100
			m.Match = &wrong
			if _, err := f(m); gatehouse.CodeOf(err) != gatehouse.CodeStale {
				t.Errorf("%s, for another revision: %v", what, err)
			}
		}
		if after, err := j.Head(ctx); err != nil || after != before {
			t.Errorf("from revision %d to %d, %v", before.Seq, after.Seq, err)
		}
		if got, err := p.PatchTenant(ctx, "a", json.RawMessage(`{"name": "B"}`), nil, by); err != nil || got.Revision != before.Seq+1 {
			t.Errorf("a change: %+v, %v", got, err)
		}
	})
}

// A change that changes nothing keeps its answer like any other when it has an
// idempotency key: what comes between it and its repetition does not make that
// a change, and the key is not another request's.
func TestUnchangedOnce(t *testing.T) {
	stores(t, func(t *testing.T, address string) {
		p, j := planeAt(t, address, time.Now)
		ctx := t.Context()
		if _, err := p.CreateTenant(ctx, tenant(t, `{"id": "a", "name": "A", "identity": {"api_keys": {}}}`), nil, by); err != nil {
			t.Fatal(err)
		}
		if _, err := p.CreateKey(ctx, "a", control.NewKey{ID: "k", Name: "A"}, by); err != nil {
			t.Fatal(err)
		}
		if _, err := p.CreatePlan(ctx, gatehouse.Plan{ID: "p", Name: "A"}, by); err != nil {
			t.Fatal(err)
		}
		for what, f := range map[string]func(string, control.Mutation) (string, uint64, error){
			"tenant": func(name string, m control.Mutation) (string, uint64, error) {
				got, err := p.PatchTenant(ctx, "a", json.RawMessage(`{"name": "`+name+`"}`), nil, m)
				return got.Name, got.Revision, err
			},
			"plan": func(name string, m control.Mutation) (string, uint64, error) {
				got, err := p.ReplacePlan(ctx, "p", gatehouse.Plan{ID: "p", Name: name}, m)
				return got.Name, got.Revision, err
			},
			"key": func(name string, m control.Mutation) (string, uint64, error) {
				got, err := p.PatchKey(ctx, "a", "k", control.KeyPatch{Name: &name}, m)
				return got.Name, got.Revision, err
			},
		} {
			once := by
			once.Idempotency = journal.Idempotency{Key: what, Request: "to A"}
			_, first, err := f("A", once)
			if err != nil {
				t.Fatal(what, err)
			}
			if _, _, err := f("B", by); err != nil {
				t.Fatal(what, err)
			}
			before, err := j.Head(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if name, again, err := f("A", once); name != "A" || again != first || err != nil {
				t.Errorf("%s, repeated: %s at %d, not A at %d; %v", what, name, again, first, err)
			}
			once.Idempotency.Request = "to C"
			if _, _, err := f("C", once); gatehouse.CodeOf(err) != gatehouse.CodeIdempotency {
				t.Errorf("%s, another request: %v", what, err)
			}
			if after, err := j.Head(ctx); err != nil || after != before {
				t.Errorf("%s: from revision %d to %d, %v", what, before.Seq, after.Seq, err)
			}
		}
	})
}
