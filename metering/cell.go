package metering

import (
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Epoch is one life of a gateway's counters. The nonce tells two processes
// apart that were started from copies of one volume.
type Epoch struct {
	Counter uint32
	Nonce   uint64
}

// String returns the counter and the nonce in hexadecimal: 7-00c0ffee00c0ffee.
func (e Epoch) String() string { return fmt.Sprintf("%d-%016x", e.Counter, e.Nonce) }

// SeriesKey is what a cell counts for.
type SeriesKey struct {
	Tenant gatehouse.TenantID
	// Route is empty for usage that came by the API.
	Route gatehouse.RouteID
	// Consumer is the principal's id, or its hash where that is no plain text of
	// at most 128 bytes; empty for anonymous callers, and Overflow for all of
	// those beyond the bound of a tenant's series.
	Consumer string
	// Plan is the tenant's plan when the usage was counted.
	Plan gatehouse.PlanID

	// unit is the meter that a series of Series.Unit counts, and nothing else;
	// empty for any other, and in every Cell.
	unit string
}

// Cell is one count: what one epoch of one gateway has counted of one meter
// for one series within one minute, so far. The fields but Value are its
// identity. Value only grows: of two cells of one identity the larger is the
// later, so that whoever keeps the largest may be told twice, and in any order.
type Cell struct {
	// Gateway is the name of the gateway's data folder, made once.
	Gateway string
	Epoch   Epoch
	// Window is when the minute begins, in UTC.
	Window time.Time
	Series SeriesKey
	// Meter is its name, MeterRequests or another.
	Meter string
	// Value is in the meter's unit: requests, bytes, microseconds, or
	// millionths of a custom unit. It is not negative.
	Value int64
}

// The meters of every gateway. Custom units are MeterUnits.
const (
	// MeterRequests counts requests that were answered, refusals included.
	MeterRequests = "requests"
	// MeterBillable counts those that a backend answered, and not with 5xx.
	MeterBillable = "requests_billable"
	// MeterBytesIn and MeterBytesOut count bytes of bodies.
	MeterBytesIn  = "bytes_in"
	MeterBytesOut = "bytes_out"
	// MeterCompute counts microseconds that backends took.
	MeterCompute = "compute_us"
	// MeterUnits counts what backends report in Meter.UnitsHeader, in
	// millionths. What they report in headers of Meter.Units counts in meters
	// of those names.
	MeterUnits = "units"
	// MeterOverage counts the units of requests that were served beyond a quota
	// of mode overage, in millionths.
	MeterOverage = "overage"
	// MeterInterrupted counts requests among MeterBillable whose answer was cut
	// by the end of the process; they are waived or billed by the plan. They
	// are in the last minute of the epoch, not in that of their count.
	MeterInterrupted = "requests_interrupted"
)

// Seal says that a minute of an epoch, and every one before it, is complete:
// no cell of it changes.
type Seal struct {
	Gateway string
	Epoch   Epoch
	Window  time.Time
	// Final is set if the epoch is over: nothing follows.
	Final bool
}

// Batch is what goes to a sink at once.
type Batch struct {
	Cells []Cell
	// Seals are of minutes whose cells are all in this batch or went before.
	Seals []Seal
}

// Decimals is how many decimal places a cell of the meter holds: 6 for custom
// units of whatever name, 0 for what gateways count by themselves.
func Decimals(meter string) int {
	switch meter {
	case MeterRequests, MeterBillable, MeterInterrupted, MeterBytesIn, MeterBytesOut, MeterCompute:
		return 0
	}
	return unitDecimals
}
