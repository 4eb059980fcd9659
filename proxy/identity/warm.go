package identity

import (
	"slices"
	"sync"

	"github.com/gatehouse-gateway/gatehouse/policy"
)

// maxWarm bounds the secrets of one tenant that have their principal at hand.
// One costs 3 KiB, and 7 µs to make.
const maxWarm = 8192

// warm prepares principals for the keys that are used, the longest prepared
// making room. It is shared by the verifiers of a tenant that follow one
// another.
type warm struct {
	mu   sync.Mutex
	ring []*secret // guarded by mu
	hand int       // the next of a full ring to make room; guarded by mu
}

// verified returns what Key returns for a secret, and keeps it at hand.
func (w *warm) verified(s *secret) *Verified {
	k := s.key
	var principal *policy.Principal
	if first := k.current.who.Load(); first != nil {
		principal = first.Principal
	} else {
		principal = policy.NewPrincipal(kindKey, keyIDPrefix+string(k.id), string(k.grant.tenant), k.grant.roles, k.grant.scopes, nil, nil)
	}
	who := &Verified{Principal: principal, Method: MethodAPIKey, KeyID: k.id, Expires: s.expires()}
	if !s.who.CompareAndSwap(nil, who) {
		return who
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ring) < maxWarm {
		w.ring = append(w.ring, s)
		return who
	}
	w.ring[w.hand].who.Store(nil)
	w.ring[w.hand] = s
	w.hand = (w.hand + 1) % maxWarm
	return who
}

// cool makes room of the secrets whose key was last used before a Unix second.
func (w *warm) cool(before int64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := make([]*secret, 0, len(w.ring))
	for _, s := range slices.Concat(w.ring[w.hand:], w.ring[:w.hand]) {
		if s.key.used.Load() < before {
			s.who.Store(nil)
		} else {
			kept = append(kept, s)
		}
	}
	cooled := len(w.ring) - len(kept)
	w.ring, w.hand = kept, 0
	return cooled
}
