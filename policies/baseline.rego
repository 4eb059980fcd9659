# The platform baseline. It is evaluated for every request before the tenant's
# own policy, and both must allow.
package gatehouse.baseline

default allow := false

# The route asks for no credential.
allow if input.auth == "none"

# The route takes a credential, and this caller sent none.
allow if {
	input.auth == "optional"
	input.principal.kind == "anonymous"
}

# A principal acts within its own tenant only. (Written out for each value of
# auth: a request is then looked at by one or two rules only.)
allow if {
	input.auth == "optional"
	input.principal.kind != "anonymous"
	input.principal.tenant == input.tenant
}

allow if {
	input.auth == "required"
	input.principal.kind != "anonymous"
	input.principal.tenant == input.tenant
}

reason := "a credential is required" if {
	input.auth != "none"
	input.principal.kind == "anonymous"
} else := "the principal belongs to another tenant" if {
	input.auth != "none"
	input.principal.tenant != input.tenant
}

status := 401 if {
	input.auth != "none"
	input.principal.kind == "anonymous"
}
