package control

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"golang.org/x/sync/singleflight"
)

// Gateways is what this control plane knows of the data planes that follow it.
// It is safe for concurrent use.
type Gateways struct {
	now   func() time.Time
	name  string         // of this control plane among others
	peers *journal.Peers // nil: there are no others

	mu  sync.Mutex
	all map[string]*GatewayStatus // guarded by mu

	asked  asked
	shared singleflight.Group // of questions to peers, by topic and tenant
}

// GatewayStatus is where one data plane stands.
type GatewayStatus struct {
	// ID is what it calls itself, Version that of its program, Address where it
	// connects from.
	ID      string `json:"id"`
	Version string `json:"version,omitempty"`
	Address string `json:"address,omitempty"`
	// Connected says whether it follows now; Since is when that began or
	// ended, and Seen when it was last heard of.
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Seen      time.Time `json:"seen"`
	// Sent is the last revision that went to it, Acknowledged the last that
	// it answered for, Lag the time between both for that one, in
	// milliseconds.
	Sent         uint64  `json:"sent"`
	Acknowledged uint64  `json:"acknowledged"`
	Lag          float64 `json:"lag_ms"`
	// Refused are the tenants that it keeps in an earlier form, and why.
	Refused []gatehouse.Refusal `json:"refused,omitempty"`
	// RefusedMore are how many more it keeps so, of which the control plane that
	// it follows tells.
	RefusedMore int `json:"refused_more,omitempty"`

	sentAt time.Time // of Sent
}

// LocalGateway is the data plane in the process of the control plane, among
// all.
const LocalGateway = "local"

// NewGateways returns an empty register. Peers, unless nil, are the control
// planes that share the store, among which this one has that name.
func NewGateways(now func() time.Time, name string, peers *journal.Peers) *Gateways {
	return &Gateways{now: now, name: name, peers: peers, all: map[string]*GatewayStatus{}}
}

// maxGateways bounds those that are remembered when they have gone.
const maxGateways = 10_000

// Connect notes that a data plane follows. What it returns notes its end.
func (g *Gateways) Connect(id, version, address string) (end func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now().UTC()
	s := g.all[id]
	if s == nil {
		g.forget()
		s = &GatewayStatus{ID: id}
		g.all[id] = s
	}
	s.Version, s.Address, s.Connected, s.Since, s.Seen = version, address, true, now, now
	since := s.Since
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if s.Connected && s.Since.Equal(since) { // it has not come back meanwhile
			s.Connected, s.Since = false, g.now().UTC()
		}
	}
}

// forget makes room; it is called with mu held.
func (g *Gateways) forget() {
	if len(g.all) < maxGateways {
		return
	}
	for id, s := range g.all {
		if !s.Connected {
			delete(g.all, id)
		}
	}
}

// Send notes that an update goes out.
func (g *Gateways) Send(id string, revision uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.all[id]; s != nil {
		s.Sent, s.sentAt = revision, g.now()
	}
}

// Report notes a data plane's answer to an update.
// Of one that does not follow it is CodeNotFound.
func (g *Gateways) Report(id string, o gatehouse.Outcome) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.all[id]
	if s == nil {
		return notFound("gateway")
	}
	if o.Revision < s.Acknowledged || o.Revision > s.Sent {
		return nil // of an earlier connection
	}
	now := g.now()
	s.Seen, s.Acknowledged = now.UTC(), o.Revision
	if o.Revision == s.Sent {
		s.Lag = float64(now.Sub(s.sentAt).Microseconds()) / 1000
	}
	settled := map[gatehouse.TenantID]bool{}
	for _, ids := range [][]gatehouse.TenantID{o.Applied, o.Removed} {
		for _, id := range ids {
			settled[id] = true
		}
	}
	for _, r := range o.Refused {
		settled[r.Tenant] = true
	}
	s.Refused = slices.DeleteFunc(slices.Clone(s.Refused), func(r gatehouse.Refusal) bool { return settled[r.Tenant] })
	s.Refused = append(s.Refused, o.Refused...)
	if len(s.Refused) > maxRefused {
		s.Refused = s.Refused[len(s.Refused)-maxRefused:]
	}
	return nil
}

// maxRefused bounds the refusals that are remembered of one data plane: the
// newest.
const maxRefused = 1000

// Gateway returns the status of one.
func (g *Gateways) Gateway(id string) (GatewayStatus, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.all[id]
	if s == nil {
		return GatewayStatus{}, notFound("gateway")
	}
	return *s, nil
}

// List returns the status of each that follows this control plane, or did, by
// id.
func (g *Gateways) List() []GatewayStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]GatewayStatus, 0, len(g.all))
	for _, s := range g.all {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b GatewayStatus) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
