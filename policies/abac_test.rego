package gatehouse.tenant_test.abac

import data.gatehouse.tenant.abac

request(segment, plan, features) := {
	"plan": plan, "features": features,
	"request": {"segments": [segment, "1"]},
}

test_both_are_needed if {
	abac.allow with input as request("mix", "pro", {"ai_mixing": true})
	not abac.allow with input as request("mix", "free", {"ai_mixing": true})
	not abac.allow with input as request("mix", "pro", {})
}

test_one_is_needed if {
	abac.allow with input as request("export", "enterprise", {})
	not abac.allow with input as request("export", "", {})
	abac.allow with input as request("share", "free", {"collaboration": true})
	not abac.allow with input as request("share", "enterprise", {"ai_mixing": true})
}

test_what_is_not_listed_is_open if {
	abac.allow with input as request("tracks", "free", {})
}

test_reasons if {
	abac.reason == "the plan does not include this" with input as request("mix", "free", {})
	abac.reason == "this feature is off" with input as request("share", "free", {})
	abac.public with input as request("share", "free", {})
	not abac.public with input as request("tracks", "free", {})
}

test_root_is_not_listed if {
	abac.allow with input as {"plan": "free", "features": {}, "request": {"segments": []}}
}
