package ratelimit

import (
	"math/big"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// The integers that a store counts with are bounded, exact where that is
// possible, and never more generous than the rule.
func TestTerms(t *testing.T) {
	f := func(count int64, per time.Duration, burst int64, want Terms) {
		t.Helper()
		if got := rateTerms(gatehouse.Rate{Count: count, Per: per}, burst); got != want {
			t.Errorf("%d/%s, burst %d: got %+v, want %+v", count, per, burst, got, want)
		}
	}
	f(1, time.Second, 1, Terms{Count: 1, Per: 1_000_000, Burst: 1})
	f(500, time.Second, 500, Terms{Count: 1, Per: 2000, Burst: 500})
	f(100_000, time.Second, 100_000, Terms{Count: 1, Per: 10, Burst: 100_000})
	f(5, time.Minute, 1, Terms{Count: 1, Per: 12_000_000, Burst: 1})
	f(3, time.Second, 3, Terms{Count: 3, Per: 1_000_000, Burst: 3})
	f(1000, time.Nanosecond, 7, Terms{Count: 1_000_000, Per: 1, Burst: 7})
	rapid.Check(t, func(t *rapid.T) {
		r := gatehouse.Rate{
			Count: rapid.OneOf(rapid.Int64Range(1, 1e6), rapid.Int64Range(1, gatehouse.MaxUnits)).Draw(t, "count"),
			Per:   time.Duration(rapid.OneOf(rapid.SampledFrom([]int64{1e9, 6e10, 36e11, 864e11}), rapid.Int64Range(1, 1e15)).Draw(t, "per")),
		}
		burst := rapid.OneOf(rapid.Int64Range(1, 1e6), rapid.Int64Range(1, gatehouse.MaxUnits)).Draw(t, "burst")
		got := rateTerms(r, burst)
		if got.Count < 1 || got.Per < 1 || got.Burst < 1 || got.Count > exact || got.Burst > exact/got.Per || got.Burst > burst {
			t.Fatalf("%+v, burst %d: %+v", r, burst, got)
		}
		real := big.NewRat(r.Count*1000, int64(r.Per)) // per microsecond
		mine := big.NewRat(got.Count, got.Per)
		if real.Cmp(big.NewRat(1, exact)) > 0 && real.Cmp(big.NewRat(exact, 1)) < 0 && mine.Cmp(real) > 0 {
			t.Fatalf("%+v, burst %d: %+v is faster", r, burst, got)
		}
		if burst < 1e6 && r.Per <= 24*time.Hour && r.Count < 1e6 {
			if mine.Mul(mine, big.NewRat(1001, 1000)).Cmp(real) < 0 {
				t.Fatalf("%+v, burst %d: %+v is slower by a thousandth", r, burst, got)
			}
		}
	})
}

// The law that refunds rest on: a bucket that is taken from and given back to
// is as if neither had been, whatever came in between.
func TestRefund(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst := rapid.IntRange(1, 16).Draw(t, "burst")
		a, b := rate.NewLimiter(8, burst), rate.NewLimiter(8, burst)
		now := noon
		lent := 0
		for range rapid.IntRange(1, 30).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(0, 8).Draw(t, "eighths")) * time.Second / 8)
			n := rapid.IntRange(1, 4).Draw(t, "units")
			if lent == 0 && b.AllowN(now, n) {
				lent = n
				continue
			}
			if lent > 0 {
				b.AllowN(now, -lent)
				lent = 0
			}
			if got, want := b.AllowN(now, n), a.AllowN(now, n); got != want || b.TokensAt(now) != a.TokensAt(now) {
				t.Fatalf("after a refund: %t with %g, want %t with %g", got, b.TokensAt(now), want, a.TokensAt(now))
			}
		}
	})
}
