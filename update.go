package gatehouse

// Update is a change on its way from the control plane to a data plane. It
// is the only thing that passes between them.
type Update struct {
	// Revision counts up. It is reported by the gateway and in its records.
	Revision uint64
	// Full updates hold every plan and tenant: those absent are removed.
	Full bool
	// Plans and Tenants replace those of the same id.
	Plans   []Plan
	Tenants []Tenant
	// RemovedPlans and RemovedTenants are taken away.
	RemovedPlans   []PlanID
	RemovedTenants []TenantID
}

// Outcome is a data plane's answer to an Update. Each tenant is live or
// refused as a whole; a refused one keeps its running version.
type Outcome struct {
	Revision uint64     `json:"revision"`
	Applied  []TenantID `json:"applied"`
	Removed  []TenantID `json:"removed"`
	Refused  []Refusal  `json:"refused"`
}

// Refusal says why one tenant of an update was not taken.
type Refusal struct {
	Tenant TenantID `json:"tenant"`
	// Faults have pointers relative to the tenant.
	Faults Faults `json:"faults"`
}
