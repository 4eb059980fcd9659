package metering

import (
	"errors"

	"github.com/gatehouse-gateway/gatehouse"
)

// Unit is one custom unit in the scale of ParseUnits.
const Unit = 1_000_000

const unitDecimals = 6

var errUnits = errors.New("units are a decimal number from 0 to 9007199254.740992 with at most 6 fractional digits")

// ParseUnits reads a decimal number such as 12 or 0.25 and returns it in
// millionths, at most gatehouse.MaxUnits (2^53) of them. There may be up to
// six fractional digits; no sign, exponent or space.
func ParseUnits(b []byte) (int64, error) {
	var n int64
	digits, decimals := 0, -1
	for _, c := range b {
		switch {
		case c == '.' && decimals < 0 && digits > 0:
			decimals = 0
			continue
		case c < '0' || c > '9' || decimals == unitDecimals:
			return 0, errUnits
		}
		if decimals >= 0 {
			decimals++
		}
		digits++
		if n = n*10 + int64(c-'0'); n > gatehouse.MaxUnits {
			return 0, errUnits
		}
	}
	if digits == 0 || decimals == 0 {
		return 0, errUnits
	}
	for range unitDecimals - max(decimals, 0) {
		if n *= 10; n > gatehouse.MaxUnits {
			return 0, errUnits
		}
	}
	return n, nil
}
