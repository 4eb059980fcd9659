package billing

import (
	"math"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// interruptible reports whether interrupted requests are counted by a meter.
func interruptible(meter string) bool {
	return meter == metering.MeterRequests || meter == metering.MeterBillable
}

// origin is what counted a cell: one epoch of one gateway, for one series.
type origin struct {
	gateway string
	epoch   metering.Epoch
	series  metering.SeriesKey
}

func originOf(c *metering.Cell) origin { return origin{c.Gateway, c.Epoch, c.Series} }

// waive returns the counted cells less the requests among them that were
// interrupted, before anything is aggregated. An interruption is dated to the
// last minute of its epoch: it is taken off the same epoch's cells of the same
// series, at that minute or before it, latest first.
func (d *digest) waive(counted []*metering.Cell, cells []metering.Cell, tenant gatehouse.TenantID, p *Price, part Period) []*metering.Cell {
	later := Period{part.Start, part.Start.AddDate(1000, 0, 0)}
	cut := within(cells, tenant, metering.MeterInterrupted, later)
	if len(cut) == 0 {
		return counted
	}
	all := within(cells, tenant, p.Meter, later)
	left, taken := map[origin]int64{}, map[*metering.Cell]int64{}
	next := len(cut) - 1
	for i := len(all) - 1; i >= 0; i-- {
		c := &all[i]
		for ; next >= 0 && !cut[next].Window.Before(c.Window); next-- {
			left[originOf(&cut[next])] += cut[next].Value
		}
		if n := min(left[originOf(c)], c.Value); n > 0 {
			left[originOf(c)] -= n
			taken[c] = n
		}
	}
	out := make([]*metering.Cell, len(counted))
	for i, c := range counted {
		if out[i] = c; taken[c] > 0 {
			kept := *c
			kept.Value -= taken[c]
			out[i] = &kept
			waived := *c
			waived.Meter, waived.Value = metering.MeterInterrupted, taken[c]
			d.add(&waived)
		}
	}
	return out
}

// add hashes one cell more.
func (d *digest) add(c *metering.Cell) {
	d.write(c)
	d.h.Write(d.buf.Bytes())
	d.buf.Reset()
	d.n++
}

// peaks are the largest minutes of the price's meter and of all that its tiers
// limit.
func peaks(d *digest, counted []*metering.Cell, cells []metering.Cell, tenant gatehouse.TenantID, p *Price, part Period) map[string]Decimal {
	named := map[string]bool{}
	for _, t := range p.Tiers {
		for name := range t.Limits {
			named[name] = true
		}
	}
	delete(named, p.Meter)
	out := map[string]Decimal{p.Meter: Aggregate(Max, samples(counted, p.Meter), part, Decimal{})}
	for _, name := range sorted(named) {
		of := d.of(within(cells, tenant, name, part), p.Route)
		out[name] = Aggregate(Max, samples(of, name), part, Decimal{})
	}
	return out
}

// level is the part that a cut has in the mean level of the whole period: the
// level begins at 0 with the period, and a cut takes on that of the cut
// before, so that cuts sum to the whole.
func level(d *digest, counted []*metering.Cell, cells []metering.Cell, tenant gatehouse.TenantID, p *Price, part, whole Period) Decimal {
	before := d.of(within(cells, tenant, p.Meter, Period{whole.Start, part.Start}), p.Route)
	mean := Aggregate(Weighted, samples(counted, p.Meter), part, total(before, p.Meter))
	return mean.Mul(part.seconds()).Div(whole.seconds())
}

// events is how many requests there were, for fees on each of them.
func events(d *digest, counted []*metering.Cell, cells []metering.Cell, tenant gatehouse.TenantID, p *Price, part Period, waive bool) int {
	if !interruptible(p.Meter) {
		of := *p
		of.Meter = metering.MeterRequests
		counted = d.of(within(cells, tenant, of.Meter, part), p.Route)
		if waive {
			counted = d.waive(counted, cells, tenant, &of, part)
		}
	}
	n := int64(0)
	for _, c := range counted {
		n += min(c.Value, math.MaxInt64-n)
	}
	return int(n)
}
