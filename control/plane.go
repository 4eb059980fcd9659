package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
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
	books   Books
	log     *slog.Logger
	signing *BundleKey
	// reviews holds a token for each review of modules under way.
	reviews chan struct{}
	shared  snapshots
	// folders are whose the data folders are that have reported usage here.
	folders sync.Map // name to the data plane's, both strings
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
	// Books are what tenants owe. Nil: nothing is billed.
	Books Books
	// BundleKey, unless nil, is what bundles of policies must be signed by.
	BundleKey *BundleKey
	// Log is told of what Run does. Default: nothing is.
	Log *slog.Logger
}

// DefaultGrace is the default of Parts.Grace.
const DefaultGrace = 30 * 24 * time.Hour

// Index is what lists are filtered by, for journal.Config.
var Index = journal.Index{
	kindTenant: {"plan": "/document/plan", "status": "/state", "deleted": "/deleted"},
	kindKey:    {"hash": "/hash"},
	kindToken:  {"hash": "/hash"},
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
	// kindAnswer keeps what an apply answered, for its repetition.
	kindAnswer = "answer"
)

// reviewers bounds the reviews at once: each takes a processor for seconds.
const reviewers = 2

// New returns the control plane over a journal that was opened with Index. It
// makes the plans of the start where the journal is empty.
func New(ctx context.Context, parts Parts) (*Plane, error) {
	b, err := newBox(parts.SecretKey)
	if err != nil {
		return nil, err
	}
	p := &Plane{
		journal: parts.Journal, engine: parts.Engine, check: parts.Check, box: b, random: parts.Random, now: parts.Now, grace: parts.Grace,
		books: parts.Books, log: parts.Log, signing: parts.BundleKey, reviews: make(chan struct{}, reviewers),
		shared: snapshots{turn: make(chan struct{}, 1)},
	}
	if p.grace == 0 {
		p.grace = DefaultGrace
	}
	if p.books == nil {
		p.books = noBooks{}
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
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
	// DryRun only says what would change, in the answer's Preview.
	DryRun bool
	// Allow, unless nil, may refuse what a change of a tenant's document makes
	// different.
	Allow func(context.Context, []Difference) error
}

// Meta is what is known of every stored thing.
type Meta struct {
	// Revision is the number of the event that last changed it; Created and
	// Updated are when it was made and last changed.
	Revision uint64    `json:"revision,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	Updated  time.Time `json:"updated,omitzero"`
	// Preview is set in the answer to a dry run, which stored nothing: the rest
	// of the answer is the thing as it would be.
	Preview *Preview `json:"preview,omitempty"`
}

func metaOf(r *journal.Resource) Meta {
	return Meta{Revision: r.Revision, Created: r.Created, Updated: r.Updated}
}

// Page is one page of a list.
type Page[T any] struct {
	// Items of this page.
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
