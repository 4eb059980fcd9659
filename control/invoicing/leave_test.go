package invoicing_test

import (
	"bytes"
	"crypto/rand"
	"maps"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// A tenant that is deleted is billed to the end of its running period and no
// longer; it goes when that is done, and nobody takes over its id.
func TestTenantLeaves(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leaves(t, address(t))
		})
	}
}

func leaves(t *testing.T, address string) {
	h := open(t, address)
	index := maps.Clone(control.Index)
	maps.Copy(index, invoicing.Index)
	j, err := journal.Open(t.Context(), journal.Config{Address: address, Index: index, Clock: h.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	h.Accounts = h.accounts(j)
	p, err := control.New(t.Context(), control.Parts{
		Journal: j, SecretKey: bytes.Repeat([]byte{7}, 32), Random: rand.Reader, Now: h.clock, Books: h.Accounts,
		Check: func(*gatehouse.Document) gatehouse.Faults { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	create := func(id gatehouse.TenantID) error {
		_, err := p.CreateTenant(t.Context(), gatehouse.Tenant{ID: id}, nil, control.Mutation{Actor: "me"})
		return err
	}
	remove := func() {
		t.Helper()
		if _, err := p.DeleteTenant(t.Context(), "acme", control.Mutation{Actor: "me"}); err != nil {
			t.Fatal(err)
		}
	}
	restore := func() {
		t.Helper()
		if _, err := p.RestoreTenant(t.Context(), "acme", control.Mutation{Actor: "me"}); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(err error, want string) {
		t.Helper()
		if gatehouse.CodeOf(err) != gatehouse.CodeConflict || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want a conflict that says %q", err, want)
		}
	}
	purge := func() error {
		_, err := p.PurgeTenant(t.Context(), "acme", true, control.Mutation{Actor: "me"})
		return err
	}
	end := func(want string) {
		t.Helper()
		s, err := h.Subscription(t.Context(), "acme", "main")
		if err != nil {
			t.Fatal(err)
		}
		got := "never"
		if !s.End.IsZero() {
			got = s.End.Format("2006-01-02")
		}
		if got != want {
			t.Errorf("the subscription ends %s, want %s", got, want)
		}
	}
	if err := create("acme"); err != nil {
		t.Fatal(err)
	}
	h.price(premium)
	h.subscribe("acme", "premium")
	if _, err := h.Subscribe(t.Context(), "acme", invoicing.NewSubscription{ID: "later", Plan: "premium", Start: at("2027-01-01")}, as); err != nil {
		t.Fatal(err)
	}
	h.set("2026-01-10")
	remove()
	end("2026-02-01")
	refused(purge(), `subscription "main" ends at 2026-02-01`)
	restore()
	end("never")
	remove()
	h.set("2026-02-02")
	refused(purge(), "last invoice is not issued")
	h.seal("2026-02-02")
	h.round()
	h.set("2026-06-01")
	h.seal("2026-06-01")
	if d := h.round(); d.Finalized != 0 {
		t.Errorf("%d invoices after the end", d.Finalized)
	}
	if err := p.Upkeep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Tenant(t.Context(), "acme"); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		t.Errorf("the tenant is there after its purge: %v", err)
	}
	if _, err := h.Subscription(t.Context(), "acme", "later"); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		t.Errorf("a subscription that never began is there: %v", err)
	}
	refused(create("acme"), "was another tenant's")
	if err := create("other"); err != nil {
		t.Error(err)
	}
}
