package proxy

import (
	"cmp"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/route"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// slot is a tenant's place in the gateway. It outlives the tables that follow
// one another in it, and holds the state that changes do not touch.
type slot struct {
	id     gatehouse.TenantID
	table  atomic.Pointer[table] // written by Apply, under Gateway.mu; nil once removed
	limits *ratelimit.Local
	meter  *metering.TenantMeter
	gate   *gate
	// tunnels counts the tenant's upgraded connections.
	tunnels atomic.Int64
	tallies tallies

	// platform is set in the slots of platform domains, which have no table.
	platform *PlatformDomain
}

// table is one tenant compiled: immutable, replaced as a whole. A request
// loads it once and uses no other.
//
// What every request reads comes first, and none of it is left in the document:
// of a tenant that was not asked for a while every line of memory is far away.
type table struct {
	slot     *slot
	router   *route.Router
	routes   []routeTable // as in doc.Routes
	verifier *identity.Verifier
	signer   *identity.Signer
	policy   *policy.Policy

	meter            *metering.TenantMeter
	shadow           *policy.Shadow   // nil: none
	recorder         *policy.Recorder // of decisions; nil: none are kept
	id               string
	planID           gatehouse.PlanID // empty: none
	suspended        bool
	needsCertificate bool // callers without a client certificate are turned away
	showsCredentials bool // backends are shown the caller's credentials
	signs            bool // what backends are told is signed

	features []string
	doc      *gatehouse.Tenant
	plan     *gatehouse.Plan // nil: none
	revision uint64
	backends []*upstream.Backend // as in doc.Backends
}

// routeTable is one route with what it needs of its tenant at hand.
type routeTable struct {
	id        gatehouse.RouteID
	auth      gatehouse.Auth
	stack     *ratelimit.Stack
	backend   *upstream.Backend
	tally     *tally
	cost      int64
	maxBody   int64
	hashes    bool // the backend balances by hash
	duplex    bool // the backend may answer while the request body is read
	trails    bool // trailers may pass
	pathMode  gatehouse.PathMode
	any       []gatehouse.Credential // in the order in which they are looked for
	all       []gatehouse.Credential // nil: one of any will do
	upgrades  []string               // protocols, in lower case
	meters    []unitMeter            // the units that the backend reports
	via       []byte                 // of answers: what the backend is spoken to in
	backendID gatehouse.BackendID
	fields    limitFields
	hashBy    gatehouse.Selector
	doc       *gatehouse.Route
}

// compile builds a tenant's next table. prev, the running one, may be nil;
// what has not changed is carried over. Nothing of the running table is
// touched: when faults come back the caller keeps it.
func (g *Gateway) compile(s *slot, doc *gatehouse.Tenant, plan *gatehouse.Plan, revision uint64) (*table, gatehouse.Faults) {
	prev := s.table.Load()
	t := &table{
		id: string(doc.ID), doc: doc, plan: plan, revision: revision, features: doc.Features.On(),
		backends: make([]*upstream.Backend, len(doc.Backends)), meter: s.meter, slot: s,
		suspended:        doc.Status == gatehouse.Suspended,
		needsCertificate: doc.Identity.ClientCertificates != nil && doc.Identity.ClientCertificates.Required,
		showsCredentials: doc.Identity.Forward.Credentials,
		signs:            doc.Identity.Forward.Mode == gatehouse.ForwardSigned,
	}
	if plan != nil {
		t.planID = plan.ID // its memory is shared with others of the plan
	}
	faults := g.validator.Tenant(doc)
	if doc.Plan != "" && plan == nil {
		faults = append(faults, gatehouse.Fault{Pointer: "/plan", Reason: "plan \"" + string(doc.Plan) + "\" does not exist"})
	}
	if len(faults.Errors()) > 0 {
		return nil, faults
	}
	var more gatehouse.Faults
	t.router, more = route.Compile(doc.Routes)
	faults = append(faults, more.Under("/routes")...)
	t.policy, more = g.engine.Compile(doc.Policy.Modules)
	faults = append(faults, more.Under("/policy")...)
	faults = append(faults, g.watch(t, prev).Under("/policy")...)

	var prevVerifier *identity.Verifier
	if prev != nil {
		prevVerifier = prev.verifier
	}
	t.verifier, more = identity.Compile(doc.ID, doc.Identity, g.standing(doc.ID), g.keySets, prevVerifier)
	faults = append(faults, more.Under("/identity")...)
	if prev != nil && reflect.DeepEqual(prev.doc.Identity.Forward, doc.Identity.Forward) &&
		identity.SeveralIssuers(&prev.doc.Identity) == identity.SeveralIssuers(&doc.Identity) {
		t.signer = prev.signer // with the tokens that it has made
	} else if signer, err := identity.NewSigner(doc.ID, doc.Identity); err != nil {
		faults = append(faults, gatehouse.Fault{Pointer: "/identity/forward/key_file", Reason: err.Error()})
	} else {
		t.signer = signer
	}

	for i := range doc.Backends {
		b := &doc.Backends[i]
		if more := upstream.Check(*b); len(more.Errors()) > 0 {
			faults = append(faults, more.Under(gatehouse.Pointer("backends", i))...)
			continue
		}
		var running *upstream.Backend
		if prev != nil {
			running = prev.backend(b.ID)
		}
		live, err := g.upstream.Backend(doc.ID, *b, running)
		if err != nil {
			faults = append(faults, gatehouse.Fault{Pointer: gatehouse.Pointer("backends", i), Reason: err.Error()})
			continue
		}
		t.backends[i] = live
	}
	if len(faults.Errors()) > 0 {
		g.discard(t, prev)
		return nil, faults
	}
	return t, faults
}

// bind gives a table that goes live its routes. Their limits come into force
// at once, for the running table too, and those that it no longer has end.
func (g *Gateway) bind(t *table, now time.Time) {
	zone := g.zones.named(t.doc.TimeZone)
	t.routes = make([]routeTable, len(t.doc.Routes))
	stacks := make([]*ratelimit.Stack, len(t.doc.Routes))
	shared := -1 // a route without limits of its own
	for i := range t.doc.Routes {
		r := &t.routes[i]
		*r = g.compileRoute(t, &t.doc.Routes[i])
		own := !reflect.ValueOf(&r.doc.Limits).Elem().IsZero()
		if shared >= 0 && !own {
			r.stack, r.fields = t.routes[shared].stack, t.routes[shared].fields
		} else {
			r.stack = g.stackOf(t, r.doc, zone, now)
			r.fields = newLimitFields(g.headers, r.stack.Limits())
		}
		if !own {
			shared = i
		}
		stacks[i] = r.stack
	}
	t.slot.limits.Retain(stacks...)
}

func (g *Gateway) compileRoute(t *table, doc *gatehouse.Route) routeTable {
	r := routeTable{
		id: doc.ID, doc: doc, auth: cmp.Or(doc.Auth, gatehouse.AuthRequired), cost: max(1, doc.Cost),
		trails: len(doc.Trailers) > 0, pathMode: doc.PathMode, backendID: doc.Backend,
		maxBody: int64(cmp.Or(doc.MaxBody, g.cfg.Limits.Body)), upgrades: upgradesOf(doc),
		via: viaHTTP1, meters: unitMeters(&doc.Meter), tally: t.slot.tallies.of(doc.ID),
	}
	if r.any, r.all = doc.AnyOf, doc.AllOf; len(r.any) == 0 {
		r.any = anyCredential
	}
	i := t.place(doc.Backend)
	r.backend = t.backends[i]
	if r.duplex = t.doc.Backends[i].Protocol == gatehouse.HTTP2; r.duplex {
		r.upgrades = nil // HTTP/2 has another way, which is not spoken
		r.via = viaHTTP2
	}
	r.hashes = t.doc.Backends[i].Balance == gatehouse.ConsistentHash
	r.hashBy = cmp.Or(t.doc.Backends[i].HashBy, gatehouse.Selector{Kind: "principal"})
	return r
}

// stackOf returns the limits that requests on a route are held to.
func (g *Gateway) stackOf(t *table, doc *gatehouse.Route, zone *time.Location, now time.Time) *ratelimit.Stack {
	scopes := make([]ratelimit.Scope, 0, 3)
	if t.plan != nil {
		scopes = append(scopes, ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: t.plan.Limits})
	}
	scopes = append(scopes,
		ratelimit.Scope{Kind: ratelimit.TenantScope, Limits: t.doc.Limits},
		ratelimit.Scope{Kind: ratelimit.RouteScope, Route: doc.ID, Limits: doc.Limits})
	return t.slot.limits.Stack(now, zone, scopes...)
}

// place is where a backend stands in the document; -1 for none.
func (t *table) place(id gatehouse.BackendID) int {
	for i := range t.doc.Backends {
		if t.doc.Backends[i].ID == id {
			return i
		}
	}
	return -1
}

// backend returns a backend by its id, nil for none.
func (t *table) backend(id gatehouse.BackendID) *upstream.Backend {
	if i := t.place(id); i >= 0 {
		return t.backends[i]
	}
	return nil
}

// discard gives back what a refused table had begun to hold.
func (g *Gateway) discard(t, prev *table) {
	if t.verifier != nil {
		t.verifier.Close()
	}
	for _, b := range t.backends {
		if b != nil && (prev == nil || !slices.Contains(prev.backends, b)) {
			b.Retire()
		}
	}
}

// retire gives back what the replaced table held and its successor, which is
// nil for a removed tenant, does not.
func (t *table) retire(next *table) {
	if t == nil {
		return
	}
	t.verifier.Close()
	for _, b := range t.backends {
		if next == nil || !slices.Contains(next.backends, b) {
			b.Retire()
		}
	}
}
