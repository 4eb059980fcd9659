package control_test

import (
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// state is what a data plane would hold.
type state struct {
	full     bool
	revision uint64
	hash     string
	plans    map[gatehouse.PlanID]gatehouse.Plan
	tenants  map[gatehouse.TenantID]gatehouse.Tenant
	keys     map[string]gatehouse.Key
}

// pull makes calls of a sequence.
func pull(updates iter.Seq2[gatehouse.Update, error]) (next func() (gatehouse.Update, error), stop func()) {
	pulled, stop := iter.Pull2(updates)
	return func() (gatehouse.Update, error) {
		u, err, ok := pulled()
		if !ok && err == nil {
			err = errors.New("the updates ended")
		}
		return u, err
	}, stop
}

// take applies the next update.
func (s *state) take(t *testing.T, next func() (gatehouse.Update, error)) {
	t.Helper()
	u, err := next()
	if err != nil {
		t.Fatal(err)
	}
	s.apply(u)
}

func (s *state) apply(u gatehouse.Update) {
	if s.full = u.Full; u.Full {
		s.plans, s.tenants, s.keys = map[gatehouse.PlanID]gatehouse.Plan{}, map[gatehouse.TenantID]gatehouse.Tenant{}, map[string]gatehouse.Key{}
	}
	s.revision, s.hash = u.Revision, u.Hash
	for _, doc := range u.Plans {
		s.plans[doc.ID] = doc
	}
	for _, id := range u.RemovedPlans {
		delete(s.plans, id)
	}
	for _, doc := range u.Tenants {
		s.tenants[doc.ID] = doc
	}
	for _, id := range u.RemovedTenants {
		delete(s.tenants, id)
		maps.DeleteFunc(s.keys, func(name string, _ gatehouse.Key) bool { return strings.HasPrefix(name, string(id)+"/") })
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

func (s *state) clone() state {
	c := *s
	c.plans, c.tenants, c.keys = maps.Clone(s.plans), maps.Clone(s.tenants), maps.Clone(s.keys)
	return c
}

// text is what it holds.
func (s *state) text() string {
	text, err := json.Marshal([]any{s.plans, s.tenants, s.keys, slices.Sorted(maps.Keys(s.keys))})
	if err != nil {
		panic(err)
	}
	return string(text)
}
