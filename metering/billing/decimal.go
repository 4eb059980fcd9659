package billing

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// Decimal is an exact number: a price, a quantity, an amount, a fraction of a
// period. Its text is a decimal where that ends (1.25) and a fraction where it
// does not (17/31). The zero value is 0. Decimals do not change; they are
// compared with Cmp, not with ==.
type Decimal struct{ r *big.Rat }

// Bounds of what is read, in bytes, so that no text makes arithmetic slow.
// What is stored may be longer than what is told: a trace holds exact
// fractions.
const (
	maxText   = 128
	maxStored = 4096
)

var errDecimal = errors.New(`not a decimal number such as "12.50"`)

// Int returns n.
func Int(n int64) Decimal { return Decimal{new(big.Rat).SetInt64(n)} }

// Fraction returns a/b. It panics if b is 0.
func Fraction(a, b int64) Decimal { return Decimal{big.NewRat(a, b)} }

// ParseDecimal reads digits with at most one point and a leading minus, or
// two such whole numbers with a slash between them. It reads no exponents,
// plus signs, spaces, or texts longer than 128 bytes.
func ParseDecimal(s string) (Decimal, error) { return parse(s, maxText) }

func parse(s string, limit int) (Decimal, error) {
	num, den, fraction := strings.Cut(s, "/")
	if len(s) > limit || !plain(num, !fraction) {
		return Decimal{}, errDecimal
	}
	if !fraction {
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			return Decimal{}, errDecimal
		}
		return Decimal{r}, nil
	}
	if !digits(den) || strings.Trim(den, "0") == "" {
		return Decimal{}, errDecimal
	}
	// Both are of base 10: big.Rat takes 010 for an octal number.
	a, okA := new(big.Int).SetString(num, 10)
	b, okB := new(big.Int).SetString(den, 10)
	if !okA || !okB {
		return Decimal{}, errDecimal
	}
	return Decimal{new(big.Rat).SetFrac(a, b)}, nil
}

// plain reports whether s is [-]digits[.digits].
func plain(s string, point bool) bool {
	s = strings.TrimPrefix(s, "-")
	whole, frac, ok := strings.Cut(s, ".")
	return digits(whole) && (!ok || point && digits(frac))
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func (d Decimal) rat() *big.Rat {
	if d.r == nil {
		return new(big.Rat)
	}
	return d.r
}

// Add returns d + e.
func (d Decimal) Add(e Decimal) Decimal { return Decimal{new(big.Rat).Add(d.rat(), e.rat())} }

// Sub returns d - e.
func (d Decimal) Sub(e Decimal) Decimal { return Decimal{new(big.Rat).Sub(d.rat(), e.rat())} }

// Mul returns d * e.
func (d Decimal) Mul(e Decimal) Decimal { return Decimal{new(big.Rat).Mul(d.rat(), e.rat())} }

// Div returns d / e. It panics if e is 0.
func (d Decimal) Div(e Decimal) Decimal { return Decimal{new(big.Rat).Quo(d.rat(), e.rat())} }

// Neg returns -d.
func (d Decimal) Neg() Decimal { return Decimal{new(big.Rat).Neg(d.rat())} }

// Abs returns d without its sign.
func (d Decimal) Abs() Decimal { return Decimal{new(big.Rat).Abs(d.rat())} }

// Cmp returns -1, 0 or 1 as d is less than, equal to or greater than e.
func (d Decimal) Cmp(e Decimal) int { return d.rat().Cmp(e.rat()) }

// Sign returns -1, 0 or 1 as d is negative, zero or positive.
func (d Decimal) Sign() int { return d.rat().Sign() }

// IsZero reports whether d is 0; encoding/json leaves such fields out where
// they are marked omitzero.
func (d Decimal) IsZero() bool { return d.Sign() == 0 }

// Min returns the smaller of d and e.
func (d Decimal) Min(e Decimal) Decimal {
	if d.Cmp(e) <= 0 {
		return d
	}
	return e
}

// Max returns the larger of d and e.
func (d Decimal) Max(e Decimal) Decimal {
	if d.Cmp(e) >= 0 {
		return d
	}
	return e
}

// Places returns how many digits d has after the point, and false if they do
// not end.
func (d Decimal) Places() (int, bool) {
	den := new(big.Int).Set(d.rat().Denom())
	twos := int(den.TrailingZeroBits()) //nolint:gosec // a text of 128 bytes has no more than 425 bits
	den.Rsh(den, uint(twos))
	fives, five, rem := 0, big.NewInt(5), new(big.Int)
	for q := new(big.Int); ; fives++ {
		if q.QuoRem(den, five, rem); rem.Sign() != 0 {
			break
		}
		den.Set(q)
	}
	return max(twos, fives), den.IsInt64() && den.Int64() == 1
}

// String returns the shortest exact text.
func (d Decimal) String() string {
	n, ends := d.Places()
	if !ends {
		return d.rat().RatString()
	}
	return d.rat().FloatString(n)
}

// Text returns d with exactly the given digits after the point. What is beyond
// them must have been rounded away before; Text rounds it half away from zero.
func (d Decimal) Text(places int) string { return d.rat().FloatString(places) }

// MarshalText writes String.
func (d Decimal) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDecimal reads, up to 4096 bytes, so that what
// String has written can always be read. JSON numbers are not read: amounts
// are strings.
func (d *Decimal) UnmarshalText(text []byte) error {
	v, err := parse(string(text), maxStored)
	if err != nil {
		return fmt.Errorf("%.40q: %w", text, err)
	}
	*d = v
	return nil
}

// Sum returns the sum of ds.
func Sum(ds ...Decimal) Decimal {
	total := new(big.Rat)
	for _, d := range ds {
		total.Add(total, d.rat())
	}
	return Decimal{total}
}
