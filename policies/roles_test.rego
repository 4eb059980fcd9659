package gatehouse.tenant_test.roles

import data.gatehouse.tenant.roles

request(method, names) := {"request": {"method": method}, "principal": {"roles": names}}

test_viewer_reads if {
	every method in ["GET", "HEAD", "OPTIONS"] {
		roles.allow with input as request(method, ["viewer"])
	}
	every method in ["POST", "PUT", "PATCH", "DELETE"] {
		not roles.allow with input as request(method, ["viewer"])
	}
}

test_editor_writes_and_does_not_delete if {
	roles.allow with input as request("PATCH", ["editor"])
	not roles.allow with input as request("DELETE", ["editor"])
}

test_roles_add_up if {
	roles.granted == {"read", "write", "delete", "administer"} with input as request("GET", ["viewer", "admin"])
}

test_nobody_and_unknown_roles_have_nothing if {
	every names in [[], ["root"], ["Viewer"]] {
		not roles.allow with input as request("GET", names)
	}
}

test_unknown_method_is_denied if {
	not roles.allow with input as request("TRACE", ["admin"])
}
