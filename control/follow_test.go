package control_test

import (
	"iter"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// state is what a data plane would hold.
type state struct {
	full     bool
	revision uint64
	hash     string
	tenants  map[gatehouse.TenantID]gatehouse.Tenant
	keys     map[string]gatehouse.Key
}

// pull makes calls of a sequence.
func pull(updates iter.Seq2[gatehouse.Update, error]) (next func(*testing.T) gatehouse.Update, stop func()) {
	pulled, stop := iter.Pull2(updates)
	return func(t *testing.T) gatehouse.Update {
		t.Helper()
		u, err, ok := pulled()
		if err != nil || !ok {
			t.Fatal("the updates ended:", err)
		}
		return u
	}, stop
}

// take applies the next update.
func (s *state) take(t *testing.T, next func(*testing.T) gatehouse.Update) {
	t.Helper()
	u := next(t)
	if s.full = u.Full; u.Full {
		s.tenants, s.keys = map[gatehouse.TenantID]gatehouse.Tenant{}, map[string]gatehouse.Key{}
	}
	s.revision, s.hash = u.Revision, u.Hash
	for _, doc := range u.Tenants {
		s.tenants[doc.ID] = doc
	}
	for _, id := range u.RemovedTenants {
		delete(s.tenants, id)
		for name := range s.keys {
			if name[:len(id)+1] == string(id)+"/" {
				delete(s.keys, name)
			}
		}
	}
	for _, k := range u.Keys {
		name := string(k.Tenant) + "/" + string(k.Key.ID)
		if k.Removed {
			delete(s.keys, name)
		} else {
			s.keys[name] = k.Key
		}
	}
}
