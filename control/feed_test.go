package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"pgregory.net/rapid"
)

// Whatever is changed, and however much of it a follower is told at once, it
// holds in the end what a snapshot says.
func TestDeltasLeadToSnapshot(t *testing.T) {
	p, _ := plane(t)
	seen, tested := uint64(0), 0
	rapid.Check(t, func(t *rapid.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		// Two followers: one takes each update, one comes late.
		var early, late state
		next, stop := pull(p.Follow(ctx, control.Position{}))
		defer stop()
		early.apply(must(next())) // a snapshot
		late = early.clone()
		nextLate, stopLate := pull(p.Deltas(ctx, control.Position{Revision: early.revision, Hash: early.hash}))
		defer stopLate()
		for range rapid.IntRange(5, 30).Draw(t, "changes") {
			id := gatehouse.TenantID(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant"))
			var err error
			switch rapid.SampledFrom([]string{"create", "create", "patch", "delete", "restore", "purge", "key", "rotate", "revoke", "plan"}).Draw(t, "what") {
			case "create":
				_, err = p.CreateTenant(ctx, gatehouse.Tenant{ID: id, Identity: gatehouse.Identity{APIKeys: &gatehouse.APIKeys{}}}, nil, by)
			case "patch":
				_, err = p.PatchTenant(ctx, id, json.RawMessage(fmt.Sprintf(`{"name": "n%d"}`, rapid.IntRange(0, 9).Draw(t, "n"))), nil, by)
			case "delete":
				_, err = p.DeleteTenant(ctx, id, by)
			case "restore":
				_, err = p.RestoreTenant(ctx, id, by)
			case "purge":
				_, err = p.PurgeTenant(ctx, id, true, by)
			case "key":
				_, err = p.CreateKey(ctx, id, control.NewKey{ID: gatehouse.KeyID(rapid.SampledFrom([]string{"k", "l"}).Draw(t, "key"))}, by)
			case "rotate":
				_, err = p.RotateKey(ctx, id, "k", 0, by)
			case "revoke":
				_, err = p.RevokeKey(ctx, id, "k", by)
			case "plan":
				_, err = p.ReplacePlan(ctx, "free", gatehouse.Plan{Limits: gatehouse.Limits{Concurrency: rapid.IntRange(1, 9).Draw(t, "concurrency")}}, by)
			}
			if code := gatehouse.CodeOf(err); code == gatehouse.CodeInternal || code == gatehouse.CodeUnavailable {
				t.Fatal(err)
			}
		}
		head, err := p.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		updates := 0
		for early.revision < head.Seq {
			early.apply(must(next()))
		}
		for late.revision < head.Seq {
			late.apply(must(nextLate()))
			updates++
		}
		if updates > 1 {
			t.Fatalf("%d updates for one who comes late", updates)
		}
		fresh, stopFresh := pull(p.Follow(ctx, control.Position{}))
		defer stopFresh()
		var whole state
		whole.apply(must(fresh()))
		if a, b, c := early.text(), late.text(), whole.text(); a != c || b != c {
			t.Fatalf("early %s\nlate  %s\nwhole %s", a, b, c)
		}
		seen, tested = head.Seq, tested+1
	})
	t.Logf("%d events in %d histories", seen, tested)
}

func must(u gatehouse.Update, err error) gatehouse.Update {
	if err != nil {
		panic(err)
	}
	return u
}
