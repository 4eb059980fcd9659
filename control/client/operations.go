// Code generated from control/api/openapi.json by TestOperations; DO NOT EDIT.

package client

// The operations of the API.
const (
	// ActivatePolicy: Enforce a pushed policy: it becomes that of the tenant's document.
	ActivatePolicy Operation = "POST /api/v1/tenants/{tenant}/policies/{policy}/activate"
	// AdjustUsage: Correct a tenant's usage by a signed amount; what it corrects stays as it was.
	AdjustUsage Operation = "POST /api/v1/tenants/{tenant}/usage/adjustments"
	// AnswerQuestion: A data plane's answer to a question.
	AnswerQuestion Operation = "POST /api/v1/gateways/{gateway}/answers"
	// Apply: Bring plans and tenants about, each taken or refused by itself.
	Apply Operation = "POST /api/v1/apply"
	// CheckCompliance: Compliance checks; not available yet.
	CheckCompliance Operation = "POST /api/v1/tenants/{tenant}/compliance"
	// CompareRevisions: What differs between the state after a revision and that after another.
	CompareRevisions Operation = "GET /api/v1/revisions/{revision}/diff"
	// CreateKey: Make an API key; its secret is in this answer only.
	CreateKey Operation = "POST /api/v1/tenants/{tenant}/keys"
	// CreatePlan: Create a plan.
	CreatePlan Operation = "POST /api/v1/plans"
	// CreateTenant: Create a tenant.
	CreateTenant Operation = "POST /api/v1/tenants"
	// CreateToken: Make an operator token; its secret is in this answer only.
	CreateToken Operation = "POST /api/v1/tokens"
	// DeletePlan: Delete a plan that no tenant has.
	DeletePlan Operation = "DELETE /api/v1/plans/{plan}"
	// DeleteTenant: Delete a tenant: out of service at once, purged after a time of grace.
	DeleteTenant Operation = "DELETE /api/v1/tenants/{tenant}"
	// Explain: What would become of a request, and why.
	Explain Operation = "POST /api/v1/explain"
	// ExportAudit: The journal as NDJSON, an event a line, oldest first, for import and independent verification.
	ExportAudit Operation = "GET /api/v1/audit/export"
	// ExportTenantAudit: What was done to a tenant as NDJSON, oldest first.
	ExportTenantAudit Operation = "GET /api/v1/tenants/{tenant}/audit/export"
	// FollowUpdates: Updates for a data plane as NDJSON: a snapshot where it is needed, then each change.
	FollowUpdates Operation = "GET /api/v1/stream"
	// GetAnalytics: Time series of a tenant.
	GetAnalytics Operation = "GET /api/v1/tenants/{tenant}/analytics"
	// GetBilling: A tenant's billing; not available yet.
	GetBilling Operation = "GET /api/v1/tenants/{tenant}/billing"
	// GetCaller: Who the token of this request is.
	GetCaller Operation = "GET /api/v1/whoami"
	// GetGateway: Read the status of a data plane.
	GetGateway Operation = "GET /api/v1/gateways/{gateway}"
	// GetKey: Read an API key.
	GetKey Operation = "GET /api/v1/tenants/{tenant}/keys/{key}"
	// GetPlan: Read a plan.
	GetPlan Operation = "GET /api/v1/plans/{plan}"
	// GetPolicy: Read a pushed policy with its modules, tests and review.
	GetPolicy Operation = "GET /api/v1/tenants/{tenant}/policies/{policy}"
	// GetRevision: Read a change, with what it changed.
	GetRevision Operation = "GET /api/v1/revisions/{revision}"
	// GetSecurity: Read the security settings of a tenant.
	GetSecurity Operation = "GET /api/v1/tenants/{tenant}/security"
	// GetShadow: How the shadow decides, compared to the policy in force.
	GetShadow Operation = "GET /api/v1/tenants/{tenant}/policies/shadow"
	// GetTenant: Read a tenant.
	GetTenant Operation = "GET /api/v1/tenants/{tenant}"
	// GetTenantHealth: Health of a tenant's backends and domains, at all data planes and at each.
	GetTenantHealth Operation = "GET /api/v1/tenants/{tenant}/health"
	// GetTenantMetrics: Live figures of a tenant.
	GetTenantMetrics Operation = "GET /api/v1/tenants/{tenant}/metrics"
	// GetToken: Read an operator token.
	GetToken Operation = "GET /api/v1/tokens/{token}"
	// GetUsage: What a tenant has used: the counters of this data plane, or with a meter what the ledger has.
	GetUsage Operation = "GET /api/v1/tenants/{tenant}/usage"
	// ListAdjustments: List corrections of a tenant's usage.
	ListAdjustments Operation = "GET /api/v1/tenants/{tenant}/usage/adjustments"
	// ListAllPolicies: List pushed policies of all tenants, newest first.
	ListAllPolicies Operation = "GET /api/v1/policies"
	// ListAudit: List what was done to a tenant, newest first.
	ListAudit Operation = "GET /api/v1/tenants/{tenant}/audit"
	// ListDecisions: The newest decisions that are kept, in the form of OPA's decision logs.
	ListDecisions Operation = "GET /api/v1/tenants/{tenant}/policies/decisions"
	// ListGateways: List the data planes that follow this control plane.
	ListGateways Operation = "GET /api/v1/gateways"
	// ListKeys: List a tenant's API keys, those of its document left out.
	ListKeys Operation = "GET /api/v1/tenants/{tenant}/keys"
	// ListPlans: List plans.
	ListPlans Operation = "GET /api/v1/plans"
	// ListPolicies: List a tenant's pushed policies, newest first.
	ListPolicies Operation = "GET /api/v1/tenants/{tenant}/policies"
	// ListRevisions: List changes, newest first.
	ListRevisions Operation = "GET /api/v1/revisions"
	// ListTenants: List tenants.
	ListTenants Operation = "GET /api/v1/tenants"
	// ListTokens: List operator tokens.
	ListTokens Operation = "GET /api/v1/tokens"
	// PatchKey: Change what an API key may do; what is left out stays.
	PatchKey Operation = "PATCH /api/v1/tenants/{tenant}/keys/{key}"
	// PatchTenant: Change a tenant by merge patch (RFC 7396); files are taken as in a creation.
	PatchTenant Operation = "PATCH /api/v1/tenants/{tenant}"
	// PurgeTenant: Remove a deleted tenant for good, before its time.
	PurgeTenant Operation = "POST /api/v1/tenants/{tenant}/purge"
	// PushPolicies: Push a whole set of modules: compiled, tested, stored as a numbered revision.
	PushPolicies Operation = "POST /api/v1/tenants/{tenant}/policies"
	// PushPolicyModule: Push one module into the set in force, or into that of the revision base.
	PushPolicyModule Operation = "PUT /api/v1/tenants/{tenant}/policies/{policy}"
	// RecordEvents: Record usage that was measured elsewhere, as CloudEvents; source and id name an event for ever.
	RecordEvents Operation = "POST /api/v1/events"
	// ReplacePlan: Replace a plan, to which its tenants are held at once; If-Match is required.
	ReplacePlan Operation = "PUT /api/v1/plans/{plan}"
	// ReplaceTenant: Replace a tenant; If-Match is required.
	ReplaceTenant Operation = "PUT /api/v1/tenants/{tenant}"
	// ReplayPolicy: Decide the kept requests by a pushed policy: what would change.
	ReplayPolicy Operation = "POST /api/v1/tenants/{tenant}/policies/{policy}/replay"
	// ReportOutcome: A data plane's answer to an update.
	ReportOutcome Operation = "POST /api/v1/gateways/{gateway}/outcomes"
	// ReportTraffic: What requests at a data plane came to, by the minute.
	ReportTraffic Operation = "POST /api/v1/gateways/{gateway}/traffic"
	// ReportUsage: Usage that a data plane has counted, for the ledger.
	ReportUsage Operation = "POST /api/v1/gateways/{gateway}/usage"
	// RestoreTenant: Take a deletion back.
	RestoreTenant Operation = "POST /api/v1/tenants/{tenant}/restore"
	// RevokeKey: Revoke an API key.
	RevokeKey Operation = "DELETE /api/v1/tenants/{tenant}/keys/{key}"
	// RevokeToken: Revoke an operator token.
	RevokeToken Operation = "DELETE /api/v1/tokens/{token}"
	// RollBackKey: Give an API key back what it might do at an earlier revision; its secret stays.
	RollBackKey Operation = "POST /api/v1/tenants/{tenant}/keys/{key}/rollback"
	// RollBackPlan: Give a plan back its form of an earlier revision.
	RollBackPlan Operation = "POST /api/v1/plans/{plan}/rollback"
	// RollBackPolicy: Enforce the modules that were in force before those of now.
	RollBackPolicy Operation = "POST /api/v1/tenants/{tenant}/policies/rollback"
	// RollBackTenant: Give a tenant back the document of an earlier revision.
	RollBackTenant Operation = "POST /api/v1/tenants/{tenant}/rollback"
	// RotateKey: Give an API key a new secret, the old one being accepted for a while.
	RotateKey Operation = "POST /api/v1/tenants/{tenant}/keys/{key}/rotate"
	// SetBilling: Set a tenant's billing; not available yet.
	SetBilling Operation = "POST /api/v1/tenants/{tenant}/billing"
	// SetSecurity: Set security settings of a tenant; those left out stay.
	SetSecurity Operation = "POST /api/v1/tenants/{tenant}/security"
	// ShadowPolicy: Evaluate a pushed policy beside the one in force, without effect.
	ShadowPolicy Operation = "POST /api/v1/tenants/{tenant}/policies/{policy}/shadow"
	// StopShadow: End the shadow.
	StopShadow Operation = "DELETE /api/v1/tenants/{tenant}/policies/shadow"
	// TestPolicy: Review a pushed policy anew: compile it and run its tests.
	TestPolicy Operation = "POST /api/v1/tenants/{tenant}/policies/{policy}/test"
	// VerifyAudit: Check the whole chain of the journal.
	VerifyAudit Operation = "GET /api/v1/audit/verify"
)
