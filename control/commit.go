package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// done is what became of a change: an event, or the preview of one.
type done struct {
	event journal.Event
	// replayed says that the same request made the event before.
	replayed bool
	preview  *Preview
}

// commit makes c an event, unless m is a dry run.
func (p *Plane) commit(ctx context.Context, m Mutation, c journal.Change) (done, error) {
	c.Actor, c.Why = m.Actor, m.Why
	if m.DryRun {
		preview, err := p.preview(ctx, &c)
		return done{preview: preview}, err
	}
	c.Idempotency = m.Idempotency
	e, err := p.journal.Commit(ctx, c)
	if errors.Is(err, journal.ErrReplayed) {
		return done{event: e, replayed: true}, nil
	}
	return done{event: e}, coded(err)
}

// needless reports whether all that c does is to put what is stored already,
// as was read. Such a change becomes no event; but with an idempotency key it
// does, which keeps the answer for the repetition of the request.
func (m *Mutation) needless(c *journal.Change, stored *journal.Resource) bool {
	return !m.DryRun && m.Idempotency.Key == "" && stored != nil && len(c.Puts) == 1 && len(c.Deletes) == 0 && c.Puts[0].Ref == stored.Ref && bytes.Equal(c.Puts[0].Body, stored.Body)
}

// replayed returns the event that the same request made before, if any. It is
// asked first: what the request was made for may have changed since, and its
// repetition is answered as the first one was.
func (p *Plane) replayed(ctx context.Context, m Mutation) (journal.Event, bool, error) {
	if m.Idempotency.Key == "" || m.DryRun {
		return journal.Event{}, false, nil
	}
	// A change that never comes to pass: keys are looked at before it is.
	e, err := p.journal.Commit(ctx, journal.Change{
		Actor: m.Actor, Kind: "replay", Idempotency: m.Idempotency, Expect: map[journal.Ref]int64{{Kind: "replay", ID: "none"}: 1},
	})
	switch {
	case errors.Is(err, journal.ErrReplayed):
		return e, true, nil
	case errors.Is(err, journal.ErrNotFound):
		return e, false, nil
	case err == nil:
		return e, false, errors.New("a change without an end was made")
	}
	return e, false, coded(err)
}

// Preview is what a change would do.
type Preview struct {
	// Changes are what it would change of each resource.
	Changes []ResourceChange `json:"changes"`
	// Tenants are how many tenants it concerns where that is not one: those of
	// a plan.
	Tenants int `json:"tenants,omitempty"`
}

// preview reports what would refuse c, or else what it would do.
func (p *Plane) preview(ctx context.Context, c *journal.Change) (*Preview, error) {
	if err := p.possible(ctx, c); err != nil {
		return nil, err
	}
	v := &Preview{Changes: []ResourceChange{}}
	add := func(ref journal.Ref, after []byte) error {
		found, err := p.journal.Get(ctx, ref)
		if err != nil && !errors.Is(err, journal.ErrNotFound) {
			return coded(err)
		}
		change := ResourceChange{Kind: ref.Kind, Tenant: ref.Tenant, ID: ref.ID, Before: found.Revision, Deleted: after == nil}
		if change.Parts, err = p.parts(ref.Kind, found.Body, after); err != nil {
			return err
		}
		v.Changes = append(v.Changes, change)
		return nil
	}
	for i := range c.Puts {
		if err := add(c.Puts[i].Ref, c.Puts[i].Body); err != nil {
			return nil, err
		}
	}
	for _, ref := range c.Deletes {
		if err := add(ref, nil); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// possible reports what would refuse c.
func (p *Plane) possible(ctx context.Context, c *journal.Change) error {
	for ref, want := range c.Expect {
		found, err := p.journal.Get(ctx, ref)
		switch exists := err == nil; {
		case err != nil && !errors.Is(err, journal.ErrNotFound):
			return coded(err)
		case want == journal.Absent && exists:
			return coded(&journal.ExistsError{Ref: ref, Current: found.Revision})
		case want > 0 && uint64(want) != found.Revision:
			return coded(&journal.StaleError{Ref: ref, Expected: want, Current: found.Revision})
		}
	}
	return nil
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

// matches refuses a change that was made for another revision.
func (m *Mutation) matches(r *journal.Resource) error {
	if m.Match != nil && *m.Match != r.Revision {
		return &gatehouse.Error{Code: gatehouse.CodeStale, Message: fmt.Sprintf("it is at revision %d by now", r.Revision)}
	}
	return nil
}
