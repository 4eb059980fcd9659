package metering

import (
	"fmt"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

func TestParseUnits(t *testing.T) {
	f := func(text string, want int64) {
		t.Helper()
		got, err := ParseUnits([]byte(text))
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	f("0", 0)
	f("1", Unit)
	f("0.25", Unit/4)
	f("12.345678", 12_345_678)
	f("007.5", 7_500_000)
	f("1.000000", Unit)
	f("9007199254.740992", 1<<53)
	const refused = -1
	for _, text := range []string{
		"", ".", "1.", ".5", "-1", "+1", "1e3", "NaN", "Inf", " 1", "1 ", "1,5", "1.2.3", "0x10", "1_000",
		"1.2345678", "0.0000000", "9007199254.740993", "9007199255", "99999999999999999999", "\u0661", "1\x00",
	} {
		f(text, refused)
	}
}

// ParseUnits undoes the decimal form of every number of millionths.
func TestParseUnitsInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Int64Range(0, gatehouse.MaxUnits).Draw(t, "n")
		text := fmt.Sprintf("%d.%06d", want/Unit, want%Unit)
		if got, err := ParseUnits([]byte(text)); err != nil || got != want {
			t.Fatalf("%s: got %d, %v", text, got, err)
		}
		whole := want / Unit
		if got, err := ParseUnits([]byte(strconv.FormatInt(whole, 10))); err != nil || got != whole*Unit {
			t.Fatalf("%d: got %d, %v", whole, got, err)
		}
	})
}
