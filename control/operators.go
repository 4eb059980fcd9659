package control

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"golang.org/x/time/rate"
)

// Decide answers whether a caller may do an operation: policies/operators.rego
// evaluated on Access. The reason is for the journal.
type Decide func(ctx context.Context, a Access) (allow bool, reason string, err error)

// Access is what the decision about an operation is made from.
type Access struct {
	// Operation is its id in the OpenAPI document.
	Operation string `json:"operation"`
	// Tenant is the one that it is about; empty for the platform.
	Tenant gatehouse.TenantID `json:"tenant"`
	// Caller is who asks.
	Caller Caller `json:"caller"`
}

// Caller is an authenticated operator, or a data plane.
type Caller struct {
	// ID is that of the token.
	ID string `json:"id"`
	// Role and Tenants are those of the token.
	Role    Role                 `json:"role"`
	Tenants []gatehouse.TenantID `json:"tenants"`
}

// Actor is how the journal names the caller.
func (c Caller) Actor() string { return "token:" + c.ID }

// Platform reports whether the caller's role is not confined to tenants.
func (c Caller) Platform() bool { return len(c.Tenants) == 0 }

// Operators authenticates and authorizes callers of the API. It follows the
// journal while Run runs: a revoked token is refused as soon as the event has
// arrived. It is safe for concurrent use.
type Operators struct {
	plane  *Plane
	decide Decide
	book   tokenBook

	mu       sync.Mutex
	failures map[string]*rate.Limiter // by address; guarded by mu
}

// NewOperators reads the tokens in force.
func NewOperators(ctx context.Context, p *Plane, decide Decide) (*Operators, error) {
	o := &Operators{plane: p, decide: decide, failures: map[string]*rate.Limiter{}, book: tokenBook{byHash: map[string]tokenRecord{}, hashes: map[string]string{}}}
	for r, err := range p.journal.All(ctx, kindToken) {
		if err == nil {
			err = o.book.set(r.ID, r.Body)
		}
		if err != nil {
			return nil, fmt.Errorf("read the operators' tokens: %w", err)
		}
	}
	return o, nil
}

// Run follows the journal until ctx ends.
func (o *Operators) Run(ctx context.Context) error {
	head, err := o.plane.journal.Head(ctx)
	if err != nil {
		return fmt.Errorf("follow the operators' tokens: %w", err)
	}
	// What was committed between NewOperators and here is read again.
	for r, err := range o.plane.journal.All(ctx, kindToken) {
		if err == nil {
			err = o.book.set(r.ID, r.Body)
		}
		if err != nil {
			return fmt.Errorf("read the operators' tokens: %w", err)
		}
	}
	for e, err := range o.plane.journal.Watch(ctx, head.Seq) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("follow the operators' tokens: %w", err)
		}
		for i := range e.Edits {
			if d := &e.Edits[i]; d.Kind == kindToken {
				if err := o.book.set(d.ID, d.After); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Failed attempts of an address: so many at once, and one each failureEvery.
const (
	failureBurst = 10
	failureEvery = 6 * time.Second
	maxFailures  = 10_000
)

// Authenticate returns whose a token is. Addresses with too many failures are
// refused for a while, right token or not.
func (o *Operators) Authenticate(secret, address string) (Caller, error) {
	if o.throttled(address) {
		return Caller{}, &gatehouse.Error{Code: gatehouse.CodeTooManyFailures, Message: "too many failed attempts from this address; wait a minute"}
	}
	if secret == "" {
		return Caller{}, &gatehouse.Error{Code: gatehouse.CodeBadToken, Message: "send an operator token as Authorization: Bearer"}
	}
	r, ok := tokenRecord{}, wellFormed(secret)
	if ok {
		r, ok = o.book.find(secret)
	}
	now := o.plane.now()
	if !ok || !r.Expires.IsZero() && !r.Expires.After(now) {
		o.fail(address)
		return Caller{}, &gatehouse.Error{Code: gatehouse.CodeBadToken, Message: "the operator token is not accepted"}
	}
	minute := now.UTC().Truncate(time.Minute)
	if last, ok := o.book.used.Load(r.ID); !ok || last != minute {
		o.book.used.Store(r.ID, minute)
	}
	return Caller{ID: r.ID, Role: r.Role, Tenants: r.Tenants}, nil
}

// LastUsed returns when this process last saw a token, zero for never.
func (o *Operators) LastUsed(id string) time.Time {
	if last, ok := o.book.used.Load(id); ok {
		if at, ok := last.(time.Time); ok {
			return at
		}
	}
	return time.Time{}
}

func (o *Operators) throttled(address string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.failures[address]
	return l != nil && l.Tokens() < 1
}

func (o *Operators) fail(address string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.failures[address]
	if l == nil {
		if len(o.failures) >= maxFailures {
			for a, old := range o.failures {
				if old.Tokens() >= failureBurst { // as good as unknown
					delete(o.failures, a)
				}
			}
		}
		if len(o.failures) >= maxFailures {
			return // an attack from so many addresses is not held by this
		}
		l = rate.NewLimiter(rate.Every(failureEvery), failureBurst)
		o.failures[address] = l
	}
	l.Allow()
}

// Authorize lets a caller do an operation, or is CodeForbidden; a refusal is
// journaled. A tenant that the caller has nothing to do with is refused in the
// same words whether it exists or not.
func (o *Operators) Authorize(ctx context.Context, a Access) error {
	if a.Caller.Tenants == nil {
		a.Caller.Tenants = []gatehouse.TenantID{}
	}
	allow, reason, err := o.decide(ctx, a)
	if err != nil {
		return &gatehouse.Error{Code: gatehouse.CodeForbidden, Message: "the decision about this operation failed", Err: err}
	}
	if allow {
		return nil
	}
	_, err = o.plane.journal.Commit(ctx, journal.Change{
		Actor: a.Caller.Actor(), Kind: "access.refused", Tenant: tenantOfRefusal(a), Subject: a.Operation, Why: reason,
	})
	return &gatehouse.Error{Code: gatehouse.CodeForbidden, Message: "this token may not do that", Err: err}
}

// tenantOfRefusal is in whose audit trail a refusal shows: the tenant's that
// was asked for, unless it may be a made-up name.
func tenantOfRefusal(a Access) string {
	if a.Caller.Platform() || slices.Contains(a.Caller.Tenants, a.Tenant) {
		return string(a.Tenant)
	}
	return ""
}
