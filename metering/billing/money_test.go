package billing_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

func TestParseDecimal(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		d, err := billing.ParseDecimal(text)
		got := d.String()
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	f("0", "0")
	f("-0.50", "-0.5")
	f("007.10", "7.1")
	f("0.000000000001", "0.000000000001")
	f("123456789012345678901234567890.5", "123456789012345678901234567890.5")
	f("17/31", "17/31")
	f("20/40", "0.5")
	for _, bad := range []string{"", "-", ".", "1.", ".5", "+1", "1e9", "0x1", "1_000", " 1", "1,5", "1/0", "1/-2", "1.5/2", "--1", "NaN", "Inf", "1/2/3", strings.Repeat("9", 200)} {
		f(bad, "error")
	}
	var d billing.Decimal
	if err := json.Unmarshal([]byte("1.5"), &d); err == nil {
		t.Error("a JSON number was taken for an amount")
	}
}

func TestRound(t *testing.T) {
	f := func(text string, places int, mode billing.Rounding, want string) {
		t.Helper()
		if got := dec(text).Round(places, mode).String(); got != want {
			t.Errorf("%s to %d, %s: got %s, want %s", text, places, mode, got, want)
		}
	}
	f("0.125", 2, billing.HalfUp, "0.13")
	f("0.125", 2, "", "0.13")
	f("-0.125", 2, billing.HalfUp, "-0.13")
	f("0.125", 2, billing.HalfEven, "0.12")
	f("0.135", 2, billing.HalfEven, "0.14")
	f("-0.125", 2, billing.HalfEven, "-0.12")
	f("0.1249999", 2, billing.HalfUp, "0.12")
	f("1/3", 2, billing.HalfUp, "0.33")
	f("-2/3", 2, billing.HalfUp, "-0.67")
	f("1.01", 0, billing.Up, "2")
	f("-1.01", 0, billing.Up, "-1")
	f("1.99", 0, billing.Down, "1")
	f("-1.01", 0, billing.Down, "-2")
	f("2", 0, billing.Up, "2")
	f("1/3", 0, billing.Exact, "1/3")
}

func TestCurrencies(t *testing.T) {
	f := func(c billing.Currency, want string) {
		t.Helper()
		places, known := c.Places()
		if got := fmt.Sprint(places, known); got != want {
			t.Errorf("%s: got %s, want %s", c, got, want)
		}
	}
	for _, c := range strings.Fields("JPY KRW VND CLP ISK PYG UGX XAF XOF XPF RWF BIF DJF GNF KMF VUV") {
		f(billing.Currency(c), "0 true")
	}
	for _, c := range strings.Fields("BHD IQD JOD KWD LYD OMR TND") {
		f(billing.Currency(c), "3 true")
	}
	f("CLF", "4 true")
	f("UYW", "4 true")
	for _, c := range strings.Fields("USD EUR GBP CHF CNY INR HUF") {
		f(billing.Currency(c), "2 true")
	}
	for _, c := range []billing.Currency{"", "eur", "EU", "EURO", "XXX", "D E", "   "} {
		f(c, "2 false")
	}
	if got := billing.Currency("EUR").Text(dec("5")); got != "5.00" {
		t.Errorf("5 EUR is written %s", got)
	}
}

// TestCallCharges holds the arithmetic against whole numbers, on the rules of
// the telco benchmark (speleotrove.com/decimal/telco.html): the price of each
// call rounded half-even to cents, taxes on it rounded down, then summed.
func TestCallCharges(t *testing.T) {
	even := func(n, unit int64) int64 {
		q, r := n/unit, n%unit
		if 2*r > unit || 2*r == unit && q%2 == 1 {
			q++
		}
		return q
	}
	price, base, distance, wantPrice, wantBase, wantDistance := billing.Decimal{}, billing.Decimal{}, billing.Decimal{}, int64(0), int64(0), int64(0)
	seconds := int64(1)
	for range 2000 {
		seconds = (seconds*48271 + 11) % 1_000_003
		rates := [2]string{"0.0013", "0.00894"}
		cents := [2]int64{even(seconds*130, 1000), even(seconds*894, 1000)}[seconds%2]
		p := billing.Minor(billing.Int(seconds).Mul(dec(rates[seconds%2])), "USD", billing.HalfEven)
		price, wantPrice = price.Add(p), wantPrice+cents
		base, wantBase = base.Add(p.Mul(dec("0.0675")).Round(2, billing.Down)), wantBase+cents*675/10_000
		if seconds%2 == 1 {
			distance, wantDistance = distance.Add(p.Mul(dec("0.0341")).Round(2, billing.Down)), wantDistance+cents*341/10_000
		}
	}
	got := fmt.Sprint(price, base, distance)
	want := fmt.Sprint(billing.Fraction(wantPrice, 100), billing.Fraction(wantBase, 100), billing.Fraction(wantDistance, 100))
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzParseDecimal holds that what is read is written so that it is read again
// as the same, and that rounding stays within a unit.
func FuzzParseDecimal(f *testing.F) {
	for _, s := range []string{"0", "-1.50", "17/31", "0.000000000001", "99999999999999999999", "1e5", "--1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := billing.ParseDecimal(s)
		if err != nil {
			return
		}
		again, err := billing.ParseDecimal(d.String())
		if len(d.String()) <= 128 && (err != nil || again.Cmp(d) != 0) {
			t.Fatalf("%q is written %s, which is read as %s: %v", s, d, again, err)
		}
		off := d.Round(2, billing.HalfUp).Sub(d)
		if off.Max(off.Neg()).Cmp(billing.Fraction(1, 200)) > 0 {
			t.Fatalf("%s is rounded to %s", d, d.Round(2, billing.HalfUp))
		}
		if even := d.Round(2, billing.HalfEven).Sub(d); even.Mul(even).Cmp(off.Mul(off)) != 0 {
			t.Fatalf("%s: the two halves differ in distance", d)
		}
	})
}
