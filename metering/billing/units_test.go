package billing

import (
	"testing"

	"github.com/gatehouse-gateway/gatehouse/metering"
)

// A cell of a custom meter holds millionths, whatever its name; one of what
// every gateway counts holds whole units.
func TestScale(t *testing.T) {
	for meter, want := range map[string]string{"jobs": "2.5", metering.MeterUnits: "2.5", metering.MeterOverage: "2.5", metering.MeterBillable: "2500000", metering.MeterBytesOut: "2500000", metering.MeterCompute: "2500000"} {
		if got := scale(Int(2_500_000), meter).String(); got != want {
			t.Errorf("%s: %s, want %s", meter, got, want)
		}
	}
}
