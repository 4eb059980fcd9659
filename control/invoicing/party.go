package invoicing

import (
	"context"
	"regexp"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/billing/render"
)

// NewSeller is a legal entity that issues invoices. Its id begins their
// numbers, which have no gap within a year: GH-2026-000123, and
// GH-CN-2026-000001 for credit notes.
type NewSeller struct {
	// ID is one to eight letters A to Z and digits.
	ID    string       `json:"id"`
	Party render.Party `json:"party"`
	// Terms is the sentence about payment; IBAN is where to pay.
	Terms string `json:"terms,omitempty"`
	IBAN  string `json:"iban,omitempty"`
	// DueDays is how long an invoice may wait for payment. Default 14.
	DueDays int `json:"due_days,omitempty"`
}

// Seller is one that is stored.
type Seller struct {
	NewSeller
	control.Meta
}

// DefaultSeller is the seller of tenants that name none.
const DefaultSeller = "GH"

const defaultDueDays = 14

var sellerID = regexp.MustCompile(`^[A-Z0-9]{1,8}$`)

// NewCustomer is a tenant as the one who pays.
type NewCustomer struct {
	// Seller is who sends the invoices. Default: DefaultSeller.
	Seller string       `json:"seller,omitempty"`
	Party  render.Party `json:"party"`
}

// Customer is one that is stored.
type Customer struct {
	NewCustomer
	control.Meta
}

func (s *Seller) due() time.Duration {
	if s.DueDays == 0 {
		return defaultDueDays * 24 * time.Hour
	}
	return time.Duration(s.DueDays) * 24 * time.Hour
}

// SetSeller creates or replaces a seller. Invoices keep what they were issued
// with.
func (a *Accounts) SetSeller(ctx context.Context, s NewSeller, m control.Mutation) (Seller, error) {
	var faults gatehouse.Faults
	if !sellerID.MatchString(s.ID) {
		faults = append(faults, gatehouse.Fault{Pointer: "/id", Reason: "is not one to eight letters A to Z and digits"})
	}
	if s.DueDays < 0 || s.DueDays > 366 {
		faults = append(faults, gatehouse.Fault{Pointer: "/due_days", Reason: "must be between 0 and 366"})
	}
	if err := invalid(faults); err != nil {
		return Seller{}, err
	}
	ref := journal.Ref{Kind: kindSeller, ID: s.ID}
	out, meta, err := commit[Seller](ctx, a, m, event{kind: "seller.set", main: kindSeller}, func(c *change) error {
		if _, err := c.read(ctx, ref, &Seller{}); err != nil {
			return err
		}
		if err := c.match(&m, ref); err != nil {
			return err
		}
		c.put(ref, Seller{NewSeller: s})
		return nil
	})
	out.Meta = meta
	return out, err
}

// Sellers returns all sellers.
func (a *Accounts) Sellers(ctx context.Context) ([]Seller, error) {
	return list[Seller](ctx, a, kindSeller, "")
}

func customerRef(tenant gatehouse.TenantID) journal.Ref {
	return journal.Ref{Kind: kindCustomer, Tenant: string(tenant), ID: "customer"}
}

// SetCustomer says who pays for a tenant.
func (a *Accounts) SetCustomer(ctx context.Context, tenant gatehouse.TenantID, doc NewCustomer, m control.Mutation) (Customer, error) {
	out, meta, err := commit[Customer](ctx, a, m, event{"customer.set", tenant, kindCustomer}, func(c *change) error {
		if err := a.Tenant(ctx, tenant); err != nil {
			return err
		}
		if _, err := c.read(ctx, customerRef(tenant), &Customer{}); err != nil {
			return err
		}
		if err := c.match(&m, customerRef(tenant)); err != nil {
			return err
		}
		if doc.Seller != "" && doc.Seller != DefaultSeller {
			found, err := c.read(ctx, journal.Ref{Kind: kindSeller, ID: doc.Seller}, &Seller{})
			if err != nil {
				return err
			}
			if !found {
				return fault("/seller", "there is no such seller", "")
			}
		}
		c.put(customerRef(tenant), Customer{NewCustomer: doc})
		return nil
	})
	out.Meta = meta
	return out, err
}

// Customer returns who pays for a tenant.
func (a *Accounts) Customer(ctx context.Context, tenant gatehouse.TenantID) (Customer, error) {
	v, meta, err := get[Customer](ctx, a, customerRef(tenant))
	v.Meta = meta
	return v, err
}

// parties reads both sides of a document.
func (c *change) parties(ctx context.Context, tenant gatehouse.TenantID) (Seller, render.Parties, error) {
	var buyer Customer
	if _, err := c.read(ctx, customerRef(tenant), &buyer); err != nil {
		return Seller{}, render.Parties{}, err
	}
	seller := Seller{NewSeller: NewSeller{ID: DefaultSeller}}
	if buyer.Seller != "" {
		seller.ID = buyer.Seller
	}
	if _, err := c.read(ctx, journal.Ref{Kind: kindSeller, ID: seller.ID}, &seller); err != nil {
		return Seller{}, render.Parties{}, err
	}
	if buyer.Party.Name == "" {
		buyer.Party.Name = string(tenant)
	}
	return seller, render.Parties{Seller: seller.Party, Buyer: buyer.Party, Terms: seller.Terms, IBAN: seller.IBAN}, nil
}
