package identity

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

// A signature that does not hold has cost a verification, up to 2 ms with
// P-521, for somebody who may be anybody. One tenant's tokens may fail
// failRate times a second, and those of one address addressFailRate times.
const (
	failRate  = 200
	failBurst = 400
	// One address alone can then not use up the tenant's failures: beyond them
	// good tokens that are new are not verified either.
	addressFailRate  = failRate / 4
	addressFailBurst = failBurst / 4
	refusedTokens    = 256 // remembered for each tenant, in 12 KiB
)

var errFailures = errors.New("too many tokens failed verification lately")

// failures bounds what one tenant's bad signatures cost. The verifiers of a
// tenant that follow one another share it. Most tenants never see one.
type failures struct {
	seen atomic.Pointer[failed] // made by the first failure
}

type failed struct {
	tenant    *rate.Limiter
	addresses shares
	// refused are tokens that failed, so that one client's bad token is not
	// verified again and again.
	refused [refusedTokens]atomic.Pointer[refusedToken]
}

// refusedToken is a token that a key did not sign. Another key, after a change
// of the key set, is asked anew.
type refusedToken struct {
	hash [sha256.Size]byte
	key  *key
	err  error
}

func newFailures() *failures { return &failures{} }

// verify checks the signature of a token by k, unless too many have failed.
func (f *failures) verify(token string, j *jws, method jwt.SigningMethod, k *key, client netip.Addr, now time.Time) error {
	if have := f.seen.Load(); have != nil {
		hash := sha256.Sum256([]byte(token))
		if err := have.before(&hash, k); err != nil {
			return err
		}
	}
	if f.bars(client, now) {
		return errFailures
	}
	if err := method.Verify(j.text, j.signature, k.public); err != nil {
		err = fmt.Errorf("signature is invalid: %w", err)
		f.note(client, now).keep(&refusedToken{sha256.Sum256([]byte(token)), k, err})
		return err
	}
	return nil
}

// bars reports whether a client may not have another signature verified.
func (f *failures) bars(client netip.Addr, now time.Time) bool {
	have := f.seen.Load()
	return have != nil && (have.tenant.TokensAt(now) < 1 || have.addresses.of(client).rate.TokensAt(now) < 1)
}

// note counts a signature of a client that did not hold.
func (f *failures) note(client netip.Addr, now time.Time) *failed {
	have := f.seen.Load()
	if have == nil {
		have = &failed{tenant: rate.NewLimiter(failRate, failBurst)}
		have.addresses.init(addressFailRate, addressFailBurst)
		if !f.seen.CompareAndSwap(nil, have) {
			have = f.seen.Load()
		}
	}
	have.tenant.AllowN(now, 1)
	have.addresses.of(client).rate.AllowN(now, 1)
	return have
}

// before returns why a token failed by k before, nil where it is not known to
// have. hash is its SHA-256.
func (f *failed) before(hash *[sha256.Size]byte, k *key) error {
	if t := f.refused[slotOf(hash)].Load(); t != nil && t.key == k && t.hash == *hash {
		return t.err
	}
	return nil
}

func (f *failed) keep(t *refusedToken) { f.refused[slotOf(&t.hash)].Store(t) }

func slotOf(hash *[sha256.Size]byte) uint64 {
	return binary.LittleEndian.Uint64(hash[:]) % refusedTokens
}

// maxShares bounds the addresses that are told apart. Those that fall together
// share what one has.
const maxShares = 256

// shares are what each client address may have of something. An IPv6 address
// stands for its /64, which is one subscriber's.
type shares struct {
	seed  maphash.Seed
	limit rate.Limit
	burst int
	slots atomic.Pointer[[maxShares]atomic.Pointer[share]] // made by the first of
}

type share struct {
	rate   *rate.Limiter
	asking atomic.Int32 // requests of the address that wait
}

func (s *shares) init(limit rate.Limit, burst int) {
	s.seed, s.limit, s.burst = maphash.MakeSeed(), limit, burst
}

// of returns the share of an address. The zero Addr has one as well.
func (s *shares) of(client netip.Addr) *share {
	client = client.Unmap().WithZone("")
	if client.Is6() {
		prefix, _ := client.Prefix(64) // 64 bits are there
		client = prefix.Addr()
	}
	bytes := client.As16()
	if s.slots.Load() == nil {
		s.slots.CompareAndSwap(nil, new([maxShares]atomic.Pointer[share]))
	}
	slot := &s.slots.Load()[maphash.Bytes(s.seed, bytes[:])%maxShares]
	if have := slot.Load(); have != nil {
		return have
	}
	slot.CompareAndSwap(nil, &share{rate: rate.NewLimiter(s.limit, s.burst)})
	return slot.Load()
}
