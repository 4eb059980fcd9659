package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/MicahParks/jwkset"
)

const (
	maxKeys = 100 // keys in one set
	// RSA moduli in bits: RFC 8725 section 3.5 and RFC 7518 section 3.3 ask for
	// 2048; more than 8192 only makes verification slow.
	minRSA = 2048
	maxRSA = 8192
)

// key is one verification key. The tokens cached under it live as long as it
// is not retired.
type key struct {
	id  string // kid; may be empty
	alg string // the only algorithm allowed; empty means any that fits
	// public is *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey from a
	// key set, or the []byte of a shared secret, which no key set can hold.
	public  any
	retired atomic.Bool // set once, when a refresh no longer has the key
}

// keySet is what an issuer signs with. It is immutable but for its keys'
// retired marks.
type keySet struct{ keys []*key }

var (
	errNoKID     = errors.New("no kid, and not exactly one key fits the algorithm")
	errUnknownID = errors.New("kid is not in the issuer's key set")
	errKeyMisfit = errors.New("the key of that kid does not fit the algorithm")
)

// find returns the key for a token. A token without kid is accepted only where
// there is no choice.
func (s *keySet) find(kid string, hasID bool, alg string) (*key, error) {
	var found *key
	for _, k := range s.keys {
		if hasID && k.id != kid {
			continue
		}
		fits := k.fits(alg)
		if hasID {
			if !fits {
				return nil, errKeyMisfit
			}
			return k, nil
		}
		if fits && found != nil {
			return nil, errNoKID
		}
		if fits {
			found = k
		}
	}
	switch {
	case found != nil:
		return found, nil
	case hasID:
		return nil, errUnknownID
	default:
		return nil, errNoKID
	}
}

// fits reports whether alg may be verified with the key: RFC 8725 section 3.1,
// and for elliptic curves the pairs of RFC 7518 section 3.4, which golang-jwt
// does not check when it verifies.
func (k *key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		switch public.Curve.Params().Name {
		case "P-256":
			return alg == "ES256"
		case "P-384":
			return alg == "ES384"
		case "P-521":
			return alg == "ES512"
		}
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case []byte:
		return strings.HasPrefix(alg, "HS")
	}
	return false
}

func (k *key) same(other *key) bool {
	if k.id != other.id || k.alg != other.alg {
		return false
	}
	switch a := k.public.(type) {
	case *rsa.PublicKey:
		return a.Equal(other.public)
	case *ecdsa.PublicKey:
		return a.Equal(other.public)
	case ed25519.PublicKey:
		return a.Equal(other.public)
	}
	return false
}

// succeed puts old's key objects where the new set has the same keys and
// retires the others, so that only tokens of removed keys leave the caches.
func (s *keySet) succeed(old *keySet) {
	if old == nil {
		return
	}
	for _, o := range old.keys {
		if i := slices.IndexFunc(s.keys, o.same); i >= 0 {
			s.keys[i] = o
		} else {
			o.retired.Store(true)
		}
	}
}

// parseKeySet reads a JSON Web Key Set (RFC 7517). Keys for other uses or of
// unsupported kinds are left out; weak ones too, each with a warning. A set
// that holds a private or symmetric key is refused: whoever reads it could
// sign.
func parseKeySet(text []byte) (set *keySet, warnings []string, err error) {
	var doc jwkset.JWKSMarshal
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, nil, fmt.Errorf("not a JSON Web Key Set: %w", err)
	}
	if len(doc.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("%d keys; at most %d are accepted", len(doc.Keys), maxKeys)
	}
	set = &keySet{}
	for i, m := range doc.Keys {
		if m.D != "" || m.P != "" || m.Q != "" || m.DP != "" || m.DQ != "" || m.QI != "" || len(m.OTH) > 0 || m.K != "" || m.KTY == jwkset.KtyOct {
			return nil, nil, fmt.Errorf("key %d (kid %q) is private or symmetric; only public keys belong here", i, m.KID)
		}
		k, err := readKey(&m)
		_, isWeak := errors.AsType[weak](err)
		switch {
		case isWeak:
			warnings = append(warnings, fmt.Sprintf("key %d (kid %q) is not used: %v", i, m.KID, err))
			continue
		case err != nil:
			return nil, nil, fmt.Errorf("key %d (kid %q): %w", i, m.KID, err)
		case k == nil:
			continue
		}
		if m.KID != "" && slices.ContainsFunc(set.keys, func(o *key) bool { return o.id == m.KID }) {
			return nil, nil, fmt.Errorf("key %d: kid %q is given twice", i, m.KID)
		}
		set.keys = append(set.keys, k)
	}
	if len(set.keys) == 0 {
		return nil, warnings, errors.New("no usable verification key")
	}
	return set, warnings, nil
}

// weak says why a key is one that others than its holder may sign with.
type weak string

func (w weak) Error() string { return string(w) }

// readKey makes a key from its JWK; nil when it is for another use or of an
// unsupported kind.
func readKey(m *jwkset.JWKMarshal) (*key, error) {
	if m.USE != "" && m.USE != jwkset.UseSig || len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return nil, nil
	}
	if len(m.E) > 6 { // four bytes, or the library would cut them off
		return nil, weak("RSA exponent of more than 32 bits")
	}
	j, err := jwkset.NewJWKFromMarshal(*m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipKeyOps: true})
	if errors.Is(err, jwkset.ErrUnsupportedKey) {
		return nil, nil
	}
	if err != nil {
		// errors.Join, which the library uses, breaks lines.
		return nil, errors.New(strings.ReplaceAll(err.Error(), "\n", ": "))
	}
	k := &key{id: m.KID, alg: string(m.ALG), public: j.Key()}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		bits := public.N.BitLen()
		if bits < minRSA || bits > maxRSA || public.E < 3 || public.E&1 == 0 {
			return nil, weak(fmt.Sprintf("RSA of %d bits, exponent %d; %d to %d bits and an odd exponent of at least 3 are accepted", bits, public.E, minRSA, maxRSA))
		}
		if roca(public.N) {
			return nil, weak("RSA modulus of a kind that can be factored (CVE-2017-15361)")
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return nil, nil
	}
	return k, nil
}
