package proxy

import (
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/route"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
)

// Check compiles every tenant of a document as a gateway would, without
// opening anything, and returns what Validate cannot find: faults of policy
// modules, regular expressions, key sets and certificates.
func Check(engine *policy.Engine, doc *gatehouse.Document) gatehouse.Faults {
	var faults gatehouse.Faults
	for i := range doc.Tenants {
		t, at := &doc.Tenants[i], gatehouse.Pointer("tenants", i)
		_, more := route.Compile(t.Routes)
		faults = append(faults, more.Under(at+"/routes")...)
		_, more = engine.Compile(t.Policy.Modules)
		faults = append(faults, more.Under(at+"/policy")...)
		_, more = engine.Compile(t.Policy.Shadow)
		for _, f := range more {
			f.Pointer = at + "/policy" + strings.Replace(f.Pointer, "/modules", "/shadow", 1)
			faults = append(faults, f)
		}
		faults = append(faults, policy.MaskFault(t.Policy.Log.Mask).Under(at+"/policy/log/mask")...)
		v, more := identity.Compile(t.ID, t.Identity, nil, nil, nil)
		v.Close()
		faults = append(faults, more.Under(at+"/identity")...)
		if _, err := identity.NewSigner(t.ID, t.Identity); err != nil {
			faults = append(faults, gatehouse.Fault{Pointer: at + "/identity/forward/key_file", Reason: err.Error()})
		}
		for j := range t.Backends {
			faults = append(faults, upstream.Check(t.Backends[j]).Under(at+gatehouse.Pointer("backends", j))...)
		}
	}
	return faults
}
