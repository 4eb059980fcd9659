# Who may do what at the control API. input is the operation's id in the OpenAPI
# document, the tenant that it is about ("" for the platform), the parts of the
# tenant's document that it would change, once they are known, and the caller:
# the token's id, role and tenants, which are none for the whole platform. Of a
# data plane the caller has the name that its token is bound to, and input the
# name that it uses.
#
# What is not listed is denied, to an owner too.
package gatehouse.operators

# Operations by what they are.
class := {
	"getCaller": "own_token",
	"explain": "reading",
	"getAnalytics": "reading",
	"getKey": "reading",
	"getPolicy": "reading",
	"getSecurity": "reading",
	"getShadow": "reading",
	"getTenant": "reading",
	"getTenantHealth": "reading",
	"getTenantMetrics": "reading",
	"getUsage": "reading",
	"listAdjustments": "reading",
	"listKeys": "reading",
	"listPolicies": "reading",
	"listTenants": "reading",
	# Of the platform.
	"getGateway": "surveying",
	"listAllPolicies": "surveying",
	"listGateways": "surveying",
	# A caller for some tenants sees plans too, as they have one.
	"getPlan": "catalogue",
	"listPlans": "catalogue",
	"compareRevisions": "auditing",
	"exportAudit": "auditing",
	"exportTenantAudit": "auditing",
	"getRevision": "auditing",
	"listAudit": "auditing",
	"listRevisions": "auditing",
	"verifyAudit": "auditing",
	# Decisions are of callers' requests.
	"listDecisions": "watching",
	"replayPolicy": "watching",
	"checkCompliance": "tenants",
	"createTenant": "tenants",
	"deleteTenant": "tenants",
	"replaceTenant": "tenants",
	"restoreTenant": "tenants",
	"rollBackTenant": "tenants",
	"setSecurity": "tenants",
	# Billing does it within bounds.
	"patchTenant": "patching",
	"createKey": "keys",
	"patchKey": "keys",
	"revokeKey": "keys",
	"rollBackKey": "keys",
	"rotateKey": "keys",
	"activatePolicy": "policies",
	"pushPolicies": "policies",
	"pushPolicyModule": "policies",
	"rollBackPolicy": "policies",
	"shadowPolicy": "policies",
	"stopShadow": "policies",
	"testPolicy": "policies",
	"apply": "applying",
	"createPlan": "pricing",
	"deletePlan": "pricing",
	"replacePlan": "pricing",
	"rollBackPlan": "pricing",
	"setBilling": "pricing",
	"adjustUsage": "pricing",
	"recordEvents": "pricing",
	# Money of a tenant.
	"checkEntitlement": "accounts",
	"getBilling": "accounts",
	"getCreditNote": "accounts",
	"getCustomer": "accounts",
	"getInvoice": "accounts",
	"getSubscription": "accounts",
	"listAlerts": "accounts",
	"listCreditNotes": "accounts",
	"listDrafts": "accounts",
	"listEntitlements": "accounts",
	"listLateUsage": "accounts",
	"listTenantInvoices": "accounts",
	"previewInvoice": "accounts",
	"deleteAlert": "alerting",
	"setAlert": "alerting",
	"adjustBilling": "pricing",
	"cancelSubscription": "pricing",
	"changeSubscription": "pricing",
	"createCreditNote": "pricing",
	"discountSubscription": "pricing",
	"finalizeInvoice": "pricing",
	"grantCredit": "pricing",
	"markInvoice": "pricing",
	"pauseSubscription": "pricing",
	"resumeSubscription": "pricing",
	"setCustomer": "pricing",
	# Money of the platform.
	"getPriceVersion": "selling",
	"listDifferences": "selling",
	"listInvoices": "selling",
	"listPriceVersions": "selling",
	"listSellers": "selling",
	"verifyInvoices": "selling",
	"getCostSheet": "earnings",
	"getCosts": "earnings",
	"getRevenue": "earnings",
	"listEntries": "earnings",
	"replayPrices": "earnings",
	"createPriceVersion": "pricing",
	"replacePriceVersion": "pricing",
	"setCostSheet": "pricing",
	"setSeller": "pricing",
	"createWebhook": "hooks",
	"deleteWebhook": "hooks",
	"disableWebhook": "hooks",
	"enableWebhook": "hooks",
	"getWebhook": "hooks",
	"listDeliveries": "hooks",
	"listWebhooks": "hooks",
	"retryDelivery": "hooks",
	"rotateWebhook": "hooks",
	"purgeTenant": "purging",
	"createToken": "tokens",
	"getToken": "tokens",
	"listTokens": "tokens",
	"revokeToken": "tokens",
	"followUpdates": "following",
	"answerQuestion": "following",
	"reportOutcome": "following",
	"reportTraffic": "following",
	"reportUsage": "following",
}

granted := {
	"owner": {
		"own_token", "reading", "surveying", "catalogue", "auditing", "watching", "tenants", "patching", "keys", "policies", "applying", "pricing",
		"purging", "tokens", "accounts", "alerting", "selling", "earnings", "hooks",
	},
	"operator": {
		"own_token", "reading", "surveying", "catalogue", "auditing", "watching", "tenants", "patching", "keys", "policies", "applying", "pricing",
		"accounts", "alerting", "selling", "earnings", "hooks",
	},
	"policy-editor": {"own_token", "reading", "surveying", "catalogue", "watching", "policies"},
	"billing": {"own_token", "reading", "catalogue", "pricing", "patching", "accounts", "alerting", "selling", "earnings", "hooks"},
	"auditor": {"own_token", "reading", "surveying", "catalogue", "auditing", "accounts", "selling", "earnings"},
	"viewer": {"own_token", "reading", "surveying", "catalogue", "accounts", "selling"},
	"gateway": {"own_token", "following"},
}

of_the_role if class[input.operation] in granted[input.caller.role]

# Operations that are about no tenant and that a caller for some tenants may do:
# their answers hold what is theirs only.
unbound := {"explain", "getCaller", "getPlan", "listPlans", "listTenants"}

# Of a tenant: what its own administrators leave to the platform.
reserved := {
	"adjustBilling", "adjustUsage", "cancelSubscription", "changeSubscription", "createCreditNote", "discountSubscription", "finalizeInvoice", "grantCredit",
	"listEntries", "markInvoice", "pauseSubscription", "purgeTenant", "restoreTenant", "resumeSubscription", "setBilling", "setCustomer",
}

platform if count(input.caller.tenants) == 0

# Parts of a document that are the platform's: what a tenant pays for, and
# whether it is served.
commercial := {"plan", "status"}

within if platform

within if {
	not platform
	input.tenant == ""
	input.operation in unbound
}

within if {
	not platform
	input.tenant in input.caller.tenants
	not input.operation in reserved
}

# The parts that a change touches, as far as they are known.
parts := {part | some part in object.get(input, "parts", [])}

fitting if {
	platform
	input.caller.role != "billing"
}

fitting if {
	not platform
	input.caller.role != "billing"
	count(parts & commercial) == 0
}

# Billing changes the plan of a tenant, and nothing else of its document.
fitting if {
	input.caller.role == "billing"
	platform
	count(parts - {"plan"}) == 0
}

fitting if {
	input.caller.role == "billing"
	count(parts) == 0
}

# A data plane speaks for itself alone. A token that is bound to no name yet is
# bound to the one that it uses before anything is done.
own_name if not class[input.operation] == "following"

own_name if object.get(input.caller, "gateway", "") in {"", object.get(input, "gateway", "")}

default allow := false

allow if {
	of_the_role
	within
	own_name
	fitting
}

reason := sprintf("%s is not an operation of the role %s", [input.operation, input.caller.role]) if {
	not of_the_role
} else := "the token is for other tenants, or not for the platform" if {
	not within
} else := sprintf("the token is of the data plane %s", [input.caller.gateway]) if {
	not own_name
} else := sprintf("the role %s may not change %s of a tenant", [input.caller.role, concat(", ", sort(parts))]) if {
	not fitting
}
