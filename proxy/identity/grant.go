package identity

import (
	"net/netip"
	"slices"
	"sync"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// grant is what a key allows. Keys that allow the same share it.
type grant struct {
	tenant        gatehouse.TenantID
	roles, scopes []string
	addresses     []gatehouse.Prefix // none: any address
}

func (g *grant) same(doc *gatehouse.Key) bool {
	return slices.Equal(g.roles, doc.Roles) && slices.Equal(g.scopes, doc.Scopes) && slices.Equal(g.addresses, doc.Addresses)
}

// admits reports whether a key may be used from an address.
func (g *grant) admits(client netip.Addr) bool {
	if len(g.addresses) == 0 {
		return true
	}
	client = client.Unmap().WithZone("")
	for i := range g.addresses {
		if g.addresses[i].Contains(client) {
			return true
		}
	}
	return false
}

// maxGrants bounds the grants that a tenant remembers for keys to come.
// Keys of a tenant with more kinds than this have their own.
const maxGrants = 64

// grants are the kinds of keys of one tenant, shared by the verifiers that
// follow one another.
type grants struct {
	mu    sync.Mutex
	known []*grant // guarded by mu
	hand  int      // the next of known to be forgotten; guarded by mu
}

// of returns the grant of a key. It keeps the key's lists if it is new.
func (g *grants) of(tenant gatehouse.TenantID, doc *gatehouse.Key) *grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, known := range g.known {
		if known.same(doc) {
			return known
		}
	}
	made := &grant{tenant, doc.Roles, doc.Scopes, doc.Addresses}
	if len(g.known) < maxGrants {
		g.known = append(g.known, made)
	} else {
		g.known[g.hand] = made
		g.hand = (g.hand + 1) % maxGrants
	}
	return made
}
