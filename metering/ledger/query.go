package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Dimension is what usage can be grouped and filtered by.
type Dimension string

// The dimensions.
const (
	Tenant   Dimension = "tenant"
	Route    Dimension = "route"
	Consumer Dimension = "consumer"
	Plan     Dimension = "plan"
)

func (d Dimension) valid() bool {
	return slices.Contains([]Dimension{Tenant, Route, Consumer, Plan}, d)
}

// Query asks for the usage of one meter.
type Query struct {
	// Tenants whose usage is asked for; at least one, unless AllTenants is
	// set. No tenant at all is an error, never everyone.
	Tenants    []gatehouse.TenantID
	AllTenants bool
	Meter      string
	// From is in the range and To is not; whole minutes, at most MaxRange
	// apart.
	From, To time.Time
	// Window cuts the range into items. Default: None.
	Window Window
	// Zone is where hours, days and months begin. Default: UTC.
	Zone *time.Location
	// GroupBy divides each item; each dimension once.
	GroupBy []Dimension
	// Filter keeps the series that have one of the values, in each dimension
	// that is named. An empty list keeps none.
	Filter map[Dimension][]string
	// Limit is the most items of one answer, DefaultLimit if absent and at
	// most MaxLimit.
	Limit int
	// Cursor is Usage.Next of the answer before. The query is the same but for
	// Limit.
	Cursor string
}

// Bounds of a query.
const (
	MaxRange     = 20 * 366 * 24 * time.Hour
	DefaultLimit = 1_000
	MaxLimit     = 10_000
)

// Usage is the answer to a Query.
type Usage struct {
	// Meter is what was asked for.
	Meter string `json:"meter"`
	// Unit is requests, bytes, microseconds or units.
	Unit string `json:"unit"`
	// From is the first instant that counts, To the first that no longer does.
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Window Window    `json:"window"`
	// Items are in the order of Start and then of Group. A window without
	// usage has none, nor has a Query with neither Window nor GroupBy.
	Items []Item `json:"items"`
	// Total is of the whole range, whatever the items of this answer.
	Total Quantity `json:"total"`
	// AsOf is when the ledger was read: all items are of one instant.
	AsOf time.Time `json:"as_of"`
	// SealedUntil is the instant before which every gateway has reported all
	// it counted. Zero: no gateway has reported yet.
	SealedUntil time.Time `json:"sealed_until,omitzero"`
	// Complete says that SealedUntil is not before To. Events may still come.
	Complete bool `json:"complete"`
	// Next is the cursor of the following items; empty at the end.
	Next string `json:"next,omitempty"`
}

// Item is the usage of one group in one window.
type Item struct {
	// Start is the first instant of the window, End the first that is no longer of
	// it.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	Value Quantity  `json:"value"`
	// Group has a value for each dimension of GroupBy; it may be empty, such
	// as the consumer of anonymous callers.
	Group map[Dimension]string `json:"group,omitempty"`
}

// asked is a query that was found sound.
type asked struct {
	Query
	from, to int64
	cursor   cursor
}

func (q Query) check() (*asked, error) {
	invalid := func(format string, args ...any) (*asked, error) {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fmt.Sprintf(format, args...)}
	}
	if len(q.Tenants) == 0 != q.AllTenants {
		return invalid("a query names its tenants, or all of them")
	}
	if q.Meter == "" {
		return invalid("a query names its meter")
	}
	for _, t := range []time.Time{q.From, q.To} {
		if err := whole(t); err != nil {
			return invalid("range of the query: %s", err)
		}
	}
	if !q.From.Before(q.To) || q.To.Sub(q.From) > MaxRange {
		return invalid("a range ends after it begins, and at most 20 years after")
	}
	if q.Window == "" {
		q.Window = None
	}
	if !slices.Contains([]Window{Minute, Hour, Day, Month, None}, q.Window) {
		return invalid("window %q is none of MINUTE, HOUR, DAY, MONTH and NONE", q.Window)
	}
	if q.Zone == nil {
		q.Zone = time.UTC
	}
	for i, d := range q.GroupBy {
		if !d.valid() || slices.Contains(q.GroupBy[:i], d) {
			return invalid("group %q is not tenant, route, consumer or plan, each once", d)
		}
	}
	for d := range q.Filter {
		if !d.valid() {
			return invalid("filter %q is none of tenant, route, consumer and plan", d)
		}
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.Limit < 0 || q.Limit > MaxLimit {
		return invalid("a limit is from 1 to %d", MaxLimit)
	}
	a := &asked{Query: q, from: q.From.Unix() / 60, to: q.To.Unix() / 60}
	c, err := a.readCursor()
	if err != nil {
		return invalid("%s", err)
	}
	a.cursor = c
	return a, nil
}
