package ledger

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Quantity is an exact amount of a meter, of any size. The zero value is 0.
type Quantity struct {
	base     big.Int // in the meter's smallest unit
	decimals int     // digits of base after the point
}

// Rat returns the amount in the meter's unit.
func (q Quantity) Rat() *big.Rat {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(q.decimals)), nil)
	return new(big.Rat).SetFrac(&q.base, scale)
}

// Base returns the amount as a cell holds it: in the meter's unit, and in
// millionths for custom units. ok is false where int64 does not hold it.
func (q Quantity) Base() (n int64, ok bool) { return q.base.Int64(), q.base.IsInt64() }

// String returns the amount as a decimal number without trailing zeros.
func (q Quantity) String() string {
	digits := q.base.String()
	if q.decimals == 0 {
		return digits
	}
	digits, negative := strings.CutPrefix(digits, "-")
	if n := q.decimals + 1 - len(digits); n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	point := len(digits) - q.decimals
	if fraction := strings.TrimRight(digits[point:], "0"); fraction != "" {
		digits = digits[:point] + "." + fraction
	} else {
		digits = digits[:point]
	}
	if negative {
		return "-" + digits
	}
	return digits
}

// MarshalText returns String: a JSON string, so that no reader rounds it.
func (q Quantity) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (q *Quantity) UnmarshalText(text []byte) error {
	whole, fraction, _ := strings.Cut(string(text), ".")
	if _, ok := q.base.SetString(whole+fraction, 10); !ok || len(fraction) > metering.Decimals(metering.MeterUnits) || whole == "" || strings.ContainsAny(fraction, "+-") {
		return fmt.Errorf("%q is no amount", text)
	}
	q.decimals = len(fraction)
	return nil
}

// quantity is hi * 2^32 + lo of a meter.
func quantity(meter string, hi, lo int64) Quantity {
	q := Quantity{decimals: metering.Decimals(meter)}
	q.base.Lsh(q.base.SetInt64(hi), 32)
	q.base.Add(&q.base, big.NewInt(lo))
	return q
}

// unit names the unit of a meter. Whatever is not a meter of every gateway
// counts custom units.
func unit(meter string) string {
	switch meter {
	case metering.MeterRequests, metering.MeterBillable, metering.MeterInterrupted:
		return "requests"
	case metering.MeterBytesIn, metering.MeterBytesOut:
		return "bytes"
	case metering.MeterCompute:
		return "microseconds"
	}
	return "units"
}

// parseBase reads a decimal number of a meter's unit, as a cell holds it.
func parseBase(meter, text string) (int64, error) {
	digits, negative := strings.CutPrefix(text, "-")
	n, err := parseAmount(digits, metering.Decimals(meter))
	if negative {
		n = -n
	}
	return n, err
}

func parseAmount(digits string, decimals int) (int64, error) {
	if decimals > 0 {
		return metering.ParseUnits([]byte(digits))
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, errors.New("a whole number is expected")
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > gatehouse.MaxUnits {
		return 0, fmt.Errorf("a whole number up to %d is expected", int64(gatehouse.MaxUnits))
	}
	return n, nil
}
