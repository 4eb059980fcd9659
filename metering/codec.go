package metering

import (
	"encoding/binary"
	"math/bits"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// decoder reads what the append functions write. After the first fault bad is
// set and everything reads as zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	return d.took(v, n)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	return int64(d.took(uint64(v), n))
}

func (d *decoder) took(v uint64, n int) uint64 {
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint64() uint64 {
	b := d.bytes(8)
	if b == nil {
		return 0
	}
	return le.Uint64(b)
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) string() string { return string(d.bytes(d.uvarint())) }

func (d *decoder) byte() byte {
	b := d.bytes(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (d *decoder) key() (k SeriesKey) {
	tenant, unit, _ := strings.Cut(d.string(), "\x00")
	k.Tenant, k.unit, k.Route = gatehouse.TenantID(tenant), unit, gatehouse.RouteID(d.string())
	k.Consumer, k.Plan = d.string(), gatehouse.PlanID(d.string())
	return k
}

// values reads a mask of indexes and a count for each.
func (d *decoder) values() (v values) {
	for mask := d.uvarint(); mask != 0 && !d.bad; mask &= mask - 1 {
		i := bits.TrailingZeros64(mask)
		n := d.uvarint()
		if i >= int(atAll) || n > 1<<63-1 {
			d.bad = true
			return v
		}
		v[i] = int64(n)
	}
	return v
}

func appendString[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendKey appends the names of a series. That of a unit follows the tenant's
// behind a zero byte, which no id has.
func appendKey(b []byte, k SeriesKey) []byte {
	if k.unit != "" {
		k.Tenant += gatehouse.TenantID("\x00" + k.unit)
	}
	return appendString(appendString(appendString(appendString(b, k.Tenant), k.Route), k.Consumer), k.Plan)
}

func appendValues(b []byte, v *values) []byte {
	var mask uint64
	for i, n := range v {
		if n != 0 {
			mask |= 1 << i
		}
	}
	b = binary.AppendUvarint(b, mask)
	for _, n := range v {
		if n != 0 {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}
