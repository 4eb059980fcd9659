package gatehouse.tenant_test.step_up

import data.gatehouse.tenant.step_up

request(method, segment, claims) := {
	"request": {"method": method, "segments": [segment]},
	"principal": {"claims": claims},
}

test_ordinary_requests_pass if {
	step_up.allow with input as request("POST", "tracks", {})
	not step_up.obligations with input as request("POST", "tracks", {})
}

test_critical_ones_need_a_second_factor if {
	every r in [request("DELETE", "tracks", {}), request("GET", "payouts", {"acr": "urn:example:password", "amr": ["pwd"]})] {
		not step_up.allow with input as r
		step_up.obligations == {"step_up": "urn:example:mfa"} with input as r
	}
}

test_second_factor_is_seen if {
	step_up.allow with input as request("DELETE", "tracks", {"acr": "urn:example:mfa"})
	step_up.allow with input as request("GET", "payouts", {"amr": ["pwd", "mfa"]})
}
