package gatehouse.tenant_test.time_window

import data.gatehouse.tenant.time_window

request(method, at) := {"request": {"method": method}, "time": time.parse_rfc3339_ns(at)}

# 2026-11-23 is a Monday.
test_changes_in_working_hours if {
	every at in ["2026-11-23T08:00:00Z", "2026-11-23T17:59:59Z", "2026-11-27T12:00:00Z"] {
		time_window.allow with input as request("POST", at)
	}
}

test_no_changes_outside if {
	every at in ["2026-11-23T07:59:59Z", "2026-11-23T18:00:00Z", "2026-11-28T12:00:00Z", "2026-11-29T12:00:00Z"] {
		not time_window.allow with input as request("POST", at)
		time_window.reason == "changes are made in working hours only" with input as request("POST", at)
	}
}

test_reading_is_always_allowed if {
	time_window.allow with input as request("GET", "2026-11-29T03:00:00Z")
}

test_without_a_time_is_denied if {
	not time_window.allow with input as {"request": {"method": "POST"}}
}
