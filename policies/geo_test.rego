package gatehouse.tenant_test.geo

import data.gatehouse.tenant.geo

from(country) := {"request": {"headers": {"x-country": country}}}

test_listed_countries if {
	every country in ["CH", "ch", "DE"] {
		geo.allow with input as from(country)
	}
}

test_others_are_denied if {
	every country in ["US", "", "CH, US", "CHE"] {
		not geo.allow with input as from(country)
		geo.status == 451 with input as from(country)
	}
}

test_without_the_header_is_denied if {
	not geo.allow with input as {"request": {"headers": {}}}
	not geo.status with input as {"request": {"headers": {}}}
	geo.reason == "not available in this country" with input as {"request": {"headers": {}}}
}

test_country_is_logged if {
	geo.obligations == {"log": {"country": "US"}} with input as from("us")
}
