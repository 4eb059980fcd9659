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
	ID        gatehouse.KeyID    `json:"id,omitempty"`
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
func (p *Plane) alive(ctx context.Context, id gatehouse.TenantID) (tenantRecord, uint64, error) {
	var r tenantRecord
	found, err := read(ctx, &p.journal.Reader, tenantRef(id), &r)
	if err != nil {
		return r, 0, err
	}
	if r.Deletion != nil {
		return r, 0, errDeleted
	}
	return r, found.Revision, nil
}

// CreateKey makes an API key. The secret is in the answer, once: a repetition
// of the request by its idempotency key gets the key without it.
func (p *Plane) CreateKey(ctx context.Context, tenant gatehouse.TenantID, in NewKey, m Mutation) (Key, error) {
	owner, _, err := p.alive(ctx, tenant)
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
		Kind: "key.create", Tenant: string(tenant), Subject: string(in.ID), Expect: map[journal.Ref]int64{ref: journal.Absent}, Puts: []journal.Put{put(ref, r)},
	}
	if m.DryRun {
		return r.show(Meta{}), p.possible(ctx, &c)
	}
	e, replayed, err := p.commit(ctx, m, c)
	if err != nil {
		return Key{}, err
	}
	if replayed { // the subject is the first one's: the id may have been made up
		return keyIn(&e, keyRef(tenant, gatehouse.KeyID(e.Subject)))
	}
	k, err := keyIn(&e, ref)
	k.Secret = secret.Reveal()
	return k, err
}

// checkKey finds what is wrong with a key beside those of its tenant's
// document.
func (p *Plane) checkKey(owner *gatehouse.Tenant, r *keyRecord) error {
	if owner.Identity.APIKeys != nil {
		for _, k := range owner.Identity.APIKeys.Keys {
			if k.ID == r.ID {
				return &gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf("key %q stands in the tenant's document", r.ID)}
			}
		}
	}
	probe := gatehouse.Tenant{ID: "t", Identity: gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: []gatehouse.Key{r.Key}}}}
	faults := probe.Validate()
	for i := range faults {
		faults[i].Pointer = strings.TrimPrefix(faults[i].Pointer, "/identity/api_keys/keys/0")
	}
	return invalid(faults)
}

func keyIn(e *journal.Event, ref journal.Ref) (Key, error) {
	stored, ok := e.Resource(ref)
	if !ok {
		return Key{}, notFound("key")
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
	k, replayed, err := p.changeKey(ctx, tenant, id, "key.rotate", m, func(r *keyRecord) {
		r.Previous = nil
		if overlap > 0 {
			r.Previous = &gatehouse.PreviousKey{Hash: r.Hash, Until: gatehouse.Time{Time: p.now().Add(overlap).UTC().Truncate(time.Second)}}
		}
		r.Hash = secret.Hash()
	})
	if err == nil && !replayed {
		k.Secret = secret.Reveal()
	}
	return k, err
}

// KeyPatch changes what is not nil.
type KeyPatch struct {
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

func (p *Plane) changeKey(ctx context.Context, tenant gatehouse.TenantID, id gatehouse.KeyID, kind string, m Mutation, f func(*keyRecord)) (k Key, replayed bool, err error) {
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
		f(&r)
		if err := p.checkKey(&owner.Document, &r); err != nil {
			return Key{}, false, err
		}
		c := journal.Change{
			Kind: kind, Tenant: string(tenant), Subject: string(id), Expect: map[journal.Ref]int64{ref: int64(found.Revision)}, Puts: []journal.Put{put(ref, r)},
		}
		if m.DryRun {
			return r.show(metaOf(&found)), false, nil
		}
		e, replayed, err := p.commit(ctx, m, c)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && m.Match == nil && attempt < attempts {
			continue
		}
		if err != nil {
			return Key{}, false, err
		}
		k, err := keyIn(&e, ref)
		return k, replayed, err
	}
}

// RevokeKey takes a key away. It is refused by the data planes as soon as the
// change has reached them.
func (p *Plane) RevokeKey(ctx context.Context, tenant gatehouse.TenantID, id gatehouse.KeyID, m Mutation) error {
	ref := keyRef(tenant, id)
	found, err := p.journal.Get(ctx, ref)
	if errors.Is(err, journal.ErrNotFound) {
		return notFound("key")
	}
	if err != nil {
		return coded(err)
	}
	if err := m.matches(&found); err != nil {
		return err
	}
	if m.DryRun {
		return nil
	}
	_, _, err = p.commit(ctx, m, journal.Change{Kind: "key.revoke", Tenant: string(tenant), Subject: string(id), Deletes: []journal.Ref{ref}})
	return err
}
