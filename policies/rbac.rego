# By role and route: each route names the permission that it takes; one that
# is not listed takes what its method asks for. Needs rbac_roles.rego.
package gatehouse.tenant.rbac

import data.gatehouse.tenant.rbac_roles

# Route id -> permission.
routes := {
	"admin": "administer",
	"export": "read",
}

needed := object.get(routes, input.route, rbac_roles.asked)

default allow := false

allow if needed in rbac_roles.granted

reason := sprintf("this needs the permission %s", [needed]) if not allow
