package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Endpoint is where messages go.
type Endpoint struct {
	// ID is unique within the tenant, or the platform.
	ID string `json:"id"`
	control.Meta
	// URL is where messages are posted.
	URL string `json:"url"`
	// Tenant narrows it to the events of one; empty: all, and the platform's.
	Tenant string `json:"tenant,omitempty"`
	// Kinds are those wanted; none is all. One that ends in .* means all that
	// begin so.
	Kinds []string `json:"kinds,omitempty"`
	// Disabled says why nothing is sent to it: it answered 410, or an operator
	// has said so.
	Disabled string `json:"disabled,omitempty"`
	// Secrets are those it is signed with, the newest first.
	Secrets []Secret `json:"secrets,omitempty"`
	// Secret is set in the answer that made it, and nowhere else.
	Secret string `json:"secret,omitempty"`
}

// NewEndpoint is what is asked for.
type NewEndpoint struct {
	// ID is unique within the tenant, or the platform.
	ID string `json:"id"`
	// URL is where messages are posted, by HTTPS.
	URL string `json:"url"`
	// Tenant narrows it to the events of one; empty: all, and the platform's.
	Tenant gatehouse.TenantID `json:"tenant,omitempty"`
	// Kinds are those wanted; none is all. One that ends in .* means all that
	// begin so.
	Kinds []string `json:"kinds,omitempty"`
}

var plainID = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

const maxURL = 2048

func (s *Sender) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

func endpointRef(tenant, id string) journal.Ref {
	return journal.Ref{Kind: kindEndpoint, Tenant: tenant, ID: id}
}

// place is what a sealed secret is bound to.
func (e *Endpoint) place() string { return "webhook/" + e.Tenant + "/" + e.ID }

// wants tells whether an endpoint is told of a message.
func (e *Endpoint) wants(m *Message) bool {
	if e.Disabled != "" || e.Tenant != "" && e.Tenant != m.Tenant {
		return false
	}
	return len(e.Kinds) == 0 || slices.ContainsFunc(e.Kinds, func(k string) bool {
		prefix, all := strings.CutSuffix(k, "*")
		return k == m.Kind || all && strings.HasPrefix(m.Kind, prefix)
	})
}

// shown leaves out what is secret.
func (e Endpoint) shown(meta control.Meta) Endpoint {
	e.Meta = meta
	e.Secrets = slices.Clone(e.Secrets)
	for i := range e.Secrets {
		e.Secrets[i].Sealed = nil
	}
	return e
}

// Faults are all that is wrong with an endpoint that is asked for.
func (s *Sender) Faults(in *NewEndpoint) gatehouse.Faults {
	var faults gatehouse.Faults
	fault := func(pointer, reason string) {
		faults = append(faults, gatehouse.Fault{Pointer: pointer, Reason: reason})
	}
	if !plainID.MatchString(in.ID) {
		fault("/id", "is not a word of at most 63 lower case letters, digits and _ -")
	}
	u, err := url.Parse(in.URL)
	switch {
	case err != nil || len(in.URL) > maxURL || u.Host == "" || u.User != nil || u.Fragment != "":
		fault("/url", "is not an absolute URL without user and fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !s.AllowHTTP):
		fault("/url", "does not begin with https://")
	}
	for i, k := range in.Kinds {
		known := slices.ContainsFunc(s.Kinds, func(have string) bool {
			prefix, all := strings.CutSuffix(k, "*")
			return k == have || all && strings.HasPrefix(have, prefix)
		})
		if !known {
			fault(gatehouse.Pointer("kinds", i), "is not an event; they are "+strings.Join(s.Kinds, ", "))
		}
	}
	return faults
}

// Create makes an endpoint, which hears of what happens from then on. Its
// secret is in this answer only.
func (s *Sender) Create(ctx context.Context, in NewEndpoint, m control.Mutation) (Endpoint, error) {
	if faults := s.Faults(&in); len(faults) > 0 {
		return Endpoint{}, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the request has faults", Err: &control.Invalid{Faults: faults}}
	}
	e := Endpoint{ID: in.ID, URL: in.URL, Tenant: string(in.Tenant), Kinds: in.Kinds}
	secret, text, err := s.secret(e.place())
	if err != nil {
		return Endpoint{}, err
	}
	e.Secrets = []Secret{secret}
	if m.DryRun {
		if _, err := s.Endpoint(ctx, e.Tenant, e.ID); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
			return Endpoint{}, cmp.Or(err, error(&gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf("webhook %q exists already", e.ID)}))
		}
	}
	out, err := s.store(ctx, &e, "webhook.create", journal.Absent, m)
	if err == nil && !m.DryRun && out.Secrets[0].Created.Equal(secret.Created) {
		out.Secret = text
	}
	return out, err
}

// store commits an endpoint.
func (s *Sender) store(ctx context.Context, e *Endpoint, kind string, expect int64, m control.Mutation) (Endpoint, error) {
	e.Meta, e.Secret = control.Meta{}, ""
	ref := endpointRef(e.Tenant, e.ID)
	if m.Match != nil && expect != journal.Absent && int64(*m.Match) != expect {
		return Endpoint{}, &gatehouse.Error{Code: gatehouse.CodeStale, Message: fmt.Sprintf("it is at revision %d by now", expect)}
	}
	if m.DryRun {
		return e.shown(control.Meta{Preview: &control.Preview{Changes: []control.ResourceChange{}}}), nil
	}
	body, err := json.Marshal(e)
	if err != nil {
		return Endpoint{}, err
	}
	done, err := s.Journal.Commit(ctx, journal.Change{
		Actor: m.Actor, Why: m.Why, Kind: kind, Tenant: e.Tenant, Subject: e.ID, Idempotency: m.Idempotency,
		Expect: map[journal.Ref]int64{ref: expect}, Puts: []journal.Put{{Ref: ref, Body: body}},
	})
	if there, ok := errors.AsType[*journal.ExistsError](err); ok {
		return Endpoint{}, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf("webhook %q exists already", there.Ref.ID)}
	}
	if err != nil && !errors.Is(err, journal.ErrReplayed) {
		return Endpoint{}, coded(err)
	}
	r, ok := done.Resource(ref)
	if !ok {
		return Endpoint{}, fmt.Errorf("event %d has no %s", done.Seq, ref)
	}
	return shownOf(&r)
}

func shownOf(r *journal.Resource) (Endpoint, error) {
	var e Endpoint
	if err := json.Unmarshal(r.Body, &e); err != nil {
		return e, fmt.Errorf("%s: %w", r.Ref, err)
	}
	return e.shown(control.Meta{Revision: r.Revision, Created: r.Created, Updated: r.Updated}), nil
}

// change rewrites an endpoint.
func (s *Sender) change(ctx context.Context, tenant, id, kind string, m control.Mutation, f func(*Endpoint) error) (Endpoint, error) {
	for attempt := 1; ; attempt++ {
		r, err := s.Journal.Get(ctx, endpointRef(tenant, id))
		if err != nil {
			return Endpoint{}, coded(err)
		}
		var e Endpoint
		if err := json.Unmarshal(r.Body, &e); err != nil {
			return Endpoint{}, fmt.Errorf("%s: %w", r.Ref, err)
		}
		if err := f(&e); err != nil {
			return Endpoint{}, err
		}
		out, err := s.store(ctx, &e, kind, int64(r.Revision), m)
		if gatehouse.CodeOf(err) == gatehouse.CodeStale && m.Match == nil && attempt < 10 {
			continue
		}
		return out, err
	}
}

// DefaultOverlap is how long a replaced secret is still signed with.
const DefaultOverlap = 24 * time.Hour

// Rotate gives an endpoint a new secret, which is in this answer only. For
// overlap messages are signed with the old one too.
func (s *Sender) Rotate(ctx context.Context, tenant, id string, overlap time.Duration, m control.Mutation) (Endpoint, error) {
	var text string
	var made Secret
	out, err := s.change(ctx, tenant, id, "webhook.rotate", m, func(e *Endpoint) (err error) {
		if made, text, err = s.secret(e.place()); err != nil {
			return err
		}
		kept := []Secret{made}
		until := made.Created.Add(overlap)
		for _, old := range e.Secrets {
			if old.Expires.IsZero() || old.Expires.After(until) {
				old.Expires = until
			}
			if old.Expires.After(made.Created) {
				kept = append(kept, old)
			}
		}
		if len(kept) > maxSecrets {
			return &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "too many secrets are in use; wait until one has expired"}
		}
		e.Secrets = kept
		return nil
	})
	if err == nil && !m.DryRun && out.Secrets[0].Created.Equal(made.Created) {
		out.Secret = text
	}
	return out, err
}

const maxSecrets = 5

// Enable has messages sent to an endpoint again, or no longer: reason says why
// not.
func (s *Sender) Enable(ctx context.Context, tenant, id, reason string, m control.Mutation) (Endpoint, error) {
	return s.change(ctx, tenant, id, "webhook.enable", m, func(e *Endpoint) error {
		e.Disabled = reason
		return nil
	})
}

// Delete removes an endpoint; what was not delivered yet is dropped.
func (s *Sender) Delete(ctx context.Context, tenant, id string, m control.Mutation) error {
	c := journal.Change{
		Actor: m.Actor, Why: m.Why, Kind: "webhook.delete", Tenant: tenant, Subject: id, Idempotency: m.Idempotency, Deletes: []journal.Ref{endpointRef(tenant, id)},
	}
	if m.DryRun {
		e, err := s.Endpoint(ctx, tenant, id)
		if err == nil && m.Match != nil && *m.Match != e.Revision {
			err = &gatehouse.Error{Code: gatehouse.CodeStale, Message: fmt.Sprintf("it is at revision %d by now", e.Revision)}
		}
		return err
	}
	if m.Match != nil {
		c.Expect = map[journal.Ref]int64{c.Deletes[0]: int64(*m.Match)}
	}
	_, err := s.Journal.Commit(ctx, c)
	if errors.Is(err, journal.ErrReplayed) {
		return nil
	}
	return coded(err)
}

// List returns the endpoints of a tenant, or of the platform.
func (s *Sender) List(ctx context.Context, tenant string) ([]Endpoint, error) {
	out := []Endpoint{}
	page, err := s.Journal.List(ctx, journal.Query{Kind: kindEndpoint, Tenant: &tenant, Limit: 1000})
	if err != nil {
		return nil, coded(err)
	}
	for i := range page.Items {
		e, err := shownOf(&page.Items[i])
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}
