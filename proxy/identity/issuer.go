package identity

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"

	"github.com/golang-jwt/jwt/v5"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// tokens is the part of a verifier that deals with JSON Web Tokens. Two
// verifiers of one tenant share it while the issuers do not change.
type tokens struct {
	doc      []gatehouse.Issuer // what it was compiled from
	issuers  map[string]*issuer // by iss
	warnings gatehouse.Faults
	cache    cache
}

// issuer is one source of tokens.
type issuer struct {
	terms
	name       string
	algorithms map[string]jwt.SigningMethod // allowed; none is never among them
	accessOnly bool                         // only tokens of RFC 9068

	fixed  *keySet // from a file or a secret; nil until it exists
	source *source // by URL
}

// keySet returns the keys in force, nil when there are none yet.
func (i *issuer) keySet() *keySet {
	if i.source != nil {
		return i.source.keys.Load()
	}
	return i.fixed
}

func compileTokens(tenant gatehouse.TenantID, doc []gatehouse.Issuer, sets *KeySets) (*tokens, gatehouse.Faults) {
	t := &tokens{
		doc:     slices.Clone(doc),
		issuers: make(map[string]*issuer, len(doc)),
		cache:   cache{seed: maphash.MakeSeed()},
	}
	var faults gatehouse.Faults
	for n := range doc {
		d := &doc[n]
		i := &issuer{
			terms: terms{
				tenant: tenant, audience: d.Audience, tenantClaim: d.TenantClaim,
				rolesClaim: cmp.Or(d.RolesClaim, gatehouse.DefaultRolesClaim), bound: d.Bound,
			},
			name: d.Issuer, algorithms: make(map[string]jwt.SigningMethod, len(d.Algorithms)),
			accessOnly: d.Profile == gatehouse.ProfileAccessToken,
		}
		for a, alg := range d.Algorithms {
			i.algorithms[alg] = method(alg)
			if err := allowed(alg, d); err != nil {
				faults = append(faults, gatehouse.Fault{Pointer: gatehouse.Pointer("jwt", n, "algorithms", a), Reason: err.Error()})
			}
		}
		switch {
		case d.SecretFile != "":
			if len(d.Secret) > 0 {
				if reason := weakSecret(d); reason != "" {
					faults = append(faults, gatehouse.Fault{Pointer: gatehouse.Pointer("jwt", n, "secret_file"), Reason: reason})
				}
				i.fixed = &keySet{keys: []*key{{public: slices.Clone([]byte(d.Secret))}}}
			}
		case d.JWKSFile != "":
			if d.JWKS == "" {
				break
			}
			set, warnings, err := parseKeySet([]byte(d.JWKS))
			at := gatehouse.Pointer("jwt", n, "jwks_file")
			for _, w := range warnings {
				faults = append(faults, gatehouse.Fault{Pointer: at, Reason: w, Warning: true})
			}
			if err != nil {
				faults = append(faults, gatehouse.Fault{Pointer: at, Reason: err.Error()})
			}
			i.fixed = set
		case d.JWKSURL != "":
			i.source = &source{url: d.JWKSURL}
		}
		t.issuers[d.Issuer] = i
	}
	t.warnings = faults
	if len(faults.Errors()) > 0 {
		return nil, faults
	}
	if sets != nil {
		for _, i := range t.issuers {
			if i.source != nil {
				i.source = sets.acquire(i.source.url)
			}
		}
	}
	return t, faults
}

// allowed says why an issuer may not use an algorithm. Validate has looked
// already; here a mistake would let forged tokens in.
func allowed(alg string, d *gatehouse.Issuer) error {
	switch {
	case method(alg) == nil:
		return fmt.Errorf("algorithm %q is not supported", alg)
	case gatehouse.IsHMAC(alg) != (d.SecretFile != ""):
		return errors.New("HS256, HS384 and HS512 go with secret_file, all others with public keys")
	}
	return nil
}

// weakSecret says why a shared secret is not used: RFC 7518 section 3.2 asks
// for as many bytes as the hash has.
func weakSecret(d *gatehouse.Issuer) string {
	for _, alg := range d.Algorithms {
		if m, ok := method(alg).(*jwt.SigningMethodHMAC); ok && len(d.Secret) < m.Hash.Size() {
			return fmt.Sprintf("a secret of %d bytes; %s needs at least %d", len(d.Secret), alg, m.Hash.Size())
		}
	}
	return ""
}

// same reports whether compiling doc would give t again.
func (t *tokens) same(doc []gatehouse.Issuer) bool {
	return reflect.DeepEqual(t.doc, slices.Clone(doc))
}

// retain takes one more hold of every source; false when one is gone.
func (t *tokens) retain(sets *KeySets) bool {
	if sets == nil {
		return true
	}
	var held []*source
	for _, i := range t.issuers {
		if i.source == nil {
			continue
		}
		if !sets.retain(i.source) {
			for _, s := range held {
				sets.release(s)
			}
			return false
		}
		held = append(held, i.source)
	}
	return true
}

func (t *tokens) release(sets *KeySets) {
	if sets == nil {
		return
	}
	for _, i := range t.issuers {
		if i.source != nil {
			sets.release(i.source)
		}
	}
}
