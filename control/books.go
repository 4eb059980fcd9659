package control

import (
	"context"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Books are what tenants owe: control/invoicing, over the same journal. Each
// method adds to c, which becomes one event with the change of the tenant, and
// expects of what it has read that it has not changed. Errors are those of a
// Plane.
type Books interface {
	// Fresh refuses, with CodeConflict, an id under which something was ever
	// billed: who comes next would take over its invoices and credit.
	Fresh(ctx context.Context, c *journal.Change, id gatehouse.TenantID) error
	// Leave ends the subscriptions of a tenant that is deleted with their running
	// period, at the purge at the latest.
	Leave(ctx context.Context, c *journal.Change, id gatehouse.TenantID, d Deletion) error
	// Return takes back what Leave did, as far as it is not billed.
	Return(ctx context.Context, c *journal.Change, id gatehouse.TenantID) error
	// Close refuses, with CodeConflict, a purge while something is to be billed.
	// Subscriptions that never began go with the tenant.
	Close(ctx context.Context, c *journal.Change, id gatehouse.TenantID) error
}

// noBooks are those of a control plane that bills nothing.
type noBooks struct{}

func (noBooks) Fresh(context.Context, *journal.Change, gatehouse.TenantID) error { return nil }

func (noBooks) Leave(context.Context, *journal.Change, gatehouse.TenantID, Deletion) error {
	return nil
}

func (noBooks) Return(context.Context, *journal.Change, gatehouse.TenantID) error { return nil }

func (noBooks) Close(context.Context, *journal.Change, gatehouse.TenantID) error { return nil }

var _ Books = noBooks{}
