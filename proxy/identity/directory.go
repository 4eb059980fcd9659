package identity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// directoryShards bounds the cost of a change: one shard is copied for each
// key added or removed. With a million keys a shard holds 244.
const directoryShards = 1 << 12

// Directory finds the tenant of a credential among all tenants: for platform
// domains, and to tell another tenant's credential from an unknown one. Reads
// take no lock. A change costs in proportion to that tenant's issuers and to
// what changed of its keys, however many tenants and keys there are.
type Directory struct {
	seed    maphash.Seed
	keys    atomic.Pointer[index] // of all tenants' live secrets; written under mu
	issuers table[string, *published]
	members table[membership, member]

	mu     sync.Mutex           // held by a Change
	shared map[string]*accepted // by iss; guarded by mu
}

// accepted is the writer's view of the tenants that accept one issuer.
type accepted struct {
	tenants map[gatehouse.TenantID]string // to the tenant claim, which may be ""
	claims  map[string]int                // tenants by tenant claim, without ""
	node    *published
}

// published is the readers' view of one issuer. Its address stands for the
// issuer in memberships.
type published struct{ view atomic.Pointer[view] }

type view struct {
	only   gatehouse.TenantID // when a single tenant accepts the issuer
	claims []string           // names of the tenant claims in use
}

type membership struct {
	issuer *published
	tenant gatehouse.TenantID
}

type member struct {
	tenant gatehouse.TenantID
	claim  string
}

// NewDirectory returns an empty directory.
func NewDirectory() *Directory {
	d := &Directory{seed: maphash.MakeSeed(), shared: map[string]*accepted{}}
	d.keys.Store(&index{})
	return d
}

// Set is a Change of one tenant.
func (d *Directory) Set(tenant gatehouse.TenantID, old, new *Verifier) error {
	c := d.Begin()
	defer c.Done()
	return c.Set(tenant, old, new)
}

// Change is a change of a directory on its way. It belongs to one goroutine,
// and others wait until it is done.
type Change struct {
	d       *Directory
	keys    *edit // nil: no key has changed
	issuers tableEdit[string, *published]
	members tableEdit[membership, member]
	touched map[*accepted]bool // issuers whose view may have changed
}

// Begin starts a change, for the caller to end with Done.
func (d *Directory) Begin() *Change {
	d.mu.Lock()
	return &Change{d: d, issuers: d.issuers.edit(), members: d.members.edit(), touched: map[*accepted]bool{}}
}

// Done shows readers the change.
func (c *Change) Done() {
	if c.keys != nil {
		all := c.keys.done()
		c.d.keys.Store(&all)
	}
	c.members.done()
	c.issuers.done()
	for a := range c.touched {
		a.publish()
	}
	c.d.mu.Unlock()
}

// Set replaces what tenant is found by: the credentials of old, which is what
// the last Set was given, by those of new. Either may be nil. A key that
// belongs to another tenant already is CodeInvalid, and nothing changes then.
// Before Done a reader may see some of the tenant's credentials and not yet
// others.
func (c *Change) Set(tenant gatehouse.TenantID, old, new *Verifier) error {
	if err := c.setKeys(tenant, old.secrets(), new.secrets()); err != nil {
		return err
	}
	for _, i := range new.issuers() {
		c.join(tenant, i.Issuer, i.TenantClaim)
	}
	for _, i := range old.issuers() {
		if !slices.ContainsFunc(new.issuers(), func(n gatehouse.Issuer) bool { return n.Issuer == i.Issuer }) {
			c.leave(tenant, i.Issuer)
		}
	}
	return nil
}

var errKeyTaken = errors.New("key in use")

func (c *Change) setKeys(tenant gatehouse.TenantID, old, new *index) error {
	gone, come := old.diff(new)
	if len(gone)+len(come) == 0 {
		return nil
	}
	keys := c.d.keys.Load()
	if c.keys != nil {
		keys = &c.keys.index
	}
	for _, e := range come {
		if s := c.d.find(keys, &e.secret.hash); s != nil && s.key.grant.tenant != tenant {
			return &gatehouse.Error{
				Code:    gatehouse.CodeInvalid,
				Message: "an API key is already in use",
				Err:     fmt.Errorf("tenant %s: key hash %x belongs to tenant %s: %w", tenant, e.secret.hash[:4], s.key.grant.tenant, errKeyTaken),
			}
		}
	}
	if count := keys.count + len(come) - len(gone); c.keys == nil {
		c.keys = keys.edit(count)
	} else {
		c.keys.grow(count)
	}
	forget := func(hash *gatehouse.KeyHash) {
		if s := c.d.find(&c.keys.index, hash); s != nil && s.key.grant.tenant == tenant {
			c.keys.remove(entry{c.d.tag(hash), s})
		}
	}
	for _, e := range gone {
		forget(&e.secret.hash)
	}
	for _, e := range come {
		forget(&e.secret.hash) // where old was not what the directory has
		c.keys.put(entry{c.d.tag(&e.secret.hash), e.secret})
	}
	return nil
}

func (d *Directory) tag(hash *gatehouse.KeyHash) uint64 { return maphash.Bytes(d.seed, hash[:]) }

func (d *Directory) find(keys *index, hash *gatehouse.KeyHash) *secret {
	return findHash(keys, d.tag(hash), hash)
}

func (c *Change) join(tenant gatehouse.TenantID, iss, claim string) {
	d := c.d
	a := d.shared[iss]
	if a == nil {
		a = &accepted{tenants: map[gatehouse.TenantID]string{}, claims: map[string]int{}, node: &published{}}
		a.node.view.Store(&view{})
		d.shared[iss] = a
		c.issuers.store(d.shard(iss), iss, a.node)
	}
	if was, ok := a.tenants[tenant]; ok {
		if was == claim {
			return
		}
		a.uncount(was)
	}
	a.tenants[tenant] = claim
	a.count(claim)
	c.members.store(d.shard(string(tenant)), membership{a.node, tenant}, member{tenant, claim})
	c.touched[a] = true
}

func (c *Change) leave(tenant gatehouse.TenantID, iss string) {
	d := c.d
	a := d.shared[iss]
	if a == nil {
		return
	}
	claim, ok := a.tenants[tenant]
	if !ok {
		return
	}
	delete(a.tenants, tenant)
	a.uncount(claim)
	c.members.remove(d.shard(string(tenant)), membership{a.node, tenant})
	if len(a.tenants) == 0 {
		delete(d.shared, iss)
		c.issuers.remove(d.shard(iss), iss)
	}
	c.touched[a] = true
}

func (a *accepted) count(claim string) {
	if claim != "" {
		a.claims[claim]++
	}
}

func (a *accepted) uncount(claim string) {
	if claim == "" {
		return
	}
	if a.claims[claim]--; a.claims[claim] == 0 {
		delete(a.claims, claim)
	}
}

// publish shows readers the present state, if it differs from the last.
func (a *accepted) publish() {
	v := &view{claims: slices.Sorted(maps.Keys(a.claims))}
	if len(a.tenants) == 1 {
		for t := range a.tenants {
			v.only = t
		}
	}
	if last := a.node.view.Load(); last.only != v.only || !slices.Equal(last.claims, v.claims) {
		a.node.view.Store(v)
	}
}

// Owner returns the tenant that the secret with a hash belongs to.
func (d *Directory) Owner(hash gatehouse.KeyHash) (gatehouse.TenantID, bool) {
	s := d.find(d.keys.Load(), &hash)
	if s == nil {
		return "", false
	}
	return s.key.grant.tenant, true
}

// TenantOfKey returns the tenant that an API key belongs to. It says nothing
// of its expiry: the tenant's Verifier decides. It does not allocate.
func (d *Directory) TenantOfKey(secret []byte) (gatehouse.TenantID, bool) {
	if !gatehouse.WellFormedKey(secret) {
		return "", false
	}
	hash := gatehouse.KeyHash(sha256.Sum256(secret))
	s := d.find(d.keys.Load(), &hash)
	if s == nil {
		return "", false
	}
	return s.key.grant.tenant, true
}

// TenantOfToken returns the tenant that an unverified token claims to be for:
// the one that its tenant claim names, if that tenant accepts the issuer under
// that claim; else the only tenant that accepts the issuer and does not hold
// the token to another. Nothing is proved by it: the tenant's Verifier must
// accept the token. It does not allocate unless iss or the claim is written
// with escapes.
func (d *Directory) TenantOfToken(token []byte) (gatehouse.TenantID, bool) {
	var buf [maxToken * 3 / 4]byte
	payload, ok := payloadOf(token, buf[:])
	if !ok {
		return "", false
	}
	iss, ok := peek(payload, "iss")
	if !ok {
		return "", false
	}
	node := d.issuers.at(maphash.Bytes(d.seed, iss))[string(iss)]
	if node == nil {
		return "", false
	}
	view, held := node.view.Load(), false
	for _, claim := range view.claims {
		t, ok := peek(payload, claim)
		if !ok {
			continue
		}
		held = true
		m := d.members.at(maphash.Bytes(d.seed, t))[membership{node, gatehouse.TenantID(t)}]
		if m.claim == claim {
			return m.tenant, true
		}
	}
	if held {
		return "", false
	}
	return view.only, view.only != ""
}

func (d *Directory) shard(s string) uint64 { return maphash.String(d.seed, s) }

// secrets returns the live secrets of a verifier, which may be nil.
func (v *Verifier) secrets() *index {
	if v == nil || v.keys == nil {
		return &index{}
	}
	return &v.keys.hashes
}

func (v *Verifier) issuers() []gatehouse.Issuer {
	if v == nil {
		return nil
	}
	return v.tokens.doc
}
