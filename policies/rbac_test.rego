package gatehouse.tenant_test.rbac

import data.gatehouse.tenant.rbac

request(route, method, roles) := {"route": route, "request": {"method": method}, "principal": {"roles": roles}}

test_route_names_the_permission if {
	rbac.allow with input as request("export", "POST", ["viewer"])
	not rbac.allow with input as request("admin", "GET", ["editor"])
	rbac.allow with input as request("admin", "GET", ["admin"])
}

test_other_routes_go_by_method if {
	rbac.allow with input as request("tracks", "GET", ["viewer"])
	not rbac.allow with input as request("tracks", "PUT", ["viewer"])
}

test_reason_names_what_is_missing if {
	rbac.reason == "this needs the permission administer" with input as request("admin", "GET", ["viewer"])
	not rbac.reason with input as request("admin", "GET", ["admin"])
}

test_unknown_method_is_denied if {
	not rbac.allow with input as request("tracks", "TRACE", ["admin"])
}
