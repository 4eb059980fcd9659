# By country, as a proxy in front of Gatehouse writes it into a header. Use it
# only where every request comes through that proxy and it replaces the header:
# a caller could write it as well.
package gatehouse.tenant.geo

countries := {"AT", "CH", "DE"}

country := upper(input.request.headers["x-country"])

default allow := false

allow if country in countries

reason := "not available in this country" if not allow

public if not allow

status := 451 if country

obligations := {"log": {"country": country}}
