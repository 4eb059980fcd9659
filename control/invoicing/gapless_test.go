package invoicing

import (
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// The millionth invoice of a year comes after the one before it, though its
// number has a digit more; what is missing, or not chained, is named.
func TestGapless(t *testing.T) {
	series := func(drop, unchain int) []link {
		var all []link
		previous := ""
		for n := 1; n <= 1_000_001; n++ {
			number := billing.Number("GH", 2026, n)
			l, ours := linkOf(&billing.Invoice{Number: number, Previous: previous, Hash: number}, "GH")
			if !ours {
				t.Fatal(number)
			}
			if previous = number; n == unchain {
				l.previous = "another"
			}
			if n != drop {
				all = append(all, l)
			}
		}
		return all
	}
	for _, c := range []struct {
		drop, unchain int
		want          string
	}{
		{0, 0, ""},
		{999_999, 0, "invoice GH-2026-1000000 stands where GH-2026-999999 should"},
		{0, 1_000_000, "invoice GH-2026-1000000 does not follow"},
	} {
		got := ""
		if err := gapless(series(c.drop, c.unchain), "GH"); err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("without %d: %q, want %q", c.drop, got, c.want)
		}
	}
	if _, ours := linkOf(&billing.Invoice{Number: "GH-2-2026-000001"}, "GH"); ours {
		t.Error("GH-2 is another seller")
	}
}
