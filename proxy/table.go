package proxy

import (
	"cmp"
	"iter"
	"reflect"
	"slices"
	"sync"
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
	routes   []routeTable // as in the document
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
	plan     *gatehouse.Plan // nil: none
	revision uint64
	backends []*upstream.Backend // as in the document
	minTLS   uint16
	domain   string // empty: none
	aliases  []string
	// packed is the document at rest, see gatehouse.Tenant.Pack: spread out it
	// takes five times the memory, and it is hardly ever asked for.
	packed string
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
	pathMode  gatehouse.PathMode
	any       []gatehouse.Credential // in the order in which they are looked for
	all       []gatehouse.Credential // nil: one of any will do
	terms     *routeTerms            // shared by the routes of any tenant that set none
	backendID gatehouse.BackendID
	fields    limitFields
}

// routeTerms are what most routes leave at its default: they share usualTerms.
type routeTerms struct {
	upgrades   []string    // protocols, in lower case
	trailers   []string    // the names that may pass
	meters     []unitMeter // the units that the backend reports
	tunnelIdle time.Duration
	tunnelAge  time.Duration      // how long a tunnel may live
	hashBy     gatehouse.Selector // where the backend balances by hash
}

// usualTerms are never written.
var usualTerms = routeTerms{
	upgrades: []string{gatehouse.DefaultUpgrade}, tunnelIdle: gatehouse.DefaultUpgradeIdle, tunnelAge: gatehouse.DefaultUpgradeMaxAge,
	hashBy: gatehouse.Selector{Kind: "principal"},
}

func termsOf(doc *gatehouse.Route, backend *gatehouse.Backend) *routeTerms {
	t := usualTerms
	t.trailers, t.meters = doc.Trailers, unitMeters(&doc.Meter)
	t.tunnelIdle, t.tunnelAge = doc.Upgrade.Idle.Or(t.tunnelIdle), doc.Upgrade.MaxAge.Or(t.tunnelAge)
	t.hashBy = cmp.Or(backend.HashBy, t.hashBy)
	switch {
	case doc.Upgrade.Off, backend.Protocol == gatehouse.HTTP2: // HTTP/2 has another way, which is not spoken
		t.upgrades = nil
	case len(doc.Upgrade.Protocols) > 0:
		t.upgrades = doc.Upgrade.Protocols
	}
	if reflect.DeepEqual(t, usualTerms) {
		return &usualTerms
	}
	return &t
}

// via is what an answer says that the backend is spoken to in.
func (r *routeTable) via() []byte {
	if r.duplex {
		return viaHTTP2
	}
	return viaHTTP1
}

// document unpacks the tenant's document: a copy, which costs tens of
// microseconds. It fails for one that a reader would not have taken.
func (t *table) document() (*gatehouse.Tenant, error) {
	return gatehouse.UnpackTenant([]byte(t.packed))
}

// hosts goes through what the tenant is reached by.
func (t *table) hosts() iter.Seq[string] {
	return (&gatehouse.Tenant{Domain: t.domain, Aliases: t.aliases}).AllHosts()
}

// compile builds a tenant's next table. prev, the running one, may be nil;
// what has not changed is carried over. Nothing of the running table is
// touched: when faults come back the caller keeps it.
func (g *Gateway) compile(s *slot, doc *gatehouse.Tenant, plan *gatehouse.Plan, revision uint64) (*table, gatehouse.Faults) {
	prev := s.table.Load()
	text, err := doc.Pack()
	if err != nil {
		return nil, gatehouse.Faults{{Reason: err.Error()}}
	}
	packed := string(text)
	// was is the running table's document, read when it is asked for; nil where
	// it cannot be.
	was := sync.OnceValue(func() *gatehouse.Tenant {
		if prev.packed == packed {
			return doc
		}
		old, err := prev.document()
		if err != nil {
			return nil
		}
		return old
	})
	t := &table{
		id: string(doc.ID), packed: packed, domain: doc.Domain, aliases: doc.Aliases, minTLS: minTLS(doc), plan: plan, revision: revision, features: doc.Features.On(),
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
	faults = append(faults, g.watch(t, doc, prev, was).Under("/policy")...)

	var prevVerifier *identity.Verifier
	if prev != nil {
		prevVerifier = prev.verifier
	}
	t.verifier, more = identity.Compile(doc.ID, doc.Identity, g.standing(doc.ID), g.keySets, prevVerifier)
	faults = append(faults, more.Under("/identity")...)
	if prev != nil && was() != nil && reflect.DeepEqual(was().Identity.Forward, doc.Identity.Forward) &&
		identity.SeveralIssuers(&was().Identity) == identity.SeveralIssuers(&doc.Identity) {
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
func (g *Gateway) bind(t *table, doc *gatehouse.Tenant, now time.Time) {
	zone := g.zones.named(doc.TimeZone)
	t.routes = make([]routeTable, len(doc.Routes))
	stacks := make([]*ratelimit.Stack, len(doc.Routes))
	shared := -1 // a route without limits of its own
	for i := range doc.Routes {
		r := &t.routes[i]
		*r = g.compileRoute(t, doc, &doc.Routes[i])
		own := !reflect.ValueOf(&doc.Routes[i].Limits).Elem().IsZero()
		if shared >= 0 && !own {
			r.stack, r.fields = t.routes[shared].stack, t.routes[shared].fields
		} else {
			r.stack = g.stackOf(t, doc, &doc.Routes[i], zone, now)
			r.fields = newLimitFields(g.headers, r.stack.Limits())
		}
		if !own {
			shared = i
		}
		stacks[i] = r.stack
	}
	t.slot.limits.Retain(stacks...)
}

func (g *Gateway) compileRoute(t *table, tenant *gatehouse.Tenant, doc *gatehouse.Route) routeTable {
	r := routeTable{
		id: doc.ID, auth: cmp.Or(doc.Auth, gatehouse.AuthRequired), cost: max(1, doc.Cost),
		pathMode: doc.PathMode, backendID: doc.Backend,
		maxBody: int64(cmp.Or(doc.MaxBody, g.cfg.Limits.Body)), tally: t.slot.tallies.of(doc.ID),
	}
	if r.any, r.all = doc.AnyOf, doc.AllOf; len(r.any) == 0 {
		r.any = anyCredential
	}
	i := slices.IndexFunc(tenant.Backends, func(b gatehouse.Backend) bool { return b.ID == doc.Backend })
	r.backend = t.backends[i]
	r.duplex = tenant.Backends[i].Protocol == gatehouse.HTTP2
	r.hashes = tenant.Backends[i].Balance == gatehouse.ConsistentHash
	r.terms = termsOf(doc, &tenant.Backends[i])
	return r
}

// stackOf returns the limits that requests on a route are held to.
func (g *Gateway) stackOf(t *table, tenant *gatehouse.Tenant, doc *gatehouse.Route, zone *time.Location, now time.Time) *ratelimit.Stack {
	scopes := make([]ratelimit.Scope, 0, 3)
	if t.plan != nil {
		scopes = append(scopes, ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: t.plan.Limits})
	}
	scopes = append(scopes,
		ratelimit.Scope{Kind: ratelimit.TenantScope, Limits: tenant.Limits},
		ratelimit.Scope{Kind: ratelimit.RouteScope, Route: doc.ID, Limits: doc.Limits})
	return t.slot.limits.Stack(now, zone, scopes...)
}

// backend returns a backend by its id, nil for none.
func (t *table) backend(id gatehouse.BackendID) *upstream.Backend {
	for _, b := range t.backends {
		if b.ID() == id {
			return b
		}
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
