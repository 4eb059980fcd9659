package proxy

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// watch gives a table what looks on while its policy decides: the shadow and
// the log. was returns the document of prev, nil where it
// cannot be read; prev may be nil. Pointers of the faults are relative to the policy object.
func (g *Gateway) watch(t *table, tenant *gatehouse.Tenant, prev *table, was func() *gatehouse.Tenant) gatehouse.Faults {
	doc := &tenant.Policy
	if t.policy == nil {
		return nil // it has faults of its own
	}
	if len(doc.Shadow) == 0 && doc.Log.Sample <= 0 && len(doc.Log.Mask) == 0 {
		return nil // nothing looks on
	}
	header := keyHeader(tenant)
	mask, err := policy.NewMask(doc.Log.Mask, header)
	if err != nil {
		return gatehouse.Faults{{Pointer: "/log/mask", Reason: err.Error()}}
	}
	var faults gatehouse.Faults
	switch {
	case len(doc.Shadow) == 0:
	case prev != nil && was() != nil && sameText(was().Policy, *doc) && keyHeader(was()) == header:
		t.shadow = prev.shadow // with what it has counted
	default:
		draft, more := g.engine.Compile(doc.Shadow)
		for _, f := range more {
			if rest, ok := strings.CutPrefix(f.Pointer, "/modules"); ok {
				f.Pointer = "/shadow" + rest
			}
			faults = append(faults, f)
		}
		if len(faults.Errors()) > 0 {
			return faults
		}
		t.shadow = g.shadows.Shadow(t.id, t.policy, draft, mask)
	}
	t.recorder, err = g.decisions.Log(tenant.ID).Recorder(policy.RecorderConfig{
		Policy: t.policy, Revision: strconv.FormatUint(t.revision, 10), Log: doc.Log, Credentials: []string{header},
	})
	if err != nil {
		faults = append(faults, gatehouse.Fault{Pointer: "/log", Reason: err.Error()})
	}
	return faults
}

// sameText reports whether two parts of documents read alike: one that was
// packed has no empty lists any more.
func sameText(a, b gatehouse.Policy) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// keyHeader names the field in which callers of a tenant send API keys.
func keyHeader(doc *gatehouse.Tenant) string {
	if keys := doc.Identity.APIKeys; keys != nil && keys.Header != "" {
		return keys.Header
	}
	return gatehouse.DefaultKeyHeader
}

// decide asks the policy, and lets the shadow and the log look on.
func (x *Exchange) decide() policy.Decision {
	t, in := x.table, x.policyInput()
	d := t.policy.Decide(in)
	t.shadow.Observe(in, &d)
	t.recorder.Record(x.id, in, &d, 0)
	return d
}

// served returns the table of a tenant that is served, or CodeNotFound.
func (g *Gateway) served(id gatehouse.TenantID) (*table, error) {
	s := g.tenants.Find([]byte(id))
	if s != nil {
		if t := s.table.Load(); t != nil {
			return t, nil
		}
	}
	return nil, refuse(gatehouse.CodeNotFound, "this gateway does not serve such a tenant")
}

// Decisions returns the decisions that were kept of a tenant, oldest first.
func (g *Gateway) Decisions(id gatehouse.TenantID, f policy.Filter) (iter.Seq[*policy.Entry], error) {
	if _, err := g.served(id); err != nil {
		return nil, err
	}
	return g.decisions.Log(id).Entries(f), nil
}

// Replay decides what was kept of a tenant anew, by other modules.
func (g *Gateway) Replay(id gatehouse.TenantID, modules []gatehouse.Module, f policy.Filter) (policy.Replayed, error) {
	entries, err := g.Decisions(id, f)
	if err != nil {
		return policy.Replayed{}, err
	}
	draft, faults := g.engine.Compile(modules)
	if len(faults.Errors()) > 0 {
		return policy.Replayed{}, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the modules have faults", Err: faults}
	}
	return policy.Replay(draft, entries), nil
}

// Shadow returns what the shadow policy of a tenant has seen; false where it
// has none.
func (g *Gateway) Shadow(id gatehouse.TenantID) (policy.ShadowReport, bool, error) {
	t, err := g.served(id)
	if err != nil || t.shadow == nil {
		return policy.ShadowReport{}, false, err
	}
	return t.shadow.Report(), true, nil
}
