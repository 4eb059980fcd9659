# By role and route: each route names the permission that it takes; one that
# is not listed takes what its method asks for. Needs roles.rego.
package gatehouse.tenant.rbac

import data.gatehouse.tenant.roles

# Route id -> permission.
routes := {
	"admin": "administer",
	"export": "read",
}

needed := object.get(routes, input.route, roles.asked)

default allow := false

allow if needed in roles.granted

reason := sprintf("this needs the permission %s", [needed]) if not allow
