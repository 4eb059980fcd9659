package billing

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math/big"
	"math/bits"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// unitScale is what one custom unit is counted as (metering.Decimals).
const unitScale = 1_000_000

// Fold puts cells in order of identity, and of those of one identity keeps the
// largest, which is the latest: neither order nor repetition of cells matters
// to what is computed from the result. If the cells are in order and unique
// already, the result is the same slice.
func Fold(cells []metering.Cell) []metering.Cell {
	ordered := true
	for i := 1; i < len(cells) && ordered; i++ {
		ordered = compare(&cells[i-1], &cells[i]) < 0
	}
	if ordered {
		return cells
	}
	// Pointers are sorted, for a cell is large.
	order := make([]*metering.Cell, len(cells))
	for i := range cells {
		order[i] = &cells[i]
	}
	slices.SortFunc(order, func(a, b *metering.Cell) int { return cmp.Or(compare(a, b), cmp.Compare(b.Value, a.Value)) })
	out := make([]metering.Cell, 0, len(order))
	for i, c := range order {
		if i == 0 || compare(order[i-1], c) != 0 {
			out = append(out, *c)
		}
	}
	return out
}

// compare orders cells so that those of one tenant, meter and period are
// neighbours.
func compare(a, b *metering.Cell) int {
	if c := cmp.Compare(a.Series.Tenant, b.Series.Tenant); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Meter, b.Meter); c != 0 {
		return c
	}
	if c := a.Window.Compare(b.Window); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Series.Route, b.Series.Route); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Gateway, b.Gateway); c != 0 {
		return c
	}
	return cmp.Or(
		cmp.Compare(a.Series.Consumer, b.Series.Consumer), cmp.Compare(a.Series.Plan, b.Series.Plan),
		cmp.Compare(a.Epoch.Counter, b.Epoch.Counter), cmp.Compare(a.Epoch.Nonce, b.Epoch.Nonce))
}

// within returns the cells of one tenant and meter whose minutes begin in the
// period. The cells are folded.
func within(cells []metering.Cell, tenant gatehouse.TenantID, meter string, p Period) []metering.Cell {
	edge := func(t time.Time) int {
		key := metering.Cell{Series: metering.SeriesKey{Tenant: tenant}, Meter: meter, Window: t}
		return sort.Search(len(cells), func(i int) bool {
			c := &cells[i]
			return cmp.Or(cmp.Compare(c.Series.Tenant, key.Series.Tenant), cmp.Compare(c.Meter, key.Meter), c.Window.Compare(key.Window)) >= 0
		})
	}
	from, to := edge(p.Start), edge(p.End)
	return cells[from:max(from, to)]
}

// Metered is usage as a price sees it.
type Metered struct {
	Usage
	// Cells and Hash are for the trace of the line.
	Cells int
	Hash  string
}

// Meter aggregates the folded cells of a tenant that one price charges within
// a period. Days and hours of buckets are of the given zone. Waive takes
// interrupted requests off counted ones.
func Meter(cells []metering.Cell, tenant gatehouse.TenantID, p *Price, period Period, loc *time.Location, waive bool) Metered {
	return meter(cells, tenant, p, period, period, loc, waive)
}

// meter aggregates a part of a billing period.
func meter(cells []metering.Cell, tenant gatehouse.TenantID, p *Price, part, whole Period, loc *time.Location, waive bool) Metered {
	d := &digest{h: sha256.New()}
	counted := d.of(within(cells, tenant, p.Meter, part), p.Route)
	if waive && interruptible(p.Meter) {
		counted = d.waive(counted, cells, tenant, p, part)
	}
	var m Metered
	switch {
	case p.Model == Capacity:
		m.Peaks = peaks(d, counted, cells, tenant, p, part)
		m.Quantity = m.Peaks[p.Meter]
	case p.Bucket != "":
		m.Buckets = buckets(counted, p, part, loc)
		m.Quantity = Sum(m.Buckets...) // for the trace: they are priced each on its own
	case p.Aggregation == Weighted:
		m.Quantity = level(d, counted, cells, tenant, p, part, whole)
	case p.Aggregation == "" || p.Aggregation == Total:
		m.Quantity = total(counted, p.Meter)
	default:
		m.Quantity = Aggregate(p.Aggregation, samples(counted, p.Meter), part, Decimal{})
	}
	if p.Model == Percentage && p.Fee.Sign() > 0 {
		m.Count = events(d, counted, cells, tenant, p, part, waive)
	}
	m.Cells, m.Hash = d.n, hex.EncodeToString(d.h.Sum(nil))
	return m
}

func total(cells []*metering.Cell, meter string) Decimal {
	var hi, lo uint64
	for _, c := range cells {
		var carry uint64
		lo, carry = bits.Add64(lo, uint64(max(c.Value, 0)), 0)
		hi += carry
	}
	n := new(big.Int).SetUint64(hi)
	n.Lsh(n, 64).Add(n, new(big.Int).SetUint64(lo))
	return scale(Decimal{new(big.Rat).SetInt(n)}, meter)
}

func scale(d Decimal, meter string) Decimal {
	if metering.Decimals(meter) > 0 {
		return d.Div(Int(unitScale))
	}
	return d
}

func samples(cells []*metering.Cell, meter string) []Sample {
	out := make([]Sample, len(cells))
	for i, c := range cells {
		order := c.Gateway + "/" + c.Epoch.String()
		out[i] = Sample{Time: c.Window, Value: scale(Int(c.Value), meter), Key: c.Series.Consumer, Order: order}
	}
	return out
}

// buckets cuts the period at hours or days. Those without usage are left out,
// unless the price bills a commitment of each.
func buckets(cells []*metering.Cell, p *Price, period Period, loc *time.Location) []Decimal {
	out := []Decimal{}
	all := p.Commitment != nil && p.Commitment.Windowed && p.Commitment.TrueUp
	y, m, d := period.Start.In(loc).Date()
	anchor := wall(time.Date(y, m, d, 0, 0, 0, 0, time.UTC), loc)
	c := Cadence{Unit: p.Bucket}
	for n := c.Index(anchor, loc, period.Start); ; n++ {
		b := Period{c.Boundary(anchor, loc, n), c.Boundary(anchor, loc, n+1)}
		if !b.Start.Before(period.End) {
			return out
		}
		i := sort.Search(len(cells), func(i int) bool { return !cells[i].Window.Before(b.End) })
		if i > 0 || all {
			out = append(out, Aggregate(p.Aggregation, samples(cells[:i], p.Meter), b.Cut(period), Decimal{}))
		}
		cells = cells[i:]
	}
}

// digest hashes cells as they are used.
type digest struct {
	h   hash.Hash
	buf bytes.Buffer
	n   int
}

// of hashes the cells of a route, or of all, and returns them.
func (d *digest) of(cells []metering.Cell, route gatehouse.RouteID) []*metering.Cell {
	out := make([]*metering.Cell, 0, len(cells))
	for i := range cells {
		if route == "" || cells[i].Series.Route == route {
			d.write(&cells[i])
			out = append(out, &cells[i])
		}
	}
	d.h.Write(d.buf.Bytes())
	d.buf.Reset()
	d.n += len(out)
	return out
}

// write appends one cell: strings with their lengths, numbers in 8 bytes.
func (d *digest) write(c *metering.Cell) {
	b := d.buf.AvailableBuffer()
	for _, s := range [...]string{c.Gateway, string(c.Series.Tenant), string(c.Series.Route), c.Series.Consumer, string(c.Series.Plan), c.Meter} {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, ':')
		b = append(b, s...)
	}
	for _, n := range [...]uint64{uint64(c.Epoch.Counter), c.Epoch.Nonce, uint64(c.Window.Unix()), uint64(c.Value)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	d.buf.Write(b)
	if d.buf.Len() > 1<<15 {
		d.h.Write(d.buf.Bytes())
		d.buf.Reset()
	}
}
