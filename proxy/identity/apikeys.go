package identity

import (
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// apiKeys are one tenant's API keys, immutable but for their last use and for
// what is prepared of those in use. A tenant's next keys share all that did
// not change.
type apiKeys struct {
	tenant gatehouse.TenantID
	seed   maphash.Seed
	hashes index // of the live secrets, by hash
	ids    index // of the keys' current secrets, by id
	grants *grants
	warm   *warm
}

// apiKey is one key. A key that is not in use costs 104 bytes, its entries in
// three indexes and its id.
type apiKey struct {
	current  secret
	previous *secret // nil: none
	id       gatehouse.KeyID
	grant    *grant
	// used is the Unix second of the last use, 0 before the first. The keys
	// that follow one another under one id share it.
	used *atomic.Int64
}

// secret is one of the secrets that lead to a key.
type secret struct {
	hash  gatehouse.KeyHash
	key   *apiKey
	until int64 // Unix microseconds, from which it is refused
	// who is what Key returns, nil while the key is cold. warm writes it.
	who atomic.Pointer[Verified]
}

// never is the until of a secret that does not expire.
const never = math.MaxInt64

func micros(t gatehouse.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.UnixMicro()
}

// compileKeys makes the keys of a document and those that stand beside it, out
// of those of prev where prev is of the same tenant and has some. Of two with
// one id the standing one counts, as it would in WithKeys.
func compileKeys(tenant gatehouse.TenantID, doc, standing []gatehouse.Key, prev *Verifier) *apiKeys {
	var c *apiKeys
	if prev != nil && prev.tenant == tenant {
		c = prev.keys
	}
	return c.edit(tenant, len(doc)+len(standing)).replace(doc, standing)
}

// keysEdit is a change of a tenant's keys in the making.
type keysEdit struct {
	next        apiKeys
	hashes, ids *edit
}

// edit begins a change on the way of which there will be count keys at least.
// c may be nil: there were none.
func (c *apiKeys) edit(tenant gatehouse.TenantID, count int) *keysEdit {
	if c == nil {
		c = &apiKeys{tenant: tenant, seed: maphash.MakeSeed(), grants: &grants{}, warm: &warm{}}
	}
	e := &keysEdit{next: *c}
	e.hashes, e.ids = c.hashes.edit(count), c.ids.edit(count)
	return e
}

func (e *keysEdit) done() *apiKeys {
	e.next.hashes, e.next.ids = e.hashes.done(), e.ids.done()
	return &e.next
}

// replace makes the keys of doc and standing the only ones. What is equal to a
// key that is there costs a look-up and copies nothing.
func (e *keysEdit) replace(doc, standing []gatehouse.Key) *apiKeys {
	keep := make(map[gatehouse.KeyID]struct{}, len(doc)+len(standing))
	for _, keys := range [...][]gatehouse.Key{standing, doc} {
		for i := range keys {
			if _, given := keep[keys[i].ID]; !given {
				keep[keys[i].ID] = struct{}{}
				e.put(&keys[i])
			}
		}
	}
	if e.ids.count == len(keep) {
		return e.done()
	}
	var gone []gatehouse.KeyID
	for x := range e.ids.all() {
		if _, ok := keep[x.secret.key.id]; !ok {
			gone = append(gone, x.secret.key.id)
		}
	}
	for _, id := range gone {
		e.remove(id)
	}
	return e.done()
}

func (e *keysEdit) put(doc *gatehouse.Key) {
	old := e.find(doc.ID)
	if old != nil && old.same(doc) {
		return
	}
	k := &apiKey{id: doc.ID, grant: e.next.grants.of(e.next.tenant, doc)}
	k.current.hash, k.current.key, k.current.until = doc.Hash, k, micros(doc.Expires)
	if p := doc.Previous; p != nil {
		k.previous = &secret{hash: p.Hash, key: k, until: min(micros(p.Until), k.current.until)}
	}
	if old != nil {
		k.used = old.used
		e.drop(old)
	} else {
		k.used = new(atomic.Int64)
	}
	e.ids.put(entry{e.tagID(k.id), &k.current})
	for s := range k.secrets {
		e.hashes.put(entry{e.tag(s), s})
	}
}

func (e *keysEdit) remove(id gatehouse.KeyID) {
	if k := e.find(id); k != nil {
		e.drop(k)
	}
}

func (e *keysEdit) drop(k *apiKey) {
	e.ids.remove(entry{e.tagID(k.id), &k.current})
	for s := range k.secrets {
		e.hashes.remove(entry{e.tag(s), s})
		s.who.Store(nil) // requests on the running keys prepare it again
	}
}

func (e *keysEdit) find(id gatehouse.KeyID) *apiKey {
	tag := e.tagID(id)
	for _, x := range e.ids.bucket(tag) {
		if x.tag == tag && x.secret.key.id == id {
			return x.secret.key
		}
	}
	return nil
}

func (e *keysEdit) tag(s *secret) uint64 { return maphash.Bytes(e.next.seed, s.hash[:]) }

func (e *keysEdit) tagID(id gatehouse.KeyID) uint64 {
	return maphash.String(e.next.seed, string(id))
}

// secrets yields the live secrets of a key.
func (k *apiKey) secrets(yield func(*secret) bool) {
	if yield(&k.current) && k.previous != nil {
		yield(k.previous)
	}
}

// same reports whether doc would give the key again.
func (k *apiKey) same(doc *gatehouse.Key) bool {
	if k.current.hash != doc.Hash || k.current.until != micros(doc.Expires) || (k.previous == nil) != (doc.Previous == nil) {
		return false
	}
	if p := doc.Previous; p != nil && (k.previous.hash != p.Hash || k.previous.until != min(micros(p.Until), k.current.until)) {
		return false
	}
	return k.grant.same(doc)
}

// expires is until as Verified has it.
func (s *secret) expires() time.Time {
	if s.until == never {
		return time.Time{}
	}
	return time.UnixMicro(s.until).UTC()
}
