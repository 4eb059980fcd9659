package billing

import "github.com/gatehouse-gateway/gatehouse"

// Model is how a quantity becomes an amount.
type Model string

// The models.
const (
	// Flat is Amount, whatever the quantity.
	Flat Model = "flat"
	// PerUnit is Amount for each unit.
	PerUnit Model = "per_unit"
	// Graduated prices each unit by the tier that it falls into.
	Graduated Model = "graduated"
	// Volume prices all units by the tier that the last one falls into.
	Volume Model = "volume"
	// Package is Amount for each begun package of Size units.
	Package Model = "package"
	// Percentage is Rate percent of each event's amount and Fee for each event.
	Percentage Model = "percentage"
	// GraduatedPercentage takes of each part of the amount the rate of the
	// tier that it falls into.
	GraduatedPercentage Model = "graduated_percentage"
	// VolumePercentage takes of the whole amount the rate of its tier.
	VolumePercentage Model = "volume_percentage"
	// Blocks is packages whose size and price change from tier to tier.
	Blocks Model = "blocks"
	// Dynamic is the amount that the events themselves carry, times Amount
	// (default 1).
	Dynamic Model = "dynamic"
	// Capacity is the flat fee of the first tier whose limits hold the peaks
	// of all its meters; above them all, of the last.
	Capacity Model = "capacity"
)

// BlockPolicy says which blocks a price of model Blocks is made of.
type BlockPolicy string

// The policies of blocks.
const (
	// AllTiers fills each tier with its own blocks. The default.
	AllTiers BlockPolicy = "all_tiers"
	// TopTier counts everything in blocks of the tier that is reached.
	TopTier BlockPolicy = "top_tier"
)

// Tier is a range of quantities: above the bound of the tier before, up to
// and including UpTo.
type Tier struct {
	// From repeats the bound of the tier before, for readers. Optional.
	From *Decimal `json:"from,omitempty"`
	// UpTo is the bound, in units. The last tier has none.
	UpTo *Decimal `json:"up_to,omitempty"`
	// UnitPrice is for each unit; Rate is percent of the amount, for the
	// percentage models.
	UnitPrice Decimal `json:"unit_price,omitzero"`
	Rate      Decimal `json:"rate,omitzero"`
	// FlatFee is charged once the tier is entered (graduated) or reached
	// (volume). That of the first tier is charged at zero usage too, unless
	// Price.FlatAtZero says otherwise.
	FlatFee Decimal `json:"flat_fee,omitzero"`
	// Limits are the peaks that the tier holds, by meter, for Capacity.
	Limits map[string]Decimal `json:"limits,omitempty"`
}

// Block is a tier of a price of model Blocks.
type Block struct {
	// Size is the units of one block; begun blocks count whole.
	Size Decimal `json:"size"`
	// Max is how many blocks the tier holds. The last tier has none.
	Max *Decimal `json:"max,omitempty"`
	// Price is for one block.
	Price Decimal `json:"price"`
}

// Conversion turns metered units into those that the price is in, before
// anything else: quantity * Multiply / Divide, rounded.
type Conversion struct {
	// Multiply and Divide default to 1.
	Multiply *Decimal `json:"multiply,omitempty"`
	Divide   *Decimal `json:"divide,omitempty"`
	// Round defaults to none, at Places digits after the point.
	Round  Rounding `json:"round,omitempty"`
	Places int      `json:"places,omitempty"`
}

// Commitment is what the tenant has agreed to use of one price.
type Commitment struct {
	// Amount of money, or Units whose price is the amount: one of them.
	Amount Decimal `json:"amount,omitzero"`
	Units  Decimal `json:"units,omitzero"`
	// Overage is the factor on what exceeds the amount. Default 1.
	Overage *Decimal `json:"overage,omitempty"`
	// TrueUp bills the amount where usage stays below it.
	TrueUp bool `json:"true_up,omitempty"`
	// Windowed holds each bucket to the commitment on its own.
	Windowed bool `json:"windowed,omitempty"`
}

// Price is how one meter, or one recurring fee, is charged. Unit prices have
// at most twelve digits after the point.
type Price struct {
	// ID is unique within its plan version.
	ID string `json:"id"`
	// Name is the text on the invoice. Default: the id.
	Name string `json:"name,omitempty"`
	// Meter is the meter whose usage is charged; empty for a recurring fee.
	Meter string `json:"meter,omitempty"`
	// Route narrows the usage to one route. Default: all.
	Route gatehouse.RouteID `json:"route,omitempty"`
	// Aggregation makes the quantity of the metered usage. Default sum.
	Aggregation Aggregation `json:"aggregation,omitempty"`
	// Bucket cuts the period into hours or days that are aggregated and priced
	// each on its own. Default: none.
	Bucket Unit `json:"bucket,omitempty"`
	// Advance bills a recurring fee when its period begins, not when it ends.
	Advance bool `json:"advance,omitempty"`

	Model Model `json:"model"`
	// Amount is the fee, or what the model says it is for.
	Amount Decimal `json:"amount,omitzero"`
	Tiers  []Tier  `json:"tiers,omitempty"`
	// FlatAtZero says whether the first tier's flat fee is due at zero usage.
	// Default true.
	FlatAtZero *bool `json:"flat_at_zero,omitempty"`

	// Size is the units of a package; PackageRound is up (default) or down.
	Size         Decimal     `json:"size,omitzero"`
	PackageRound Rounding    `json:"package_round,omitempty"`
	Blocks       []Block     `json:"blocks,omitempty"`
	Policy       BlockPolicy `json:"policy,omitempty"`

	// Rate is in percent, Fee is for each event. An event is free while all
	// the allowances that are set hold: FreeEvents of them, and FreeAmount in
	// sum; the event that crosses FreeAmount pays for what is beyond.
	// EventMin and EventMax bound what one paid event costs.
	Rate       Decimal  `json:"rate,omitzero"`
	Fee        Decimal  `json:"fee,omitzero"`
	FreeEvents int      `json:"free_events,omitempty"`
	FreeAmount Decimal  `json:"free_amount,omitzero"`
	EventMin   *Decimal `json:"event_min,omitempty"`
	EventMax   *Decimal `json:"event_max,omitempty"`

	// Convert, then Included units are free, then Discount percent is taken
	// off, then the amount is held to the commitment, to Maximum and to
	// Minimum. All are per period: of a part of one, the part is meant. The
	// commitment and Minimum are due with the last line of the period.
	Convert    *Conversion `json:"convert,omitempty"`
	Included   Decimal     `json:"included,omitzero"`
	Discount   Decimal     `json:"discount_percent,omitzero"`
	Commitment *Commitment `json:"commitment,omitempty"`
	Minimum    Decimal     `json:"minimum,omitzero"`
	Maximum    *Decimal    `json:"maximum,omitempty"`

	// Tax names the tax category for the tax hook. Default: the plan's taxes.
	Tax string `json:"tax,omitempty"`
}

// Recurring reports whether the price is a fee per period and not of usage.
func (p *Price) Recurring() bool { return p.Meter == "" }

func (p *Price) title() string {
	if p.Name != "" {
		return p.Name
	}
	return p.ID
}

func (p *Price) flatAtZero() bool { return p.FlatAtZero == nil || *p.FlatAtZero }
