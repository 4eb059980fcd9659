package billing

import "strings"

// Currency is a code of ISO 4217, in upper case.
type Currency string

// The currencies of ISO 4217 that money is paid in, by the digits of their
// minor unit. Codes of metals, funds and tests are left out.
const (
	noDigits    = " BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF "
	threeDigits = " BHD IQD JOD KWD LYD OMR TND "
	fourDigits  = " CLF UYW "
	twoDigits   = " AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF " +
		"CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF " +
		"IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR " +
		"MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD " +
		"SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD XCG YER " +
		"ZAR ZMW ZWG ANG HRK "
)

// Places returns the digits of the minor unit, and whether the currency is
// known. An unknown one has two.
func (c Currency) Places() (int, bool) {
	if len(c) != 3 || strings.ContainsRune(string(c), ' ') {
		return 2, false
	}
	code := " " + string(c) + " "
	switch {
	case strings.Contains(noDigits, code):
		return 0, true
	case strings.Contains(threeDigits, code):
		return 3, true
	case strings.Contains(fourDigits, code):
		return 4, true
	}
	return 2, strings.Contains(twoDigits, code)
}

// Text writes an amount with all digits of the minor unit: 5 USD is 5.00.
func (c Currency) Text(d Decimal) string {
	places, _ := c.Places()
	return d.Text(places)
}
