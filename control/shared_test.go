package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// stores calls f for both stores.
func stores(t *testing.T, f func(t *testing.T, address string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "gatehouse.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, servertest.Postgres(t)) })
}

// Two control planes on one journal: what was changed for a revision that has
// passed is refused, whatever else is changed comes to be, and nothing is lost.
func TestTwoPlanes(t *testing.T) {
	stores(t, func(t *testing.T, address string) {
		a, _ := planeAt(t, address, time.Now)
		b, _ := planeAt(t, address, time.Now)
		ctx := t.Context()
		if _, err := a.CreateTenant(ctx, tenant(t, `{"id": "n", "name": "0"}`), nil, by); err != nil {
			t.Fatal(err)
		}
		const writers, rounds = 6, 5
		var won, stale atomic.Int64
		var running sync.WaitGroup
		for w := range writers {
			p := []*control.Plane{a, b}[w%2]
			running.Go(func() {
				for i := range rounds {
					// A counter in the name, for the revision that was read.
					now, err := p.Tenant(ctx, "n")
					if err != nil {
						t.Error(err)
						return
					}
					n, err := strconv.Atoi(now.Name)
					if err != nil {
						t.Error(err)
						return
					}
					m := by
					m.Match = &now.Revision
					_, err = p.PatchTenant(ctx, "n", json.RawMessage(fmt.Sprintf(`{"name": "%d"}`, n+1)), nil, m)
					switch code := gatehouse.CodeOf(err); code {
					case "":
						won.Add(1)
					case gatehouse.CodeStale:
						stale.Add(1)
					default:
						t.Error(err)
					}
					// A feature each, whatever the revision.
					for {
						_, err = p.PatchTenant(ctx, "n", json.RawMessage(fmt.Sprintf(`{"features": {"f%d-%d": true}}`, w, i)), nil, by)
						if gatehouse.CodeOf(err) != gatehouse.CodeStale { // overtaken too often: the caller asks again
							break
						}
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
		now, err := b.Tenant(ctx, "n")
		if err != nil {
			t.Fatal(err)
		}
		if now.Name != fmt.Sprint(won.Load()) || len(now.Features) != writers*rounds || won.Load()+stale.Load() != writers*rounds {
			t.Errorf("name %s and %d features after %d changes, %d refused", now.Name, len(now.Features), won.Load(), stale.Load())
		}
		if r, err := a.Verify(ctx); err != nil || r.Fault != nil {
			t.Error(r, err)
		}
	})
}

// A plan that is deleted while a tenant is given it: one of both is refused.
func TestPlanDeletionRace(t *testing.T) {
	stores(t, func(t *testing.T, address string) {
		a, _ := planeAt(t, address, time.Now)
		b, _ := planeAt(t, address, time.Now)
		ctx := t.Context()
		var deleted, given int
		for round := range 20 {
			id := gatehouse.PlanID(fmt.Sprintf("p%d", round))
			if _, err := a.CreatePlan(ctx, gatehouse.Plan{ID: id}, by); err != nil {
				t.Fatal(err)
			}
			var made, gone error
			var running sync.WaitGroup
			running.Go(func() { _, gone = a.DeletePlan(ctx, id, by) })
			running.Go(func() {
				_, made = b.CreateTenant(ctx, gatehouse.Tenant{ID: gatehouse.TenantID(id), Plan: id}, nil, by)
			})
			running.Wait()
			_, err := a.Plan(ctx, id)
			exists := err == nil
			switch {
			case made == nil && !exists:
				t.Fatalf("round %d: a tenant has a plan that does not exist (%v)", round, gone)
			case made != nil && exists && gone == nil:
				t.Fatalf("round %d: a deleted plan exists", round)
			case made == nil:
				given++
			default:
				deleted++
			}
			if made == nil && exists {
				if gone == nil {
					t.Fatalf("round %d: both", round)
				}
				// It is as good as before: another tenant can have it.
				if _, err := b.CreateTenant(ctx, gatehouse.Tenant{ID: gatehouse.TenantID(id) + "-2", Plan: id}, nil, by); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Logf("%d deleted, %d given", deleted, given)
	})
}

// Due tenants are purged once, with their keys and policies, whoever runs it.
func TestPurge(t *testing.T) {
	stores(t, func(t *testing.T, address string) {
		var later atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		a, j := planeAt(t, address, now)
		b, _ := planeAt(t, address, now)
		ctx := t.Context()
		for i := range 10 {
			id := gatehouse.TenantID(fmt.Sprintf("t%d", i))
			if _, err := a.CreateTenant(ctx, gatehouse.Tenant{ID: id, Domain: string(id) + ".test"}, nil, by); err != nil {
				t.Fatal(err)
			}
			if _, err := a.CreateKey(ctx, id, control.NewKey{ID: "k"}, by); err != nil {
				t.Fatal(err)
			}
			if i < 9 {
				if _, err := a.DeleteTenant(ctx, id, by); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := errors.Join(a.Upkeep(ctx), b.Upkeep(ctx)); err != nil {
			t.Fatal(err)
		}
		count := func(kind string) int {
			t.Helper()
			events, err := a.Events(ctx, control.EventFilter{Kinds: []string{kind}}, 1000)
			if err != nil {
				t.Fatal(err)
			}
			return len(events)
		}
		if n := count("tenant.purge"); n != 0 {
			t.Errorf("%d were purged within their time of grace", n)
		}
		later.Store(int64(control.DefaultGrace + time.Hour))
		var running sync.WaitGroup
		for _, p := range []*control.Plane{a, b, a, b} {
			running.Go(func() {
				if err := p.Upkeep(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		if n := count("tenant.purge"); n != 9 {
			t.Errorf("%d purges of 9 tenants", n)
		}
		left := 0
		for r, err := range j.All(ctx, "tenant", "key", "host") {
			if err != nil {
				t.Fatal(err)
			}
			if left++; !strings.HasPrefix(r.ID, "t9") && r.Tenant != "t9" {
				t.Errorf("%s is left", r.Ref)
			}
		}
		if left != 3 {
			t.Errorf("%d resources are left, not 3", left)
		}
	})
}

// Requests with one idempotency key, at once and at both: one change, and the
// same answer for all.
func TestIdempotency(t *testing.T) {
	stores(t, func(t *testing.T, address string) {
		a, _ := planeAt(t, address, time.Now)
		b, _ := planeAt(t, address, time.Now)
		m := by
		m.Idempotency.Key, m.Idempotency.Request = "k", "r"
		var revisions sync.Map
		var running sync.WaitGroup
		for i := range 12 {
			p := []*control.Plane{a, b}[i%2]
			running.Go(func() {
				made, err := p.CreateTenant(t.Context(), gatehouse.Tenant{ID: "a", Domain: "a.test"}, nil, m)
				if err != nil {
					t.Error(err)
				}
				revisions.Store(made.Revision, true)
			})
		}
		running.Wait()
		n := 0
		revisions.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("%d revisions were answered", n)
		}
		other := m
		other.Idempotency.Request = "another"
		if _, err := b.CreateTenant(t.Context(), gatehouse.Tenant{ID: "b"}, nil, other); gatehouse.CodeOf(err) != gatehouse.CodeIdempotency {
			t.Error(err)
		}
	})
}

// Pushes at once get numbers of their own.
func TestPushes(t *testing.T) {
	a, _ := plane(t)
	ctx := t.Context()
	if _, err := a.CreateTenant(ctx, gatehouse.Tenant{ID: "a"}, nil, by); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	const pushes = 6
	for i := range pushes {
		running.Go(func() {
			in := control.NewPolicy{Modules: []gatehouse.Module{{Name: "m.rego", Source: fmt.Sprintf("package gatehouse.tenant\nallow := true\n# %d", i)}}, Activate: i%2 == 0}
			if _, err := a.PushPolicy(ctx, "a", in, by); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	page, err := a.Policies(ctx, control.PolicyFilter{Tenant: "a"})
	if err != nil {
		t.Fatal(err)
	}
	active := 0
	for i, p := range page.Items {
		if p.Number != pushes-i {
			t.Errorf("the push at %d has number %d", i, p.Number)
		}
		if p.Active {
			active++
		}
	}
	if len(page.Items) != pushes || active != 1 {
		t.Errorf("%d pushes, %d active", len(page.Items), active)
	}
}

// A token that one control plane revokes is refused by the other, one that was
// made there is taken, and refusals do not flood the journal.
func TestOperators(t *testing.T) {
	stores(t, func(t *testing.T, address string) {
		a, _ := planeAt(t, address, time.Now)
		b, _ := planeAt(t, address, time.Now)
		deny := func(context.Context, control.Access) (bool, string, error) { return false, "no", nil }
		o, err := control.NewOperators(t.Context(), a, deny)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- o.Run(ctx) }()
		made, err := b.CreateToken(t.Context(), control.NewToken{Role: control.Viewer}, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := o.Authenticate(t.Context(), made.Secret, "192.0.2.1")
		if err != nil || c.ID != made.ID || c.Role != control.Viewer {
			t.Fatal(c, err)
		}
		for range 500 {
			if err := o.Authorize(t.Context(), control.Access{Operation: "x", Caller: c}); gatehouse.CodeOf(err) != gatehouse.CodeForbidden {
				t.Fatal(err)
			}
		}
		if _, err := b.RevokeToken(t.Context(), made.ID, by); err != nil {
			t.Fatal(err)
		}
		deadline := time.After(20 * time.Second)
		for i := 0; ; i++ {
			// Each time from elsewhere: failures are throttled.
			if _, err = o.Authenticate(t.Context(), made.Secret, fmt.Sprintf("198.51.%d.%d", i>>8&255, i&255)); err != nil {
				break
			}
			select {
			case <-deadline:
				t.Fatal("a revoked token is taken")
			case <-time.After(5 * time.Millisecond):
			}
		}
		if gatehouse.CodeOf(err) != gatehouse.CodeBadToken {
			t.Error(err)
		}
		for i := range 30 {
			_, err = o.Authenticate(t.Context(), "ghop_nonsense", fmt.Sprintf("2001:db8::%x", i)) // one /64
		}
		if gatehouse.CodeOf(err) != gatehouse.CodeTooManyFailures {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		events, err := a.Events(t.Context(), control.EventFilter{Kinds: []string{"access.*"}}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		told := map[string]int{}
		for _, e := range events {
			told[e.Kind+" "+e.Why]++
		}
		if told["access.refused no"] != 20 || told["access.refused 480 more within a minute"] != 1 || len(told) != 3 {
			t.Error(told)
		}
	})
}
