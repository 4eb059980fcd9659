package gatehouse

import (
	"encoding/json"
	"fmt"
)

// Update is a change on its way from the control plane to a data plane. It
// is the only thing that passes between them. As JSON it holds the contents
// of attachments too, secrets among them.
type Update struct {
	// Revision counts up. It is reported by the gateway and in its records.
	Revision uint64 `json:"revision"`
	// Full updates hold every plan, tenant and key: those absent are removed.
	Full bool `json:"full,omitempty"`
	// Hash is that of the control plane's journal at Revision; empty where
	// there is none.
	Hash string `json:"hash,omitempty"`
	// Plans and Tenants replace those of the same id.
	Plans   []Plan   `json:"plans,omitempty"`
	Tenants []Tenant `json:"-"`
	// Keys are changes of API keys that stand in no tenant's document.
	Keys []KeyChange `json:"keys,omitempty"`
	// RemovedPlans and RemovedTenants are taken away. The keys of a removed
	// tenant go with it.
	RemovedPlans   []PlanID   `json:"removed_plans,omitempty"`
	RemovedTenants []TenantID `json:"removed_tenants,omitempty"`
}

// KeyChange is an API key that was made, changed or, with Removed, revoked.
type KeyChange struct {
	Tenant  TenantID `json:"tenant"`
	Key     Key      `json:"key"`
	Removed bool     `json:"removed,omitempty"`
}

// delivered is a tenant with the contents of its attachments, by name.
type delivered struct {
	Document Tenant            `json:"document"`
	Files    map[string][]byte `json:"files,omitempty"`
}

type plainUpdate Update

// MarshalJSON writes tenants with the contents of their attachments.
func (u Update) MarshalJSON() ([]byte, error) {
	tenants := make([]delivered, len(u.Tenants))
	for i := range u.Tenants {
		tenants[i] = deliver(&u.Tenants[i])
	}
	return json.Marshal(struct {
		plainUpdate
		Tenants []delivered `json:"tenants,omitempty"`
	}{plainUpdate(u), tenants})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (u *Update) UnmarshalJSON(b []byte) error {
	var in struct {
		plainUpdate
		Tenants []delivered `json:"tenants"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	*u = Update(in.plainUpdate)
	for i := range in.Tenants {
		in.Tenants[i].unpack()
		u.Tenants = append(u.Tenants, in.Tenants[i].Document)
	}
	return nil
}

// Pack writes a tenant and the contents of its attachments, secrets among them,
// as an Update does. One document is always the same text.
func (t *Tenant) Pack() ([]byte, error) { return json.Marshal(deliver(t)) }

// UnpackTenant reads what Pack writes.
func UnpackTenant(b []byte) (*Tenant, error) {
	var d delivered
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("tenant: %w", err)
	}
	d.unpack()
	return &d.Document, nil
}

func deliver(t *Tenant) delivered {
	d := delivered{Document: *t}
	for _, a := range t.Attachments() {
		if content := a.Content(); content != nil {
			if d.Files == nil {
				d.Files = map[string][]byte{}
			}
			d.Files[a.Name] = content
		}
	}
	return d
}

// unpack puts the contents into the document.
func (d *delivered) unpack() {
	for _, a := range d.Document.Attachments() {
		if content, ok := d.Files[a.Name]; ok {
			a.Set(content)
		}
	}
}

// Outcome is a data plane's answer to an Update. Each tenant is live or
// refused as a whole; a refused one keeps its running version.
type Outcome struct {
	// Revision is the update's. Applied are the tenants that it brought about,
	// Removed those that it took away, and Refused those that stay as they were.
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
