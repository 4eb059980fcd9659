package gatehouse.tenant_test.rbac_roles

import data.gatehouse.tenant.rbac_roles

request(method, names) := {"request": {"method": method}, "principal": {"roles": names}}

test_viewer_reads if {
	every method in ["GET", "HEAD", "OPTIONS"] {
		rbac_roles.allow with input as request(method, ["viewer"])
	}
	every method in ["POST", "PUT", "PATCH", "DELETE"] {
		not rbac_roles.allow with input as request(method, ["viewer"])
	}
}

test_editor_writes_and_does_not_delete if {
	rbac_roles.allow with input as request("PATCH", ["editor"])
	not rbac_roles.allow with input as request("DELETE", ["editor"])
}

test_roles_add_up if {
	rbac_roles.granted == {"read", "write", "delete", "administer"} with input as request("GET", ["viewer", "admin"])
}

test_nobody_and_unknown_roles_have_nothing if {
	every names in [[], ["root"], ["Viewer"]] {
		not rbac_roles.allow with input as request("GET", names)
	}
}

test_unknown_method_is_denied if {
	not rbac_roles.allow with input as request("TRACE", ["admin"])
}
