package ratelimit

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// exact is the bound of the integers that a store counts with: its numbers
// are float64, and two of these still add up exactly.
const exact = 1 << 52

// rateTerms returns r and burst in integers of at most 2^52. Where that
// cannot be exact, the rate is lowered by less than a thousandth and the
// burst cut, never raised.
func rateTerms(r gatehouse.Rate, burst int64) Terms {
	// Per nanosecond r.Count/r.Per units, so per microsecond a thousand times
	// that. 2^53 · 1000 fits in int64.
	count, per := r.Count*1000, int64(r.Per)
	d := gcd(count, per)
	count, per = count/d, per/d
	if burst > exact/per || count > exact {
		least := mulDiv(per, 1000, count) + 1 // parts per unit that leave a thousand per step
		p := min(per, max(exact/burst, least))
		if count > exact && mulDiv(count, p, per) > exact {
			p = max(1, mulDiv(per, exact, count))
		}
		count, per = min(max(1, mulDiv(count, p, per)), exact), p
	}
	return Terms{Count: count, Per: per, Burst: min(burst, exact/per)}
}

func quotaTerms(sp *spec) Terms {
	t := Terms{Length: sp.window.Length.Microseconds(), Name: "length/" + sp.window.Length.String()}
	if sp.window.Unit != "" {
		t.Length = 0
		t.Name = fmt.Sprintf("%s/%d/%s", sp.window.Unit, sp.anchor, sp.loc)
	}
	return t
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// mulDiv returns a·b/c, rounded down, at most 2^62.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return 1 << 62
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(min(q, 1<<62))
}

// tokens returns parts as units.
func (t *Terms) tokens(parts int64) float64 { return float64(parts) / float64(t.Per) }

// untilParts returns the time until a bucket with parts holds want of them,
// rounded up to a microsecond.
func (t *Terms) untilParts(parts, want int64) time.Duration {
	if parts >= want {
		return 0
	}
	us := (want - parts + t.Count - 1) / t.Count
	if us > int64(Never/time.Microsecond) {
		return Never
	}
	return time.Duration(us) * time.Microsecond
}
