package gatehouse.baseline_test

import data.gatehouse.baseline

anonymous := {"kind": "anonymous", "id": "", "tenant": ""}

alice := {"kind": "jwt", "id": "alice", "tenant": "acme"}

mallory := {"kind": "jwt", "id": "mallory", "tenant": "globex"}

request(auth, principal) := {"tenant": "acme", "auth": auth, "principal": principal}

test_open_route_admits_anyone if {
	every p in [anonymous, alice, mallory] {
		baseline.allow with input as request("none", p)
	}
}

test_optional_admits_anonymous_and_own if {
	every p in [anonymous, alice] {
		baseline.allow with input as request("optional", p)
	}
}

test_required_admits_own if {
	baseline.allow with input as request("required", alice)
}

test_required_denies_anonymous if {
	not baseline.allow with input as request("required", anonymous)
	baseline.reason == "a credential is required" with input as request("required", anonymous)
	baseline.status == 401 with input as request("required", anonymous)
}

test_other_tenant_is_denied if {
	every auth in ["optional", "required"] {
		not baseline.allow with input as request(auth, mallory)
		baseline.reason == "the principal belongs to another tenant" with input as request(auth, mallory)
		not baseline.status with input as request(auth, mallory)
	}
}

test_unknown_auth_is_denied if {
	not baseline.allow with input as request("", alice)
	not baseline.allow with input as request("maybe", anonymous)
}

test_no_principal_is_denied if {
	not baseline.allow with input as {"tenant": "acme", "auth": "required"}
	not baseline.allow with input as {"auth": "required", "principal": {"kind": "jwt"}}
}

# An anonymous principal that names the tenant is still anonymous.
test_anonymous_with_tenant_is_denied if {
	not baseline.allow with input as request("required", {"kind": "anonymous", "id": "", "tenant": "acme"})
}
