package control

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Key is a stored API key as it is shown. The hash of its secret is shown, the
// secret only once, to whoever made it.
type Key struct {
	gatehouse.Key
	Meta
	// Name is for people.
	Name string `json:"name,omitempty"`
	// Secret is set in the answer that made it, and nowhere else.
	Secret string `json:"secret,omitempty"`
}

// keyRecord is the body of a key in the journal.
type keyRecord struct {
	gatehouse.Key
	Name string `json:"name,omitempty"`
}

// NewKey is what a key is made of.
type NewKey struct {
	// ID is unique within the tenant. Default: made up.
	ID gatehouse.KeyID `json:"id,omitempty"`
	// Name is for people. Roles and Scopes are what policies see of whoever has
	// the key.
	Name      string             `json:"name,omitempty"`
	Roles     []string           `json:"roles,omitempty"`
	Scopes    []string           `json:"scopes,omitempty"`
	Expires   gatehouse.Time     `json:"expires,omitzero"`
	Addresses []gatehouse.Prefix `json:"addresses,omitempty"`
}

func keyRef(tenant gatehouse.TenantID, id gatehouse.KeyID) journal.Ref {
	return journal.Ref{Kind: kindKey, Tenant: string(tenant), ID: string(id)}
}

func (r *keyRecord) show(meta Meta) Key { return Key{Key: r.Key, Meta: meta, Name: r.Name} }

// alive refuses what belongs to a tenant that is not there, and returns its
// revision.
func (p *Plane) alive(ctx context.Context, id gatehouse.TenantID) (tenantRecord, int64, error) {
	var r tenantRecord
	found, err := read(ctx, &p.journal.Reader, tenantRef(id), &r)
	if err != nil {
		return r, 0, err
	}
	if r.Deletion != nil {
		return r, 0, errDeleted
	}
	return r, int64(found.Revision), nil
}

// CreateKey makes an API key. The secret is in the answer, once: a repetition
// of the request by its idempotency key gets the key without it.
func (p *Plane) CreateKey(ctx context.Context, tenant gatehouse.TenantID, in NewKey, m Mutation) (Key, error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return keyIn(&e, err)
	}
	owner, alive, err := p.alive(ctx, tenant)
	if err != nil {
		return Key{}, err
	}
	if in.ID == "" {
		var raw [10]byte
		if _, err := io.ReadFull(p.random, raw[:]); err != nil {
			return Key{}, err
		}
		in.ID = gatehouse.KeyID("k-" + strings.ToLower(base32.StdEncoding.EncodeToString(raw[:])))
	}
	secret, err := gatehouse.NewAPIKey(p.random)
	if err != nil {
		return Key{}, err
	}
	r := keyRecord{Name: in.Name, Key: gatehouse.Key{
		ID: in.ID, Hash: secret.Hash(), Roles: in.Roles, Scopes: in.Scopes, Expires: in.Expires, Addresses: in.Addresses,
	}}
	if err := p.checkKey(&owner.Document, &r); err != nil {
		return Key{}, err
	}
	ref := keyRef(tenant, in.ID)
	c := journal.Change{
		Kind: "key.create", Tenant: string(tenant), Subject: string(in.ID),
		Expect: map[journal.Ref]int64{ref: journal.Absent, tenantRef(tenant): alive}, Puts: []journal.Put{put(ref, r)},
	}
	for attempt := 1; ; attempt++ {
		d, err := p.commit(ctx, m, c)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && attempt < attempts { // the tenant has changed
			if _, alive, err = p.alive(ctx, tenant); err != nil {
				return Key{}, err
			}
			c.Expect[tenantRef(tenant)] = alive
			continue
		}
		if d.preview != nil {
			return r.show(Meta{Preview: d.preview}), err
		}
		k, err := keyIn(&d.event, err)
		if err == nil && !d.replayed {
			k.Secret = secret.Reveal()
		}
		return k, err
	}
}

// checkKey finds what is wrong with a key beside those of its tenant's
// document. before are the forms of it that have been stored.
func (p *Plane) checkKey(owner *gatehouse.Tenant, r *keyRecord, before ...*keyRecord) error {
	if owner.Identity.APIKeys != nil {
		for _, k := range owner.Identity.APIKeys.Keys {
			if k.ID == r.ID {
				return &gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf("key %q stands in the tenant's document", r.ID)}
			}
		}
	}
	probe := r.probe()
	var stored []gatehouse.BadLabel
	for _, b := range before {
		stored = append(stored, b.probe().BadLabels()...)
	}
	faults := refuseNew(probe.Validate(), probe.BadLabels(), stored)
	for i := range faults {
		faults[i].Pointer = strings.TrimPrefix(faults[i].Pointer, "/identity/api_keys/keys/0")
	}
	return invalid(faults)
}

// probe is a tenant with nothing but the key, and its name.
func (r *keyRecord) probe() *gatehouse.Tenant {
	return &gatehouse.Tenant{ID: "t", Name: r.Name, Identity: gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: []gatehouse.Key{r.Key}}}}
}

// keyIn is the key as an event left it; err is passed on.
func keyIn(e *journal.Event, err error) (Key, error) {
	if err != nil {
		return Key{}, err
	}
	stored, ok := e.Resource(keyRef(gatehouse.TenantID(e.Tenant), gatehouse.KeyID(e.Subject)))
	if !ok {
		return Key{}, notFound(kindKey)
	}
	var r keyRecord
	if err := json.Unmarshal(stored.Body, &r); err != nil {
		return Key{}, err
	}
	return r.show(metaOf(&stored)), nil
}

// Key returns a stored key.
func (p *Plane) Key(ctx context.Context, tenant gatehouse.TenantID, id gatehouse.KeyID) (Key, error) {
	var r keyRecord
	found, err := read(ctx, &p.journal.Reader, keyRef(tenant, id), &r)
	if err != nil {
		return Key{}, err
	}
	return r.show(metaOf(&found)), nil
}

// Keys returns a page of a tenant's keys, those of its document left out.
func (p *Plane) Keys(ctx context.Context, tenant gatehouse.TenantID, after string, limit int) (Page[Key], error) {
	if _, err := p.Tenant(ctx, tenant); err != nil {
		return Page[Key]{}, err
	}
	id := string(tenant)
	found, err := p.journal.List(ctx, journal.Query{Kind: kindKey, Tenant: &id, After: after, Limit: limit})
	if err != nil {
		return Page[Key]{}, coded(err)
	}
	page := Page[Key]{Items: make([]Key, 0, len(found.Items)), Next: found.Next}
	for i := range found.Items {
		var r keyRecord
		if err := json.Unmarshal(found.Items[i].Body, &r); err != nil {
			return page, err
		}
		page.Items = append(page.Items, r.show(metaOf(&found.Items[i])))
	}
	return page, nil
}

// DefaultOverlap is how long the old secret of a rotated key is accepted.
const DefaultOverlap = 24 * time.Hour

// RotateKey gives a key a new secret, which is in the answer, once. The old one
// is accepted for overlap longer; 0 is not at all.
func (p *Plane) RotateKey(ctx context.Context, tenant gatehouse.TenantID, id gatehouse.KeyID, overlap time.Duration, m Mutation) (Key, error) {
	if overlap < 0 || overlap > 366*24*time.Hour {
		return Key{}, fault("/overlap", "overlap is outside 0 to 366 days", "")
	}
	secret, err := gatehouse.NewAPIKey(p.random)
	if err != nil {
		return Key{}, err
	}
	k, fresh, err := p.changeKey(ctx, tenant, id, "key.rotate", m, func(r *keyRecord) {
		r.Previous = nil
		if overlap > 0 {
			r.Previous = &gatehouse.PreviousKey{Hash: r.Hash, Until: gatehouse.Time{Time: p.now().Add(overlap).UTC().Truncate(time.Second)}}
		}
		r.Hash = secret.Hash()
	})
	if err == nil && fresh {
		k.Secret = secret.Reveal()
	}
	return k, err
}

// KeyPatch changes what is not nil.
type KeyPatch struct {
	// Name is for people. Roles and Scopes are what policies see of whoever has
	// the key; Expires and Addresses bound its use. What is absent stays.
	Name      *string             `json:"name,omitempty"`
	Roles     *[]string           `json:"roles,omitempty"`
	Scopes    *[]string           `json:"scopes,omitempty"`
	Expires   *gatehouse.Time     `json:"expires,omitempty"`
	Addresses *[]gatehouse.Prefix `json:"addresses,omitempty"`
}

// PatchKey changes what a key may do.
func (p *Plane) PatchKey(ctx context.Context, tenant gatehouse.TenantID, id gatehouse.KeyID, patch KeyPatch, m Mutation) (Key, error) {
	k, _, err := p.changeKey(ctx, tenant, id, "key.patch", m, func(r *keyRecord) {
		assign(&r.Name, patch.Name)
		assign(&r.Roles, patch.Roles)
		assign(&r.Scopes, patch.Scopes)
		assign(&r.Expires, patch.Expires)
		assign(&r.Addresses, patch.Addresses)
	})
	return k, err
}

func assign[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// changeKey is f on a key. stored are other forms of it that have been.
func (p *Plane) changeKey(ctx context.Context, tenant gatehouse.TenantID, id gatehouse.KeyID, kind string, m Mutation, f func(*keyRecord), stored ...*keyRecord) (k Key, fresh bool, err error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		k, err := keyIn(&e, err)
		return k, false, err
	}
	owner, _, err := p.alive(ctx, tenant)
	if err != nil {
		return Key{}, false, err
	}
	ref := keyRef(tenant, id)
	for attempt := 1; ; attempt++ {
		var r keyRecord
		found, err := read(ctx, &p.journal.Reader, ref, &r)
		if err != nil {
			return Key{}, false, err
		}
		if err := m.matches(&found); err != nil {
			return Key{}, false, err
		}
		now := r
		f(&r)
		if err := p.checkKey(&owner.Document, &r, append(stored, &now)...); err != nil {
			return Key{}, false, err
		}
		c := journal.Change{
			Kind: kind, Tenant: string(tenant), Subject: string(id), Expect: map[journal.Ref]int64{ref: int64(found.Revision)}, Puts: []journal.Put{put(ref, r)},
		}
		if m.needless(&c, &found) {
			return r.show(metaOf(&found)), false, nil
		}
		d, err := p.commit(ctx, m, c)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && attempt < attempts {
			continue
		}
		if d.preview != nil {
			return r.show(Meta{Preview: d.preview}), false, err
		}
		k, err := keyIn(&d.event, err)
		return k, !d.replayed, err
	}
}

// RollBackKey gives a key back what it might do after an event. Its secret
// stays as it is: an old one may have been replaced because it was known.
func (p *Plane) RollBackKey(ctx context.Context, tenant gatehouse.TenantID, id gatehouse.KeyID, revision uint64, m Mutation) (Key, error) {
	old, err := at[keyRecord](ctx, p, keyRef(tenant, id), revision)
	if err != nil {
		return Key{}, err
	}
	k, _, err := p.changeKey(ctx, tenant, id, "key.rollback", m, func(r *keyRecord) {
		r.Name, r.Roles, r.Scopes, r.Expires, r.Addresses = old.Name, old.Roles, old.Scopes, old.Expires, old.Addresses
	}, &old)
	return k, err
}

// RevokeKey takes a key away. It is refused by the data planes as soon as the
// change has reached them. The answer to a dry run is what it would do.
func (p *Plane) RevokeKey(ctx context.Context, tenant gatehouse.TenantID, id gatehouse.KeyID, m Mutation) (*Preview, error) {
	return p.remove(ctx, keyRef(tenant, id), journal.Change{Kind: "key.revoke", Tenant: string(tenant), Subject: string(id)}, m)
}

// remove makes c, which deletes a resource.
func (p *Plane) remove(ctx context.Context, ref journal.Ref, c journal.Change, m Mutation) (*Preview, error) {
	if _, ok, err := p.replayed(ctx, m); ok || err != nil {
		return nil, err
	}
	found, err := p.journal.Get(ctx, ref)
	if errors.Is(err, journal.ErrNotFound) {
		return nil, notFound(ref.Kind)
	}
	if err != nil {
		return nil, coded(err)
	}
	if err := m.matches(&found); err != nil {
		return nil, err
	}
	c.Deletes = []journal.Ref{ref}
	if m.Match != nil {
		c.Expect = map[journal.Ref]int64{ref: int64(found.Revision)}
	}
	d, err := p.commit(ctx, m, c)
	return d.preview, err
}
