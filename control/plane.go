package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// Plane is the control plane over a journal. Each of its changes is checked as
// the data planes would check it and becomes one event; the state is the fold
// of the events. It is safe for concurrent use, and several of them may share
// one journal.
//
// Errors are *gatehouse.Error, with *Invalid for a body with faults.
type Plane struct {
	journal *journal.Journal
	engine  *policy.Engine
	check   func(*gatehouse.Document) gatehouse.Faults
	box     *box
	random  io.Reader
	now     func() time.Time
	grace   time.Duration
}

// Parts are what a Plane is made of.
type Parts struct {
	Journal *journal.Journal
	Engine  *policy.Engine
	// Check finds what a data plane would refuse, beyond Validate.
	Check func(*gatehouse.Document) gatehouse.Faults
	// SecretKey seals the secrets that tenants' documents name, 32 bytes.
	SecretKey []byte
	// Random is crypto/rand.Reader, but for tests.
	Random io.Reader
	// Now is time.Now, but for tests.
	Now func() time.Time
	// Grace is the time between the deletion of a tenant and its purge.
	// Default DefaultGrace.
	Grace time.Duration
}

// DefaultGrace is the default of Parts.Grace.
const DefaultGrace = 30 * 24 * time.Hour

// Index is what lists are filtered by, for journal.Config.
var Index = journal.Index{
	kindTenant: {"plan": "/document/plan", "status": "/document/status", "deleted": "/deleted"},
	kindKey:    {"hash": "/hash"},
}

// Kinds of resources in the journal.
const (
	kindTenant = "tenant"
	// kindHost reserves a host name: its id is the name, its body the tenant.
	kindHost   = "host"
	kindPlan   = "plan"
	kindKey    = "key"
	kindPolicy = "policy"
	kindToken  = "token"
)

// New returns the control plane over a journal that was opened with Index. It
// makes the plans of the start where the journal is empty.
func New(ctx context.Context, parts Parts) (*Plane, error) {
	b, err := newBox(parts.SecretKey)
	if err != nil {
		return nil, err
	}
	p := &Plane{journal: parts.Journal, engine: parts.Engine, check: parts.Check, box: b, random: parts.Random, now: parts.Now, grace: parts.Grace}
	if p.grace == 0 {
		p.grace = DefaultGrace
	}
	return p, p.seed(ctx)
}

// Mutation is what every change carries beside itself.
type Mutation struct {
	// Actor is who makes it, in the journal; Why the reason given.
	Actor, Why string
	// Match is the revision that the change was made for; nil: whatever there
	// is. A change of something that has changed since is CodeStale.
	Match *uint64
	// Idempotency makes the change once however often it is asked for.
	Idempotency journal.Idempotency
	// DryRun only says what would change.
	DryRun bool
}

// Meta is what is known of every stored thing.
type Meta struct {
	// Revision is the number of the event that last changed it.
	Revision uint64    `json:"revision"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

func metaOf(r *journal.Resource) Meta { return Meta{r.Revision, r.Created, r.Updated} }

// Page is one page of a list.
type Page[T any] struct {
	Items []T `json:"items"`
	// Next asks for the page after; empty on the last.
	Next string `json:"next,omitempty"`
}

// Invalid is a body with faults, at CodeInvalid.
type Invalid struct{ Faults gatehouse.Faults }

func (e *Invalid) Error() string { return e.Faults.Error() }

// invalid returns the error for faults, nil where none keeps the document from
// being used.
func invalid(faults gatehouse.Faults) error {
	if len(faults.Errors()) == 0 {
		return nil
	}
	return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the document has faults", Err: &Invalid{faults}}
}

func fault(pointer, reason, hint string) error {
	return invalid(gatehouse.Faults{{Pointer: pointer, Reason: reason, Hint: hint}})
}

func notFound(what string) error {
	return &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "there is no such " + what}
}

// coded gives an error of the journal its code.
func coded(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*gatehouse.Error](err); ok {
		return err
	}
	fail := func(code gatehouse.Code, message string) error {
		return &gatehouse.Error{Code: code, Message: message, Err: err}
	}
	if stale, ok := errors.AsType[*journal.StaleError](err); ok {
		return fail(gatehouse.CodeStale, fmt.Sprintf("it is at revision %d by now", stale.Current))
	}
	if exists, ok := errors.AsType[*journal.ExistsError](err); ok {
		return fail(gatehouse.CodeConflict, fmt.Sprintf("%s %q exists already", exists.Ref.Kind, exists.Ref.ID))
	}
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return fail(gatehouse.CodeNotFound, "there is no such thing")
	case errors.Is(err, journal.ErrMismatch):
		return fail(gatehouse.CodeIdempotency, "the idempotency key was used for another request")
	case errors.Is(err, journal.ErrInvalid):
		return fail(gatehouse.CodeInvalid, "the request is not valid")
	case errors.Is(err, journal.ErrFull):
		return fail(gatehouse.CodeUnavailable, "the control plane's disk is full; nothing was changed")
	case errors.Is(err, journal.ErrUnknown):
		return fail(gatehouse.CodeUnavailable, "whether the change was made is not known; ask again with the same Idempotency-Key")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fail(gatehouse.CodeUnavailable, "the request ended before its turn; nothing was changed")
	}
	return fail(gatehouse.CodeInternal, "the control plane's store failed")
}

// commit makes c an event. It reports whether the same request was made before.
func (p *Plane) commit(ctx context.Context, m Mutation, c journal.Change) (e journal.Event, replayed bool, err error) {
	c.Actor, c.Why, c.Idempotency = m.Actor, m.Why, m.Idempotency
	e, err = p.journal.Commit(ctx, c)
	if errors.Is(err, journal.ErrReplayed) {
		return e, true, nil
	}
	return e, false, coded(err)
}

// read gets a resource and decodes its body.
func read[T any](ctx context.Context, r *journal.Reader, ref journal.Ref, into *T) (journal.Resource, error) {
	found, err := r.Get(ctx, ref)
	if errors.Is(err, journal.ErrNotFound) {
		return found, notFound(ref.Kind)
	}
	if err != nil {
		return found, coded(err)
	}
	if err := json.Unmarshal(found.Body, into); err != nil {
		return found, fmt.Errorf("%s at revision %d: %w", ref, found.Revision, err)
	}
	return found, nil
}

// put makes a resource of a value. Values of this package always encode.
func put(ref journal.Ref, v any) journal.Put {
	body, err := json.Marshal(v)
	if err != nil {
		panic("control: " + err.Error())
	}
	return journal.Put{Ref: ref, Body: body}
}

// matches refuses a change that was made for another revision.
func (m *Mutation) matches(r *journal.Resource) error {
	if m.Match != nil && *m.Match != r.Revision {
		return &gatehouse.Error{Code: gatehouse.CodeStale, Message: fmt.Sprintf("it is at revision %d by now", r.Revision)}
	}
	return nil
}
