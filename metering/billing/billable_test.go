package billing_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// TestBillable names the field of a price with which an invoice would be
// refused.
func TestBillable(t *testing.T) {
	f := func(price, want string) {
		t.Helper()
		p := billing.Plan{ID: "p", Version: 1, Currency: "EUR", Cadence: billing.Cadence{Unit: billing.Month}}
		if err := json.Unmarshal([]byte(`[{"id":"a",`+price+`}]`), &p.Prices); err != nil {
			t.Fatal(err)
		}
		if faults := p.Validate(); len(faults.Errors()) > 0 {
			t.Fatalf("%s: %v", price, faults)
		}
		var got []string
		for _, x := range p.Billable() {
			got = append(got, x.Pointer+": "+x.Reason)
		}
		if all := strings.Join(got, "; "); all != want {
			t.Errorf("%s\n got %s\nwant %s", price, all, want)
		}
	}
	const thousand = "usage of 1000 comes to 1000000000000000000, more than 10^15"
	f(`"model":"flat","amount":"1000000000000000"`, "")
	f(`"model":"flat","meter":"requests","amount":"1000000000000000"`, "")
	f(`"model":"per_unit","amount":"1000000000000000"`, "")
	f(`"model":"per_unit","meter":"requests","amount":"1000000000000"`, "")
	f(`"model":"per_unit","meter":"requests","amount":"1000000000000000"`, "/prices/0/amount: "+thousand)
	f(`"model":"per_unit","meter":"requests","amount":"1000000000000000","included":"5000"`, "/prices/0/amount: "+thousand)
	f(`"model":"per_unit","meter":"requests","amount":"1000000000000000","maximum":"7"`, "")
	f(`"model":"dynamic","meter":"requests","amount":"1000000000000000"`, "/prices/0/amount: "+thousand)
	f(`"model":"package","meter":"requests","amount":"1000000000000000","size":"1"`, "/prices/0/amount: "+thousand)
	f(`"model":"package","meter":"requests","amount":"1000000000000000","size":"1000"`, "")
	f(`"model":"percentage","meter":"requests","fee":"1000000000000000","rate":"1"`, "/prices/0/fee: usage of 1000 comes to 1000000000000000010, more than 10^15")
	f(`"model":"blocks","meter":"requests","blocks":[{"size":"1","price":"1000000000000000"}]`, "/prices/0/blocks/0/price: "+thousand)
	f(`"model":"graduated","meter":"requests","tiers":[{"up_to":"10","unit_price":"1"},{"unit_price":"1000000000000000"}]`,
		"/prices/0/tiers/1/unit_price: usage of 1000 comes to 990000000000000010, more than 10^15")
	f(`"model":"graduated","meter":"requests","tiers":[{"up_to":"5000","flat_fee":"1000000000000000"},{"flat_fee":"1000000000000000"}]`,
		"/prices/0/tiers/0/flat_fee: usage of 5001, where a tier begins, comes to 2000000000000000, more than 10^15")
	f(`"model":"volume","meter":"requests","tiers":[{"up_to":"1000000","unit_price":"1"},{"unit_price":"1000000000"}]`,
		"/prices/0/tiers/1/unit_price: usage of 1000001, where a tier begins, comes to 1000001000000000, more than 10^15")
	f(`"model":"per_unit","meter":"requests","amount":"1","commitment":{"units":"1000000000000000","true_up":true}`, "")
	f(`"model":"per_unit","meter":"requests","amount":"10","commitment":{"units":"1000000000000000","true_up":true}`,
		"/prices/0/commitment: usage of 1000 comes to 10000000000000000, more than 10^15")
}
