# What each role may do, and what a request asks for. Other modules ask
# rbac_roles.granted; alone it decides by the method.
package gatehouse.tenant.rbac_roles

permissions := {
	"viewer": {"read"},
	"editor": {"read", "write"},
	"admin": {"read", "write", "delete", "administer"},
}

# The permissions of the caller, from all its roles. A role that is not listed
# gives none.
granted contains permission if {
	some role in input.principal.roles
	some permission in permissions[role]
}

asked := "read" if {
	input.request.method in {"GET", "HEAD", "OPTIONS"}
} else := "write" if {
	input.request.method in {"POST", "PUT", "PATCH"}
} else := "delete" if {
	input.request.method == "DELETE"
}

default allow := false

allow if asked in granted
