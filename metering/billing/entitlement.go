package billing

import "time"

// Enforcement says what happens at a limit.
type Enforcement string

// The enforcements.
const (
	// Hard refuses what exceeds the limit. The default.
	Hard Enforcement = "hard"
	// Soft lets it pass and reports it.
	Soft Enforcement = "soft"
	// Overage lets it pass and bills it by the plan's price.
	Overage Enforcement = "overage"
)

// Entitlement is what a subscriber may use of a feature.
type Entitlement struct {
	// Feature is what may be used, by a name of the seller's choice.
	Feature string `json:"feature"`
	// Meter measures it; empty for a feature that one has or has not.
	Meter string `json:"meter,omitempty"`
	// Limit is in units of the meter, per window. Absent: unlimited.
	Limit *Decimal `json:"limit,omitempty"`
	// Window is when the usage begins anew. Absent: each billing period.
	Window Cadence `json:"window,omitzero"`
	// At is what happens at the limit.
	At Enforcement `json:"at,omitempty"`
	// From and Until bound an entitlement in time. Absent: always.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// Access is the answer to whether some usage is covered.
type Access struct {
	// Allowed says that what is wanted is covered, or may go on as overage.
	Allowed bool `json:"has_access"`
	// Balance is what is left, not below zero; absent when unlimited.
	Balance *Decimal `json:"balance,omitempty"`
	// Usage is what was used within the window.
	Usage Decimal `json:"usage"`
	// Overage is what was used beyond the limit.
	Overage Decimal `json:"overage"`
	// Reset is when the window ends; absent where nothing resets.
	Reset time.Time `json:"reset_at,omitzero"`
	// AsOf is when it was looked at.
	AsOf time.Time `json:"as_of"`
}

// WindowAt returns the window that an instant lies in, counted from the
// anchor of the subscription; billing is used where the entitlement names no
// window.
func (e Entitlement) WindowAt(at, anchor time.Time, loc *time.Location, billing Cadence) Period {
	c := e.Window
	if c.Unit == "" {
		c = billing
	}
	n := c.Index(anchor, loc, at)
	return Period{c.Boundary(anchor, loc, n), c.Boundary(anchor, loc, n+1)}
}

// Check tells whether want more units are covered, when used units were used
// in the window. Want 0 asks whether anything is left at all.
func (e Entitlement) Check(used, want Decimal, at time.Time, window Period) Access {
	a := Access{Usage: used, AsOf: at}
	begun, over := !at.Before(e.From), !e.Until.IsZero() && !at.Before(e.Until)
	if !begun || over {
		return a
	}
	if e.Meter == "" || e.Limit == nil {
		a.Allowed = true
		return a
	}
	left := e.Limit.Sub(used)
	a.Reset, a.Overage = window.End, left.Neg().Max(Decimal{})
	balance := left.Max(Decimal{})
	a.Balance = &balance
	a.Allowed = e.At == Soft || e.At == Overage || want.Cmp(left) <= 0 && left.Sign() > 0
	return a
}
