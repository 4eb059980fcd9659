package identity

import (
	"crypto/sha256"
	"errors"
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/gatehouse-gateway/gatehouse/policy"
)

// errUnasked says that JudgeOpaque does not know.
var errUnasked = errors.New("the authorization server would be asked about the token")

// JudgeKey returns what Key would, and changes nothing: no use is noted and
// nothing is prepared.
func (v *Verifier) JudgeKey(secret []byte, client netip.Addr, now time.Time) (*Verified, error) {
	s, err := v.judge(secret, client, now)
	if err != nil {
		return nil, err
	}
	if who := s.who.Load(); who != nil {
		return who, nil
	}
	k := s.key
	return &Verified{
		Principal: policy.NewPrincipal(kindKey, keyIDPrefix+string(k.id), string(k.grant.tenant), k.grant.roles, k.grant.scopes, nil, nil),
		Method:    MethodAPIKey, KeyID: k.id, Expires: s.expires(),
	}, nil
}

// JudgeToken returns what Token would, and changes nothing: the token is not
// remembered, a bad signature does not count, no key set is fetched, and a
// proof is not used up. A token whose key would have to be fetched first is
// refused.
func (v *Verifier) JudgeToken(token []byte, by *Presented, now time.Time) (*Verified, error) {
	if len(token) > maxToken {
		return nil, by.refuse(invalid(tokenRefused, errTokenForm))
	}
	t := v.tokens
	s := t.cache.find(maphash.Bytes(t.cache.seed, token), token)
	if s == nil || !s.live(now) {
		var err error
		if s, err = t.verify(string(token), now, nil, newFailures(), by.client()); err != nil {
			return nil, by.refuse(err)
		}
	}
	return v.apart().hold(s.verified, token, by, now, v.proofs.known)
}

// JudgeOpaque returns what Opaque would where the authorization server has
// said so lately; else it is CodeIdentityUnavailable. It asks nobody and
// changes nothing.
func (v *Verifier) JudgeOpaque(token []byte, by *Presented, now time.Time) (*Verified, error) {
	o := v.opaque
	if o == nil {
		return nil, by.refuse(invalid(tokenRefused, errNoServer))
	}
	if !opaqueForm(token) {
		return nil, by.refuse(invalid(tokenRefused, errOpaqueForm))
	}
	digest := sha256.Sum256(token)
	s, _ := o.seen(maphash.Bytes(o.active.seed, digest[:]), digest[:], now)
	if s == nil {
		return nil, unavailable(errUnasked)
	}
	if s.err != nil {
		return nil, by.refuse(s.err)
	}
	return v.apart().hold(s.verified, token, by, now, v.proofs.known)
}

// apart is a verifier whose failures count nowhere.
func (v *Verifier) apart() *Verifier { return &Verifier{failed: newFailures()} }

// known refuses a proof that was used, and takes no note of it.
func (r *replays) known(p proven) error {
	text := make([]byte, 0, sha256.Size+maxJTI)
	hash := sha256.Sum256(append(append(text, p.thumbprint[:]...), p.jti...))
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.by[p.at.Unix()/60][[16]byte(hash[:16])]; ok {
		return badProof(errReplay)
	}
	return nil
}

// KeySetState is where the keys of one issuer that has a jwks_url stand.
type KeySetState struct {
	Issuer string
	// URL is without what may be secret of it.
	URL string
	// Fetched: there are keys. Failures counts the fetches that failed in a
	// row since.
	Fetched  bool
	Failures int
}

// KeySets tells the state of the key sets that are fetched for the tenant.
func (v *Verifier) KeySets() []KeySetState {
	var list []KeySetState
	for _, i := range v.tokens.issuers {
		if i.source == nil || v.sets == nil {
			continue
		}
		v.sets.mu.Lock()
		failures := i.source.failures
		v.sets.mu.Unlock()
		list = append(list, KeySetState{i.name, i.source.name, i.source.keys.Load() != nil, failures})
	}
	return list
}
