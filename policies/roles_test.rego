package gatehouse.operators_test

import data.gatehouse.operators

asks(role, tenants, operation, tenant) := {"operation": operation, "tenant": tenant, "caller": {"id": "t", "role": role, "tenants": tenants}}

test_owner_does_everything_but_follow if {
	operators.allow with input as asks("owner", [], "createToken", "")
	operators.allow with input as asks("owner", [], "purgeTenant", "acme")
	not operators.allow with input as asks("owner", [], "followUpdates", "")
}

test_viewer_reads if {
	operators.allow with input as asks("viewer", [], "getTenant", "acme")
	not operators.allow with input as asks("viewer", [], "patchTenant", "acme")
	not operators.allow with input as asks("viewer", [], "listAudit", "acme")
}

test_gateway_follows if {
	operators.allow with input as asks("gateway", [], "followUpdates", "")
	not operators.allow with input as asks("gateway", [], "listTenants", "")
}

test_gateway_speaks_for_itself if {
	of_edge_1 := {"caller": {"id": "t", "role": "gateway", "tenants": [], "gateway": "edge-1"}}
	every operation in ["answerQuestion", "followUpdates", "reportOutcome", "reportTraffic", "reportUsage"] {
		wants := object.union(asks("gateway", [], operation, ""), of_edge_1)
		operators.allow with input as object.union(wants, {"gateway": "edge-1"})
		not operators.allow with input as object.union(wants, {"gateway": "edge-2"})
		not operators.allow with input as wants
		operators.allow with input as object.union(asks("gateway", [], operation, ""), {"gateway": "edge-2"})
	}
	operators.allow with input as object.union(asks("gateway", [], "getCaller", ""), of_edge_1)
	operators.reason == "the token is of the data plane edge-1" with input as object.union(asks("gateway", [], "reportUsage", ""), of_edge_1)
}

test_scoped_callers_stay_within if {
	operators.allow with input as asks("operator", ["acme"], "patchTenant", "acme")
	operators.allow with input as asks("operator", ["acme"], "listTenants", "")
	not operators.allow with input as asks("operator", ["acme"], "patchTenant", "globex")
	not operators.allow with input as asks("operator", ["acme"], "apply", "")
	not operators.allow with input as asks("owner", ["acme"], "createToken", "")
	not operators.allow with input as asks("owner", ["acme"], "purgeTenant", "acme")
}

test_commercial_parts if {
	every part in ["plan", "status"] {
		wants := object.union(asks("operator", ["acme"], "patchTenant", "acme"), {"parts": [part, "routes"]})
		not operators.allow with input as wants
		operators.allow with input as object.union(wants, {"caller": {"id": "t", "role": "operator", "tenants": []}})
	}
	operators.allow with input as object.union(asks("operator", ["acme"], "patchTenant", "acme"), {"parts": ["routes"]})
}

test_billing_gives_plans_only if {
	operators.allow with input as object.union(asks("billing", [], "patchTenant", "acme"), {"parts": ["plan"]})
	not operators.allow with input as object.union(asks("billing", [], "patchTenant", "acme"), {"parts": ["plan", "routes"]})
	not operators.allow with input as object.union(asks("billing", ["acme"], "patchTenant", "acme"), {"parts": ["plan"]})
}

test_tenants_see_their_invoices_and_leave_payment_to_the_platform if {
	every operation in ["listTenantInvoices", "getInvoice", "previewInvoice", "getSubscription", "checkEntitlement", "setAlert"] {
		operators.allow with input as asks("operator", ["acme"], operation, "acme")
		not operators.allow with input as asks("operator", ["acme"], operation, "globex")
	}
	every operation in ["markInvoice", "finalizeInvoice", "grantCredit", "createCreditNote", "adjustBilling", "setBilling", "setCustomer", "listEntries"] {
		every role in ["owner", "operator", "billing"] {
			not operators.allow with input as asks(role, ["acme"], operation, "acme")
		}
		operators.allow with input as asks("billing", [], operation, "acme")
	}
	not operators.allow with input as asks("owner", ["acme"], "listInvoices", "")
}

test_auditor_and_viewer_read_money if {
	every role in ["auditor", "viewer"] {
		every operation in ["getInvoice", "listTenantInvoices", "getBilling", "previewInvoice"] {
			operators.allow with input as asks(role, [], operation, "acme")
		}
		operators.allow with input as asks(role, [], "listInvoices", "")
		every operation in ["markInvoice", "setBilling", "adjustBilling", "setAlert"] {
			not operators.allow with input as asks(role, [], operation, "acme")
		}
		not operators.allow with input as asks(role, [], "createPriceVersion", "")
		not operators.allow with input as asks(role, [], "listWebhooks", "")
	}
	operators.allow with input as asks("auditor", [], "getRevenue", "")
	not operators.allow with input as asks("viewer", [], "getRevenue", "")
	not operators.allow with input as asks("policy-editor", [], "getInvoice", "acme")
}

test_unknown_is_denied if {
	not operators.allow with input as asks("owner", [], "newOperation", "")
	not operators.allow with input as asks("root", [], "getTenant", "acme")
	not operators.allow with input as {}
	operators.reason == "newOperation is not an operation of the role owner" with input as asks("owner", [], "newOperation", "")
}
