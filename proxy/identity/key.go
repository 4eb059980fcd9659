package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

const (
	keyRefused = "the API key is not valid"
	keyExpired = "the API key has expired"
)

var (
	errKeyForm    = errors.New("not the form of an API key")
	errKeyUnknown = errors.New("unknown API key")
	errKeyExpired = errors.New("API key past its expiry")
)

// apiKeys finds a key by the first eight bytes of its hash; the rest is
// compared in constant time.
type apiKeys struct {
	byPrefix map[uint64]*apiKey
	all      []gatehouse.KeyHash
}

type apiKey struct {
	hash     gatehouse.KeyHash
	verified Verified
	next     *apiKey // another key of the same prefix
}

func compileKeys(tenant gatehouse.TenantID, keys []gatehouse.Key) *apiKeys {
	c := &apiKeys{byPrefix: make(map[uint64]*apiKey, len(keys)), all: make([]gatehouse.KeyHash, 0, len(keys))}
	for i := range keys {
		k := &keys[i]
		p := prefix(&k.Hash)
		c.byPrefix[p] = &apiKey{
			hash: k.Hash,
			verified: Verified{
				Principal: policy.NewPrincipal(kindKey, keyIDPrefix+string(k.ID), string(tenant), k.Roles, k.Scopes, nil, nil),
				Method:    MethodAPIKey,
				KeyID:     k.ID,
				Expires:   k.Expires.Time,
			},
			next: c.byPrefix[p],
		}
		c.all = append(c.all, k.Hash)
	}
	return c
}

func prefix(h *gatehouse.KeyHash) uint64 { return binary.LittleEndian.Uint64(h[:]) }

// Key identifies the bearer of an API key at the instant now. Every refusal is
// CodeInvalidCredential. It keeps no reference to secret and does not allocate
// when the key is accepted.
func (v *Verifier) Key(secret []byte, now time.Time) (*Verified, error) {
	if !gatehouse.WellFormedKey(secret) {
		return nil, invalid(keyRefused, errKeyForm)
	}
	if v.keys == nil {
		return nil, invalid(keyRefused, errKeyUnknown)
	}
	hash := gatehouse.KeyHash(sha256.Sum256(secret))
	k := v.keys.find(&hash)
	if k == nil {
		return nil, invalid(keyRefused, errKeyUnknown)
	}
	if !k.verified.Expires.IsZero() && !now.Before(k.verified.Expires) {
		return nil, invalid(keyExpired, errKeyExpired)
	}
	return &k.verified, nil
}

func (c *apiKeys) find(hash *gatehouse.KeyHash) *apiKey {
	k := c.byPrefix[prefix(hash)]
	for k != nil && subtle.ConstantTimeCompare(k.hash[:], hash[:]) != 1 {
		k = k.next
	}
	return k
}
