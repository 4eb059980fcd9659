package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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
	// Gateway is the data plane that it is about, or that asks; empty for none.
	Gateway string `json:"gateway,omitempty"`
	// Caller is who asks.
	Caller Caller `json:"caller"`
	// Parts are the members of the tenant's document that the operation would
	// change. It is asked about once before they are known, and then again.
	Parts []string `json:"parts,omitempty"`
}

// Caller is an authenticated operator, or a data plane.
type Caller struct {
	// ID is that of the token.
	ID string `json:"id"`
	// Role and Tenants are those of the token.
	Role    Role                 `json:"role"`
	Tenants []gatehouse.TenantID `json:"tenants"`
	// Gateway is the one data plane that the token is for, of the role gateway;
	// empty: it has not been used yet.
	Gateway string `json:"gateway,omitempty"`
}

// Actor is how the journal names the caller.
func (c Caller) Actor() string { return "token:" + c.ID }

// Platform reports whether the caller's role is not confined to tenants.
func (c Caller) Platform() bool { return len(c.Tenants) == 0 }

// Operators authenticates and authorizes callers of the API. It follows the
// journal while Run runs: a token that another control plane revoked is refused
// as soon as the event has arrived. It is safe for concurrent use.
type Operators struct {
	plane  *Plane
	decide Decide
	book   tokenBook

	throttle throttle
	refusals refusals
}

// NewOperators reads the tokens in force.
func NewOperators(ctx context.Context, p *Plane, decide Decide) (*Operators, error) {
	o := &Operators{
		plane: p, decide: decide, book: tokenBook{byHash: map[string]tokenRecord{}, hashes: map[string]string{}},
		throttle: throttle{failures: map[string]*rate.Limiter{}},
		refusals: refusals{callers: map[string]*rate.Limiter{}, held: map[refusal]int{}},
	}
	return o, o.readTokens(ctx)
}

func (o *Operators) readTokens(ctx context.Context) error {
	for r, err := range o.plane.journal.All(ctx, kindToken) {
		if err == nil {
			err = o.book.set(r.ID, r.Body)
		}
		if err != nil {
			return fmt.Errorf("read the operators' tokens: %w", err)
		}
	}
	return nil
}

// Run follows the journal until ctx ends, and journals refusals that were held
// back. A journal that cannot be read is tried again.
func (o *Operators) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() {
		for ctx.Err() == nil {
			if err := o.follow(ctx); err != nil && ctx.Err() == nil {
				o.plane.log.Error("follow the operators' tokens", "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return o.settle(context.WithoutCancel(ctx))
		case <-tick.C:
			if err := o.settle(ctx); err != nil && ctx.Err() == nil {
				o.plane.log.Error("journal refusals", "error", err)
			}
		}
	}
}

func (o *Operators) follow(ctx context.Context) error {
	head, err := o.plane.journal.Head(ctx)
	if err != nil {
		return err
	}
	// What was committed since they were read last is read again; what was
	// revoked meanwhile is found missing when it is asked for.
	if err := o.readTokens(ctx); err != nil {
		return err
	}
	if err := o.dropRevoked(ctx); err != nil {
		return err
	}
	for e, err := range o.plane.journal.Watch(ctx, head.Seq) {
		if err != nil {
			return err
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

func (o *Operators) dropRevoked(ctx context.Context) error {
	for _, id := range o.book.ids() {
		_, err := o.plane.journal.Get(ctx, tokenRef(id))
		switch {
		case errors.Is(err, journal.ErrNotFound):
			o.Forget(id)
		case err != nil:
			return err
		}
	}
	return nil
}

// Forget refuses a token from now on.
func (o *Operators) Forget(id string) {
	_ = o.book.set(id, nil) // nothing is decoded
}

// Authenticate returns whose a token is. Addresses with too many failures are
// refused for a while, right token or not.
func (o *Operators) Authenticate(ctx context.Context, secret, address string) (Caller, error) {
	if o.throttle.closed(address) {
		return Caller{}, &gatehouse.Error{Code: gatehouse.CodeTooManyFailures, Message: "too many failed attempts from this address; wait a minute"}
	}
	if secret == "" {
		return Caller{}, &gatehouse.Error{Code: gatehouse.CodeBadToken, Message: "send an operator token as Authorization: Bearer"}
	}
	r, ok := tokenRecord{}, wellFormed(secret)
	if ok {
		var err error
		if r, ok, err = o.find(ctx, secret); err != nil {
			return Caller{}, err
		}
	}
	now := o.plane.now()
	if !ok || !r.Expires.IsZero() && !r.Expires.After(now) {
		o.throttle.fail(address)
		o.refusals.failed()
		return Caller{}, &gatehouse.Error{Code: gatehouse.CodeBadToken, Message: "the operator token is not accepted"}
	}
	minute := now.UTC().Truncate(time.Minute)
	if last, ok := o.book.used.Load(r.ID); !ok || last != minute {
		o.book.used.Store(r.ID, minute)
	}
	return Caller{ID: r.ID, Role: r.Role, Tenants: r.Tenants, Gateway: r.Gateway}, nil
}

// find looks a token up: in the journal too where it is not known, as it may
// have been made a moment ago, or by another control plane.
func (o *Operators) find(ctx context.Context, secret string) (tokenRecord, bool, error) {
	if r, ok := o.book.find(secret); ok {
		return r, true, nil
	}
	page, err := o.plane.journal.List(ctx, journal.Query{Kind: kindToken, Where: []journal.Field{{Name: "hash", Value: tokenHash(secret)}}, Limit: 1})
	if err != nil || len(page.Items) == 0 {
		return tokenRecord{}, false, coded(err)
	}
	var r tokenRecord
	err = json.Unmarshal(page.Items[0].Body, &r)
	return r, err == nil, err
}

// Gateways are the names of the data planes that have a token.
func (o *Operators) Gateways() []string { return o.book.gateways(o.plane.now()) }

// LastUsed returns when this process last saw a token, zero for never.
func (o *Operators) LastUsed(id string) time.Time {
	if last, ok := o.book.used.Load(id); ok {
		if at, ok := last.(time.Time); ok {
			return at
		}
	}
	return time.Time{}
}

// Authorize lets a caller do an operation, or is CodeForbidden; a refusal is
// journaled. A tenant that the caller has nothing to do with is refused in the
// same words whether it exists or not.
func (o *Operators) Authorize(ctx context.Context, a Access) error {
	if a.Caller.Tenants == nil {
		a.Caller.Tenants = []gatehouse.TenantID{}
	}
	allow, reason, err := o.decide(ctx, a)
	if err == nil && allow {
		return nil
	}
	if err != nil {
		o.plane.log.Error("decide about an operation", "operation", a.Operation, "error", err)
		reason = "the decision failed"
	}
	if err := o.refuse(ctx, &a, reason); err != nil {
		o.plane.log.Error("journal a refusal", "error", err)
	}
	if g := a.Caller.Gateway; g != "" && a.Gateway != "" && a.Gateway != g {
		return &gatehouse.Error{Code: gatehouse.CodeForbidden, Message: fmt.Sprintf("this token is for the data plane %q, not %q: each has a token of its own", g, a.Gateway)}
	}
	if len(a.Parts) > 0 {
		return &gatehouse.Error{Code: gatehouse.CodeForbidden, Message: "this token may not change that of a tenant: " + strings.Join(a.Parts, ", ")}
	}
	return &gatehouse.Error{Code: gatehouse.CodeForbidden, Message: "this token may not do that"}
}
