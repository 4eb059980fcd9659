package proxy

import (
	"math"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
)

// unitMeter is a meter whose units a backend reports in a header.
type unitMeter struct {
	name   string // "": metering.MeterUnits
	header string
}

// counters are those of a tenant; nil where nothing is counted.
func (g *Gateway) counters(id gatehouse.TenantID) *metering.TenantMeter {
	if g.meter == nil {
		return nil
	}
	return g.meter.Tenant(id)
}

// unitMeters are those of a route: that of UnitsHeader, and the others.
func unitMeters(m *gatehouse.Meter) []unitMeter {
	var list []unitMeter
	if m.UnitsHeader != "" {
		list = append(list, unitMeter{"", m.UnitsHeader})
	}
	for i := range m.Units {
		list = append(list, unitMeter{m.Units[i].Name, m.Units[i].Header})
	}
	return list
}

// meterOf is the index of the meter that a header reports, -1 for none.
func (r *routeTable) meterOf(header []byte) int {
	for i := range r.terms.meters {
		if ingress.EqualFold(header, r.terms.meters[i].header) {
			return i
		}
	}
	return -1
}

// countable refuses a request while usage cannot be written and the operator
// would rather lose it than its bill.
func (x *Exchange) countable() error {
	if x.table.meter == nil {
		return nil
	}
	if err := x.gateway.meter.Full(); err != nil {
		return &gatehouse.Error{Code: gatehouse.CodeUncountable, Message: "usage cannot be recorded now", Err: err}
	}
	return nil
}

// takeUnits reads the units that the backend reports in a field, and reports
// whether the field is for that; what cannot be read is counted and logged,
// and never billed.
func (x *Exchange) takeUnits(f *upstream.Field) bool {
	i := x.route.meterOf(f.Name)
	if i < 0 {
		return false
	}
	n, err := metering.ParseUnits(f.Value)
	if err != nil {
		x.gateway.metrics.badUnits.Inc()
		x.gateway.log.Warn("backend reports unreadable units", "tenant", x.table.id, "route", string(x.route.id), "header", x.route.terms.meters[i].header, "error", err)
		return true
	}
	x.units[i] = sum(x.units[i], n)
	return true
}

// sum adds amounts that are not negative, up to the end of int64.
func sum(a, b int64) int64 { return a + min(b, math.MaxInt64-a) }

// count meters the request with what is known before the first byte leaves.
func (x *Exchange) count() {
	if x.table == nil || x.route == nil || x.series != nil {
		return
	}
	if x.table.meter == nil {
		if string(x.In.Method) != "HEAD" {
			x.bodyOut = int64(len(x.Body))
		}
		return
	}
	x.series = x.table.meter.Series(x.table.planID, x.route.id, x.principalID())
	if string(x.In.Method) != "HEAD" {
		x.bodyOut = int64(len(x.Body))
	}
	x.countedIn, x.countedOut = x.bodyIn.Load(), x.bodyOut
	answer := metering.Answer{Status: x.Status, BytesIn: x.countedIn, BytesOut: x.countedOut}
	if x.code != "" {
		answer.By = metering.Refusal
	} else if x.endsHere() {
		answer.By = metering.Gateway
	}
	for i := range x.route.terms.meters {
		if name := x.route.terms.meters[i].name; name == "" {
			answer.Units = x.units[i]
		} else if x.units[i] > 0 {
			x.series.Unit(name).AddUnits(x.units[i])
		}
	}
	if over := x.Overage(); over > 0 && answer.By == metering.Backend && x.Status < 500 {
		x.series.Unit(metering.MeterOverage).AddUnits(min(over, math.MaxInt64/metering.Unit) * metering.Unit)
	}
	// Last: a request that is counted has its units.
	x.flight = x.series.Begin(x.start)
	x.flight.Answer(&answer)
}

// reported are the units of the route's units_header.
func (x *Exchange) reported() int64 {
	if x.route == nil || len(x.route.terms.meters) == 0 || x.route.terms.meters[0].name != "" {
		return 0
	}
	return x.units[0]
}

// written notes that the whole answer has been handed to the kernel: a kill
// cannot cut it any more.
func (x *Exchange) written() {
	if x.flight != nil {
		x.flight.Written()
	}
}

// passed counts what a tunnel carries. Each direction's goroutine calls it,
// with zero for the other, so that the flight has one alone.
func (x *Exchange) passed(in, out int64) {
	if x.flight == nil {
		return
	}
	if out > 0 {
		x.flight.Sent(out)
	}
	x.series.AddBytes(in, 0)
}
