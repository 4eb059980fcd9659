package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Expectations other than a revision.
const (
	// Absent: the resource must not exist.
	Absent int64 = 0
	// Any: whatever there is, or nothing.
	Any int64 = -1
)

// Put gives a resource a new body.
type Put struct {
	Ref
	// Body is a JSON value, not null. It is stored compact.
	Body json.RawMessage
}

// Idempotency makes a change happen once however often it is asked for. Keys
// are kept for 24 hours, each actor's apart from the others'.
type Idempotency struct {
	// Key is the caller's choice; empty for none.
	Key string `json:"key,omitempty"`
	// Request stands for what was asked, a hash as a rule.
	Request string `json:"request,omitempty"`
}

// Change is one event to be.
type Change struct {
	// Actor is who wants it, Kind what it is ("tenant.create"), Why the
	// reason given. Tenant and Subject are what the audit trail is filtered
	// by: whose event it is, and the thing it is about.
	Actor, Kind, Tenant, Subject, Why string
	// Expect holds the revisions that the change was made for, of resources
	// it writes and of others it depends on. What is not listed may be
	// anything, save that a deleted resource must exist.
	Expect map[Ref]int64
	// Puts and Deletes name each resource once.
	Puts        []Put
	Deletes     []Ref
	Idempotency Idempotency
	// Refusal is why the change may not be made, as its caller found, and what
	// Commit returns. One that was made before is answered as a repetition all
	// the same. Nil: it may be made.
	Refusal error
}

// Errors that Commit and the readers wrap.
var (
	// ErrInvalid: the change or query itself is wrong.
	ErrInvalid = errors.New("not valid")
	// ErrReplayed comes with the event that the same idempotency key and
	// request made before.
	ErrReplayed = errors.New("done before")
	// ErrMismatch: the idempotency key was used for another request.
	ErrMismatch = errors.New("idempotency key used for another request")
	// ErrFull: no room on the store's disk. Nothing was written.
	ErrFull = errors.New("the journal's disk is full")
	// ErrUnknown: the store went away during the commit, which may or may not
	// have happened. An idempotency key makes it safe to ask again.
	ErrUnknown = errors.New("the outcome is not known")
	// ErrNotFound is what every NotFoundError is.
	ErrNotFound = errors.New("not found")
)

// StaleError says that a resource is at another revision than expected.
type StaleError struct {
	Ref      Ref
	Expected int64
	// Current is the revision it is at.
	Current uint64
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("%s is at revision %d, not %d", e.Ref, e.Current, e.Expected)
}

// ExistsError says that a resource exists that should not.
type ExistsError struct {
	Ref     Ref
	Current uint64
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("%s exists at revision %d", e.Ref, e.Current)
}

// NotFoundError says that a resource does not exist, or did not at the
// revision asked for. It is an ErrNotFound.
type NotFoundError struct{ Ref Ref }

func (e *NotFoundError) Error() string { return e.Ref.String() + " does not exist" }

// Is makes it an ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// maxBody bounds the documents of one event, in bytes. Larger changes are
// several events.
const maxBody = 64 << 20

// prepare checks c and returns it with compact bodies and nothing shared with
// the caller.
func (c Change) prepare() (Change, error) {
	if c.Actor == "" || c.Kind == "" {
		return c, fmt.Errorf("a change without actor or kind: %w", ErrInvalid)
	}
	if err := errors.Join(text(c.Actor, maxName), text(c.Kind, maxKind), text(c.Tenant, maxTenant), text(c.Idempotency.Key, maxName),
		text(c.Subject, maxProse), text(c.Why, maxProse), text(c.Idempotency.Request, maxName)); err != nil {
		return c, err
	}
	c.Expect, c.Deletes, c.Puts = maps.Clone(c.Expect), slices.Clone(c.Deletes), slices.Clone(c.Puts)
	seen := make(map[Ref]bool, len(c.Puts)+len(c.Deletes))
	once := func(r Ref) error {
		if seen[r] {
			return fmt.Errorf("%s is named twice: %w", r, ErrInvalid)
		}
		seen[r] = true
		return r.check()
	}
	size := 0
	for i := range c.Puts {
		p := &c.Puts[i]
		if err := once(p.Ref); err != nil {
			return c, err
		}
		compact := bytes.NewBuffer(make([]byte, 0, len(p.Body)))
		if err := json.Compact(compact, p.Body); err != nil || !utf8.Valid(p.Body) {
			return c, fmt.Errorf("%s: the body is not JSON: %w", p.Ref, ErrInvalid)
		}
		p.Body = compact.Bytes()
		if string(p.Body) == "null" {
			return c, fmt.Errorf("%s: the body is null: %w", p.Ref, ErrInvalid)
		}
		if size += len(p.Body); size > maxBody {
			return c, fmt.Errorf("a change of more than %d bytes: %w", maxBody, ErrInvalid)
		}
	}
	for _, r := range c.Deletes {
		if err := once(r); err != nil {
			return c, err
		}
	}
	for r, want := range c.Expect {
		if want < Any {
			return c, fmt.Errorf("%s: expectation %d: %w", r, want, ErrInvalid)
		}
		if err := r.check(); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (r Ref) check() error {
	if r.Kind == "" || r.ID == "" {
		return fmt.Errorf("%s: a resource without kind or id: %w", r, ErrInvalid)
	}
	return errors.Join(text(r.Kind, maxKind), text(r.Tenant, maxTenant), text(r.ID, maxName))
}

// Bounds of texts, in bytes. What is indexed must fit into an index entry of
// PostgreSQL, which holds 2,704 bytes.
const (
	maxKind   = 100
	maxTenant = 255
	maxName   = 512 // ids, actors, idempotency keys
	maxValue  = 1 << 10
	maxProse  = 64 << 10
)

// text refuses what PostgreSQL cannot keep.
func text(s string, limit int) error {
	if len(s) > limit || strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		return fmt.Errorf("text of %d bytes that is not UTF-8, holds NUL or is longer than %d: %w", len(s), limit, ErrInvalid)
	}
	return nil
}

// refs calls f for each resource that must be read to decide c.
func (c *Change) refs(f func(Ref)) {
	for i := range c.Puts {
		f(c.Puts[i].Ref)
	}
	for _, r := range c.Deletes {
		f(r)
	}
	for r := range c.Expect {
		f(r)
	}
}
