package billing

// LineKind says what a line is for.
type LineKind string

// The kinds of lines.
const (
	// LineUsage is metered usage; LineRecurring is a fee per period.
	LineUsage     LineKind = "usage"
	LineRecurring LineKind = "recurring"
	// LineCredit gives back the unused part of a fee paid in advance, and
	// LineCharge takes its place, when a subscription changes within a period.
	LineCredit LineKind = "credit"
	LineCharge LineKind = "charge"
	// LineTrueUp reaches the commitment or minimum of one price, and
	// LineMinimum that of the plan.
	LineTrueUp  LineKind = "true_up"
	LineMinimum LineKind = "minimum"
	// LineAdjustment is usage of a period that has been billed already.
	LineAdjustment LineKind = "adjustment"
)

// Line is one position of an invoice. Its amounts are rounded to the minor
// unit of the invoice's currency.
type Line struct {
	// ID is unique within the invoice and the same in every run.
	ID   string   `json:"id"`
	Kind LineKind `json:"kind"`
	// Text is for the reader.
	Text string `json:"text"`
	// Price and Plan are what it was charged by.
	Price string  `json:"price,omitempty"`
	Plan  PlanRef `json:"plan,omitzero"`
	// Period is what is charged for.
	Period Period `json:"period"`
	// Quantity and UnitPrice are for the reader; UnitPrice is absent where
	// tiers and the like leave no single one.
	Quantity  Decimal  `json:"quantity"`
	UnitPrice *Decimal `json:"unit_price,omitempty"`
	// Amount is before discounts; Discount is what they take off this line.
	Amount   Decimal `json:"amount"`
	Discount Decimal `json:"discount,omitzero"`
	// Discounts sum to Discount.
	Discounts []Applied `json:"discounts,omitempty"`
	// Net is Amount - Discount, less the tax where it is contained; Tax is the
	// sum of Taxes.
	Net   Decimal   `json:"net"`
	Tax   Decimal   `json:"tax,omitzero"`
	Taxes []LineTax `json:"taxes,omitempty"`
	// Category is for the tax hook.
	Category string `json:"category,omitempty"`
	// Of is the line that a true-up belongs to.
	Of string `json:"of,omitempty"`
	// Corrects is the invoice whose period an adjustment belongs to.
	Corrects string `json:"corrects,omitempty"`
	// Trace is how Amount came about.
	Trace *Trace `json:"trace,omitempty"`
}

// Trace is what a line was computed from.
type Trace struct {
	// Cells is how many metered cells there were, and Hash the SHA-256 of
	// them in order of identity, in hexadecimal.
	Cells int    `json:"cells,omitempty"`
	Hash  string `json:"hash,omitempty"`
	// Metered is the quantity before conversion and included units.
	Metered Decimal `json:"metered,omitzero"`
	// Exact is the amount of the period before rounding, and Billed what
	// earlier lines have charged of it.
	Exact  Decimal `json:"exact,omitzero"`
	Billed Decimal `json:"billed,omitzero"`
	// Fraction is the part of the period that is charged for; absent for the
	// whole.
	Fraction *Decimal `json:"fraction,omitempty"`
	// Parts are the steps of a rating.
	Parts []Part `json:"parts,omitempty"`
}

// LineTax is one tax on one line.
type LineTax struct {
	// Code is the tax's.
	Code string `json:"code"`
	// Percent of Base is Amount.
	Percent Decimal `json:"percent"`
	Base    Decimal `json:"base"`
	Amount  Decimal `json:"amount"`
}
