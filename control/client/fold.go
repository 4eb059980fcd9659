package client

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/gatehouse-gateway/gatehouse"
)

// position is the body of a commit.
type position struct {
	Revision uint64 `json:"revision"`
	Hash     string `json:"hash,omitempty"`
}

// stored is a tenant with the contents of its attachments, by name.
type stored struct {
	Document gatehouse.Tenant  `json:"document"`
	Files    map[string][]byte `json:"files,omitempty"`
}

func encodeTenant(t *gatehouse.Tenant) ([]byte, error) {
	s := stored{Document: *t}
	for _, a := range t.Attachments() {
		if content := a.Content(); content != nil {
			if s.Files == nil {
				s.Files = map[string][]byte{}
			}
			s.Files[a.Name] = content
		}
	}
	return json.Marshal(s)
}

func decodeTenant(b []byte, t *gatehouse.Tenant) error {
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*t = s.Document
	for _, a := range t.Attachments() {
		if content, ok := s.Files[a.Name]; ok {
			a.Set(content)
		}
	}
	return nil
}

// entries calls add with what an update changes, and then its commit. Tenants
// in refused are left out: they run on as they were.
func entries(u *gatehouse.Update, refused map[gatehouse.TenantID]bool, add func(*entry) error) error {
	put := func(k kind, id string, v any) error {
		body, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("keep %c %s: %w", k, id, err)
		}
		return add(&entry{k, id, body})
	}
	for _, id := range u.RemovedTenants {
		if err := add(&entry{kind: noTenant, id: string(id)}); err != nil {
			return err
		}
	}
	for _, id := range u.RemovedPlans {
		if err := add(&entry{kind: noPlan, id: string(id)}); err != nil {
			return err
		}
	}
	for i := range u.Plans {
		if err := put(kindPlan, string(u.Plans[i].ID), &u.Plans[i]); err != nil {
			return err
		}
	}
	for i := range u.Tenants {
		if refused[u.Tenants[i].ID] {
			continue
		}
		body, err := encodeTenant(&u.Tenants[i])
		if err != nil {
			return fmt.Errorf("keep tenant %s: %w", u.Tenants[i].ID, err)
		}
		if err := add(&entry{kindTenant, string(u.Tenants[i].ID), body}); err != nil {
			return err
		}
	}
	for i := range u.Keys {
		k := &u.Keys[i]
		id := string(k.Tenant) + "/" + string(k.Key.ID)
		if k.Removed {
			if err := add(&entry{kind: noKey, id: id}); err != nil {
				return err
			}
			continue
		}
		if err := put(kindKey, id, &k.Key); err != nil {
			return err
		}
	}
	return put(kindCommit, "", position{u.Revision, u.Hash})
}

// fold is the state that entries lead to: the last of each thing. V is what is
// kept of an entry.
type fold[V any] struct {
	plans, tenants map[string]V
	keys           map[string]map[string]V // by tenant and key
}

func newFold[V any]() *fold[V] {
	return &fold[V]{map[string]V{}, map[string]V{}, map[string]map[string]V{}}
}

func (f *fold[V]) take(e *entry, v V) {
	tenant, key, _ := strings.Cut(e.id, "/")
	switch e.kind {
	case kindPlan:
		f.plans[e.id] = v
	case noPlan:
		delete(f.plans, e.id)
	case kindTenant:
		f.tenants[e.id] = v
	case noTenant:
		delete(f.tenants, e.id)
		delete(f.keys, e.id)
	case kindKey:
		of := f.keys[tenant]
		if of == nil {
			of = map[string]V{}
			f.keys[tenant] = of
		}
		of[key] = v
	case noKey:
		delete(f.keys[tenant], key)
	}
}

// update decodes a folded state. Tenants are decoded by all processors: this
// is most of the time that a start from disk takes.
func update(f *fold[[]byte], at position) (gatehouse.Update, error) {
	u := gatehouse.Update{Revision: at.Revision, Hash: at.Hash, Full: true, Tenants: make([]gatehouse.Tenant, len(f.tenants))}
	for id, body := range f.plans {
		var p gatehouse.Plan
		if err := json.Unmarshal(body, &p); err != nil {
			return u, fmt.Errorf("plan %s: %w", id, err)
		}
		u.Plans = append(u.Plans, p)
	}
	bodies := make([][]byte, 0, len(f.tenants))
	for _, body := range f.tenants {
		bodies = append(bodies, body)
	}
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(bodies))
	failed := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(bodies); i += workers {
				if err := decodeTenant(bodies[i], &u.Tenants[i]); err != nil {
					failed[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return u, fmt.Errorf("tenant: %w", err)
		}
	}
	for tenant, keys := range f.keys {
		for id, body := range keys {
			change := gatehouse.KeyChange{Tenant: gatehouse.TenantID(tenant)}
			if err := json.Unmarshal(body, &change.Key); err != nil {
				return u, fmt.Errorf("key %s of tenant %s: %w", id, tenant, err)
			}
			u.Keys = append(u.Keys, change)
		}
	}
	return u, nil
}
