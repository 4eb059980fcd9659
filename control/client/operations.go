// Code generated from control/api/openapi.json by TestOperations; DO NOT EDIT.

package client

// The operations of the API.
const (
	// ActivatePolicy: Enforce a pushed policy: it becomes that of the tenant's document.
	ActivatePolicy Operation = "POST /api/v1/tenants/{tenant}/policies/{policy}/activate"
	// AdjustBilling: Correct usage that is billed by a signed amount; the next invoice has it.
	AdjustBilling Operation = "POST /api/v1/tenants/{tenant}/billing/adjustments"
	// AdjustUsage: Correct a tenant's usage by a signed amount; what it corrects stays as it was.
	AdjustUsage Operation = "POST /api/v1/tenants/{tenant}/usage/adjustments"
	// AnswerQuestion: A data plane's answer to a question.
	AnswerQuestion Operation = "POST /api/v1/gateways/{gateway}/answers"
	// Apply: Bring plans and tenants about, each taken or refused by itself.
	Apply Operation = "POST /api/v1/apply"
	// CancelSubscription: End a subscription.
	CancelSubscription Operation = "POST /api/v1/tenants/{tenant}/billing/subscriptions/{subscription}/cancel"
	// ChangeSubscription: Change plan or quantities, now or at a time that is not billed yet.
	ChangeSubscription Operation = "POST /api/v1/tenants/{tenant}/billing/subscriptions/{subscription}/changes"
	// CheckCompliance: Compliance checks; not available yet.
	CheckCompliance Operation = "POST /api/v1/tenants/{tenant}/compliance"
	// CheckEntitlement: Whether more of a feature is covered.
	CheckEntitlement Operation = "GET /api/v1/tenants/{tenant}/billing/entitlements/{feature}"
	// CompareRevisions: What differs between the state after a revision and that after another.
	CompareRevisions Operation = "GET /api/v1/revisions/{revision}/diff"
	// CreateCreditNote: Take back a part of an invoice, or all of it.
	CreateCreditNote Operation = "POST /api/v1/tenants/{tenant}/billing/credit-notes"
	// CreateKey: Make an API key; its secret is in this answer only.
	CreateKey Operation = "POST /api/v1/tenants/{tenant}/keys"
	// CreatePlan: Create a plan.
	CreatePlan Operation = "POST /api/v1/plans"
	// CreatePriceVersion: Add a version of a plan with its prices.
	CreatePriceVersion Operation = "POST /api/v1/plans/{plan}/versions"
	// CreateTenant: Create a tenant.
	CreateTenant Operation = "POST /api/v1/tenants"
	// CreateToken: Make an operator token; its secret is in this answer only.
	CreateToken Operation = "POST /api/v1/tokens"
	// CreateWebhook: Make an endpoint of webhooks; its secret is in this answer only.
	CreateWebhook Operation = "POST /api/v1/webhooks"
	// DeleteAlert: Remove an alert.
	DeleteAlert Operation = "DELETE /api/v1/tenants/{tenant}/billing/alerts/{alert}"
	// DeletePlan: Delete a plan that no tenant has.
	DeletePlan Operation = "DELETE /api/v1/plans/{plan}"
	// DeleteTenant: Delete a tenant: out of service at once, purged after a time of grace.
	DeleteTenant Operation = "DELETE /api/v1/tenants/{tenant}"
	// DeleteWebhook: Remove an endpoint.
	DeleteWebhook Operation = "DELETE /api/v1/webhooks/{webhook}"
	// DisableWebhook: Send nothing to an endpoint for now.
	DisableWebhook Operation = "POST /api/v1/webhooks/{webhook}/disable"
	// DiscountSubscription: Add a discount.
	DiscountSubscription Operation = "POST /api/v1/tenants/{tenant}/billing/subscriptions/{subscription}/discounts"
	// EnableWebhook: Send to an endpoint again.
	EnableWebhook Operation = "POST /api/v1/webhooks/{webhook}/enable"
	// Explain: What would become of a request, and why.
	Explain Operation = "POST /api/v1/explain"
	// ExportAudit: The journal as NDJSON, an event a line, oldest first, for import and independent verification.
	ExportAudit Operation = "GET /api/v1/audit/export"
	// ExportTenantAudit: What was done to a tenant as NDJSON, oldest first.
	ExportTenantAudit Operation = "GET /api/v1/tenants/{tenant}/audit/export"
	// FinalizeInvoice: Issue the invoice of a period that has ended; it does not change any more.
	FinalizeInvoice Operation = "POST /api/v1/tenants/{tenant}/billing/invoices"
	// FollowUpdates: Updates for a data plane as NDJSON: a snapshot where it is needed, then each change.
	FollowUpdates Operation = "GET /api/v1/stream"
	// GetAnalytics: Time series of a tenant.
	GetAnalytics Operation = "GET /api/v1/tenants/{tenant}/analytics"
	// GetBilling: What a tenant subscribes to, its credit, and what it is entitled to.
	GetBilling Operation = "GET /api/v1/tenants/{tenant}/billing"
	// GetCaller: Who the token of this request is.
	GetCaller Operation = "GET /api/v1/whoami"
	// GetCostSheet: What traffic costs the operator.
	GetCostSheet Operation = "GET /api/v1/costs/sheet"
	// GetCosts: What traffic has cost by route, and margins by tenant and plan.
	GetCosts Operation = "GET /api/v1/costs"
	// GetCreditNote: Read a credit note: JSON or UBL.
	GetCreditNote Operation = "GET /api/v1/tenants/{tenant}/billing/credit-notes/{note}"
	// GetCustomer: Who pays for a tenant.
	GetCustomer Operation = "GET /api/v1/tenants/{tenant}/billing/customer"
	// GetGateway: Read the status of a data plane.
	GetGateway Operation = "GET /api/v1/gateways/{gateway}"
	// GetInvoice: Read an invoice: JSON, CSV, HTML, PDF or UBL.
	GetInvoice Operation = "GET /api/v1/tenants/{tenant}/billing/invoices/{invoice}"
	// GetKey: Read an API key.
	GetKey Operation = "GET /api/v1/tenants/{tenant}/keys/{key}"
	// GetPlan: Read a plan.
	GetPlan Operation = "GET /api/v1/plans/{plan}"
	// GetPolicy: Read a pushed policy with its modules, tests and review.
	GetPolicy Operation = "GET /api/v1/tenants/{tenant}/policies/{policy}"
	// GetPriceVersion: Read a version of a plan.
	GetPriceVersion Operation = "GET /api/v1/plans/{plan}/versions/{version}"
	// GetRevenue: Recurring revenue of a month: bridge, MRR, ARR, ARPU, NRR, GRR, churn, LTV.
	GetRevenue Operation = "GET /api/v1/revenue"
	// GetRevision: Read a change, with what it changed.
	GetRevision Operation = "GET /api/v1/revisions/{revision}"
	// GetSecurity: Read the security settings of a tenant.
	GetSecurity Operation = "GET /api/v1/tenants/{tenant}/security"
	// GetShadow: How the shadow decides, compared to the policy in force.
	GetShadow Operation = "GET /api/v1/tenants/{tenant}/policies/shadow"
	// GetSubscription: Read a subscription.
	GetSubscription Operation = "GET /api/v1/tenants/{tenant}/billing/subscriptions/{subscription}"
	// GetTenant: Read a tenant.
	GetTenant Operation = "GET /api/v1/tenants/{tenant}"
	// GetTenantHealth: Health of a tenant's backends and domains, at all data planes and at each.
	GetTenantHealth Operation = "GET /api/v1/tenants/{tenant}/health"
	// GetTenantMetrics: Live figures of a tenant, at all data planes and at each.
	GetTenantMetrics Operation = "GET /api/v1/tenants/{tenant}/metrics"
	// GetToken: Read an operator token.
	GetToken Operation = "GET /api/v1/tokens/{token}"
	// GetUsage: What a tenant has used: the counters of this data plane, or with a meter what the ledger has.
	GetUsage Operation = "GET /api/v1/tenants/{tenant}/usage"
	// GetWebhook: Read an endpoint of webhooks.
	GetWebhook Operation = "GET /api/v1/webhooks/{webhook}"
	// GrantCredit: Put prepaid credit into a tenant's wallet.
	GrantCredit Operation = "POST /api/v1/tenants/{tenant}/billing/credits"
	// ListAdjustments: List corrections of a tenant's usage.
	ListAdjustments Operation = "GET /api/v1/tenants/{tenant}/usage/adjustments"
	// ListAlerts: List what a tenant's thresholds are, and which were told.
	ListAlerts Operation = "GET /api/v1/tenants/{tenant}/billing/alerts"
	// ListAllPolicies: List pushed policies of all tenants, newest first.
	ListAllPolicies Operation = "GET /api/v1/policies"
	// ListAudit: List what was done to a tenant, newest first.
	ListAudit Operation = "GET /api/v1/tenants/{tenant}/audit"
	// ListCreditNotes: List a tenant's credit notes.
	ListCreditNotes Operation = "GET /api/v1/tenants/{tenant}/billing/credit-notes"
	// ListDecisions: The newest decisions that are kept, in the form of OPA's decision logs.
	ListDecisions Operation = "GET /api/v1/tenants/{tenant}/policies/decisions"
	// ListDeliveries: What an endpoint has not taken yet, or never will.
	ListDeliveries Operation = "GET /api/v1/webhooks/{webhook}/deliveries"
	// ListDifferences: Trace the metered lines of issued invoices to the ledger's cells; what differs is listed.
	ListDifferences Operation = "GET /api/v1/billing/differences"
	// ListDrafts: Invoices that are not issued yet.
	ListDrafts Operation = "GET /api/v1/tenants/{tenant}/billing/drafts"
	// ListEntitlements: What a tenant may use, and has used.
	ListEntitlements Operation = "GET /api/v1/tenants/{tenant}/billing/entitlements"
	// ListEntries: List a tenant's entries in the operator's books, which balance.
	ListEntries Operation = "GET /api/v1/tenants/{tenant}/billing/entries"
	// ListGateways: List the data planes.
	ListGateways Operation = "GET /api/v1/gateways"
	// ListInvoices: List the invoices of all tenants, newest first.
	ListInvoices Operation = "GET /api/v1/invoices"
	// ListKeys: List a tenant's API keys, those of its document left out.
	ListKeys Operation = "GET /api/v1/tenants/{tenant}/keys"
	// ListLateUsage: List usage that came after its invoice, and which one charged it.
	ListLateUsage Operation = "GET /api/v1/tenants/{tenant}/billing/late"
	// ListPlans: List plans.
	ListPlans Operation = "GET /api/v1/plans"
	// ListPolicies: List a tenant's pushed policies, newest first.
	ListPolicies Operation = "GET /api/v1/tenants/{tenant}/policies"
	// ListPriceVersions: List the versions of a plan with their prices, oldest first.
	ListPriceVersions Operation = "GET /api/v1/plans/{plan}/versions"
	// ListRevisions: List changes, newest first.
	ListRevisions Operation = "GET /api/v1/revisions"
	// ListSellers: List the legal entities that issue invoices.
	ListSellers Operation = "GET /api/v1/sellers"
	// ListTenantInvoices: List a tenant's invoices, newest first.
	ListTenantInvoices Operation = "GET /api/v1/tenants/{tenant}/billing/invoices"
	// ListTenants: List tenants.
	ListTenants Operation = "GET /api/v1/tenants"
	// ListTokens: List operator tokens.
	ListTokens Operation = "GET /api/v1/tokens"
	// ListWebhooks: List endpoints of webhooks.
	ListWebhooks Operation = "GET /api/v1/webhooks"
	// MarkInvoice: Mark an invoice as paid, void or uncollectible.
	MarkInvoice Operation = "POST /api/v1/tenants/{tenant}/billing/invoices/{invoice}/marks"
	// PatchKey: Change what an API key may do; what is left out stays.
	PatchKey Operation = "PATCH /api/v1/tenants/{tenant}/keys/{key}"
	// PatchTenant: Change a tenant by merge patch (RFC 7396); files are taken as in a creation.
	PatchTenant Operation = "PATCH /api/v1/tenants/{tenant}"
	// PauseSubscription: Stop recurring fees for a while.
	PauseSubscription Operation = "POST /api/v1/tenants/{tenant}/billing/subscriptions/{subscription}/pause"
	// PreviewInvoice: The invoice of a period as it would be by now.
	PreviewInvoice Operation = "GET /api/v1/tenants/{tenant}/billing/preview"
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
	// ReplacePriceVersion: Replace a version that nothing has used; If-Match is required.
	ReplacePriceVersion Operation = "PUT /api/v1/plans/{plan}/versions/{version}"
	// ReplaceTenant: Replace a tenant; If-Match is required.
	ReplaceTenant Operation = "PUT /api/v1/tenants/{tenant}"
	// ReplayPolicy: Decide the kept requests by a pushed policy: what would change.
	ReplayPolicy Operation = "POST /api/v1/tenants/{tenant}/policies/{policy}/replay"
	// ReplayPrices: What each tenant of a plan would have paid under drafts; nothing is changed.
	ReplayPrices Operation = "POST /api/v1/plans/{plan}/replay"
	// ReportOutcome: A data plane's answer to an update.
	ReportOutcome Operation = "POST /api/v1/gateways/{gateway}/outcomes"
	// ReportTraffic: What requests at a data plane came to, by the minute.
	ReportTraffic Operation = "POST /api/v1/gateways/{gateway}/traffic"
	// ReportUsage: Usage that a data plane has counted, for the ledger.
	ReportUsage Operation = "POST /api/v1/gateways/{gateway}/usage"
	// RestoreTenant: Take a deletion back.
	RestoreTenant Operation = "POST /api/v1/tenants/{tenant}/restore"
	// ResumeSubscription: End a pause.
	ResumeSubscription Operation = "POST /api/v1/tenants/{tenant}/billing/subscriptions/{subscription}/resume"
	// RetryDelivery: Send a message again now that an endpoint has not taken.
	RetryDelivery Operation = "POST /api/v1/webhooks/{webhook}/deliveries/{event}/retry"
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
	// RotateWebhook: Give an endpoint a new secret, both being signed with for a day.
	RotateWebhook Operation = "POST /api/v1/webhooks/{webhook}/rotate"
	// SetAlert: Create or replace an alert.
	SetAlert Operation = "PUT /api/v1/tenants/{tenant}/billing/alerts/{alert}"
	// SetBilling: Subscribe a tenant to a version of a plan.
	SetBilling Operation = "POST /api/v1/tenants/{tenant}/billing"
	// SetCostSheet: Say what traffic costs the operator.
	SetCostSheet Operation = "PUT /api/v1/costs/sheet"
	// SetCustomer: Say who pays for a tenant.
	SetCustomer Operation = "PUT /api/v1/tenants/{tenant}/billing/customer"
	// SetSecurity: Set security settings of a tenant; those left out stay.
	SetSecurity Operation = "POST /api/v1/tenants/{tenant}/security"
	// SetSeller: Create or replace a seller; its id begins the numbers of its invoices.
	SetSeller Operation = "PUT /api/v1/sellers/{seller}"
	// ShadowPolicy: Evaluate a pushed policy beside the one in force, without effect.
	ShadowPolicy Operation = "POST /api/v1/tenants/{tenant}/policies/{policy}/shadow"
	// StopShadow: End the shadow.
	StopShadow Operation = "DELETE /api/v1/tenants/{tenant}/policies/shadow"
	// TestPolicy: Review a pushed policy anew: compile it and run its tests.
	TestPolicy Operation = "POST /api/v1/tenants/{tenant}/policies/{policy}/test"
	// VerifyAudit: Check the whole chain of the journal.
	VerifyAudit Operation = "GET /api/v1/audit/verify"
	// VerifyInvoices: Check that the numbers of a seller have no gap and the chain is whole.
	VerifyInvoices Operation = "GET /api/v1/invoices/verify"
)
