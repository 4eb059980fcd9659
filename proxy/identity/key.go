package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"net/netip"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

const (
	keyRefused = "the API key is not valid"
	keyExpired = "the API key has expired"
)

var (
	errKeyForm     = errors.New("not the form of an API key")
	errKeyUnknown  = errors.New("unknown API key")
	errKeyExpired  = errors.New("API key past its expiry")
	errKeyReplaced = errors.New("API key past the overlap of its rotation")
)

// Key identifies the bearer of an API key who calls from client at the instant
// now, and notes the use. Every refusal is CodeInvalidCredential. Key keeps no
// reference to secret, takes no lock and does not allocate, but for the first
// use of a key after a pause.
//
// Refusals are not remembered. What was not made by `gatehouse key new` fails
// its checksum before anything is hashed or looked up, refusal included in 60
// ns; a made-up key whose checksum holds costs a SHA-256 and a look-up, 150 ns,
// as a good one does. A memory of bad keys would have to hash them to find
// them, so it would spare nothing, and it could be flooded.
func (v *Verifier) Key(secret []byte, client netip.Addr, now time.Time) (*Verified, error) {
	s, err := v.judge(secret, client, now)
	if err != nil {
		return nil, err
	}
	if k, at := s.key, now.Unix(); at > k.used.Load() {
		k.used.Store(at)
	}
	if who := s.who.Load(); who != nil {
		return who, nil
	}
	return v.keys.warm.verified(s), nil
}

// GenuineKey reports whether Key would accept the key. It notes no use and
// changes nothing: a request at another tenant may ask.
func (v *Verifier) GenuineKey(secret []byte, client netip.Addr, now time.Time) bool {
	_, err := v.judge(secret, client, now)
	return err == nil
}

// judge returns the live secret of a key that is accepted.
func (v *Verifier) judge(shown []byte, client netip.Addr, now time.Time) (*secret, error) {
	if !gatehouse.WellFormedKey(shown) {
		return nil, invalid(keyRefused, errKeyForm)
	}
	if v.keys == nil {
		return nil, invalid(keyRefused, errKeyUnknown)
	}
	hash := gatehouse.KeyHash(sha256.Sum256(shown))
	s := v.keys.find(&hash)
	if s == nil {
		return nil, invalid(keyRefused, errKeyUnknown)
	}
	k := s.key
	if now.UnixMicro() >= s.until {
		if s != &k.current && now.UnixMicro() < k.current.until {
			return nil, invalid(keyExpired, errKeyReplaced)
		}
		return nil, invalid(keyExpired, errKeyExpired)
	}
	if !k.grant.admits(client) {
		return nil, invalid(keyRefused, fmt.Errorf("API key %q is not accepted from %s", k.id, client))
	}
	return s, nil
}

// find returns the live secret with a hash. The hash is compared in constant
// time.
func (c *apiKeys) find(hash *gatehouse.KeyHash) *secret {
	return findHash(&c.hashes, maphash.Bytes(c.seed, hash[:]), hash)
}

func findHash(x *index, tag uint64, hash *gatehouse.KeyHash) *secret {
	bucket := x.bucket(tag)
	for i := range bucket {
		if e := &bucket[i]; e.tag == tag && subtle.ConstantTimeCompare(e.secret.hash[:], hash[:]) == 1 {
			return e.secret
		}
	}
	return nil
}

// LastUsed returns the tenant's API keys that were accepted, in no order, with
// the second of the last time. It is told by every verifier of the tenant that
// follows another, as long as the key is not removed.
func (v *Verifier) LastUsed() iter.Seq2[gatehouse.KeyID, time.Time] {
	return func(yield func(gatehouse.KeyID, time.Time) bool) {
		if v.keys == nil {
			return
		}
		for e := range v.keys.ids.all() {
			k := e.secret.key
			if at := k.used.Load(); at != 0 && !yield(k.id, time.Unix(at, 0).UTC()) {
				return
			}
		}
	}
}

// Cool drops what was prepared of API keys that were not used since before,
// and returns how many. Their next use prepares it again.
func (v *Verifier) Cool(before time.Time) int {
	if v.keys == nil {
		return 0
	}
	return v.keys.warm.cool(before.Unix())
}
