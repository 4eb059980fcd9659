# Stronger authentication for what cannot be undone: the token must come of a
# login with a second factor (claim acr, or amr as in RFC 8176), else the
# caller is asked to log in again.
package gatehouse.tenant.step_up

wanted := "urn:example:mfa"

critical if input.request.method == "DELETE"

critical if input.request.segments[0] == "payouts"

strong if input.principal.claims.acr == wanted

strong if "mfa" in input.principal.claims.amr

default allow := false

allow if not critical

allow if strong

reason := "this needs a login with a second factor" if not allow

public if not allow

obligations := {"step_up": wanted} if not allow
