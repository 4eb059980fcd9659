package invoicing

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// attempts is how often a change is made anew because what it had read has
// changed meanwhile.
const attempts = 50

// change is an event under way. All that it has read it expects to be as it
// was.
type change struct {
	a      *Accounts
	expect map[journal.Ref]int64
	puts   []journal.Put
	gone   []journal.Ref
	// kind is that of the event where it is not the one that was asked for.
	kind string
	// firm says that what is drafted will be issued.
	firm bool
}

// read gets a resource into v; found is false, and v untouched, where there is
// none.
func (c *change) read(ctx context.Context, ref journal.Ref, v any) (found bool, err error) {
	r, err := c.a.Store.Get(ctx, ref)
	if errors.Is(err, journal.ErrNotFound) {
		c.expect[ref] = journal.Absent
		return false, nil
	}
	if err != nil {
		return false, coded(err)
	}
	c.expect[ref] = int64(r.Revision)
	return true, decode(&r, v)
}

// must is read for what has to exist.
func (c *change) must(ctx context.Context, ref journal.Ref, v any) error {
	found, err := c.read(ctx, ref, v)
	if err == nil && !found {
		return notFound(ref.Kind, ref.ID)
	}
	return err
}

// match refuses a change that was made for another revision of what was read.
func (c *change) match(m *control.Mutation, ref journal.Ref) error {
	if m.Match != nil && int64(*m.Match) != c.expect[ref] {
		return &gatehouse.Error{Code: gatehouse.CodeStale, Message: fmt.Sprintf("it is at revision %d by now", c.expect[ref])}
	}
	return nil
}

// put writes a resource; the last one counts.
func (c *change) put(ref journal.Ref, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("invoicing: " + err.Error()) // our types always encode
	}
	c.puts = slices.DeleteFunc(c.puts, func(p journal.Put) bool { return p.Ref == ref })
	c.puts = append(c.puts, journal.Put{Ref: ref, Body: body})
}

func (c *change) remove(ref journal.Ref) { c.gone = append(c.gone, ref) }

// event names a change.
type event struct {
	kind   string
	tenant gatehouse.TenantID
	// main is the kind of the one resource that the event is about.
	main string
}

// errNothing ends a change that has nothing to change.
var errNothing = errors.New("nothing to change")

// commit makes f's change one event and returns the resource that it is about.
// When what f has read has changed meanwhile, f begins anew. A dry run returns
// what would be.
func commit[T any](ctx context.Context, a *Accounts, m control.Mutation, e event, f func(*change) error) (T, control.Meta, error) {
	var none T
	if done, ok, err := a.replayed(ctx, m); ok || err != nil {
		if err != nil {
			return none, control.Meta{}, err
		}
		return outcome[T](&done, e.main)
	}
	for attempt := 1; ; attempt++ {
		c := &change{a: a, expect: map[journal.Ref]int64{}}
		if err := f(c); err != nil {
			return none, control.Meta{}, err
		}
		i := slices.IndexFunc(c.puts, func(p journal.Put) bool { return p.Kind == e.main })
		if i < 0 {
			return none, control.Meta{}, errNothing
		}
		if m.DryRun {
			v := none
			err := json.Unmarshal(c.puts[i].Body, &v)
			return v, control.Meta{Preview: &control.Preview{Changes: []control.ResourceChange{}}}, err
		}
		done, err := a.Store.Commit(ctx, journal.Change{
			Actor: m.Actor, Why: m.Why, Idempotency: m.Idempotency, Kind: cmp.Or(c.kind, e.kind), Tenant: string(e.tenant), Subject: c.puts[i].ID,
			Expect: c.expect, Puts: c.puts, Deletes: c.gone,
		})
		if moved(err) && attempt < attempts {
			continue
		}
		if err != nil && !errors.Is(err, journal.ErrReplayed) {
			return none, control.Meta{}, coded(err)
		}
		return outcome[T](&done, e.main)
	}
}

// moved tells that something has changed since it was read.
func moved(err error) bool {
	if _, ok := errors.AsType[*journal.StaleError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*journal.ExistsError](err); ok {
		return true
	}
	return errors.Is(err, journal.ErrNotFound)
}

// outcome is what an event left of the resource that it is about.
func outcome[T any](e *journal.Event, kind string) (T, control.Meta, error) {
	var v T
	for i := range e.Edits {
		if d := &e.Edits[i]; d.Kind == kind {
			err := json.Unmarshal(d.After, &v)
			return v, control.Meta{Revision: e.Seq, Created: d.Created, Updated: e.At}, err
		}
	}
	return v, control.Meta{}, fmt.Errorf("event %d has no %s", e.Seq, kind)
}

// replayed returns the event that the same request made before: what the
// request was made for may have changed since.
func (a *Accounts) replayed(ctx context.Context, m control.Mutation) (journal.Event, bool, error) {
	if m.Idempotency.Key == "" || m.DryRun {
		return journal.Event{}, false, nil
	}
	// A change that never comes to pass: keys are looked at before it is.
	e, err := a.Store.Commit(ctx, journal.Change{
		Actor: m.Actor, Kind: "replay", Idempotency: m.Idempotency, Expect: map[journal.Ref]int64{{Kind: "replay", ID: "none"}: 1},
	})
	switch {
	case errors.Is(err, journal.ErrReplayed):
		return e, true, nil
	case moved(err):
		return e, false, nil
	}
	return e, false, coded(err)
}

// list yields the resources of a kind of one tenant.
func list[T any](ctx context.Context, a *Accounts, kind string, tenant gatehouse.TenantID, where ...journal.Field) ([]T, error) {
	of := string(tenant)
	q := journal.Query{Kind: kind, Tenant: &of, Where: where, Limit: 1000}
	out := []T{}
	for {
		page, err := a.Store.List(ctx, q)
		if err != nil {
			return nil, coded(err)
		}
		for i := range page.Items {
			var v T
			if err := decode(&page.Items[i], &v); err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		if q.After = page.Next; page.Next == "" {
			return out, nil
		}
	}
}

// get returns a resource with what is known of it.
func get[T any](ctx context.Context, a *Accounts, ref journal.Ref) (T, control.Meta, error) {
	var v T
	r, err := a.Store.Get(ctx, ref)
	if errors.Is(err, journal.ErrNotFound) {
		return v, control.Meta{}, notFound(ref.Kind, ref.ID)
	}
	if err != nil {
		return v, control.Meta{}, coded(err)
	}
	return v, metaOf(&r), decode(&r, &v)
}

func metaOf(r *journal.Resource) control.Meta {
	return control.Meta{Revision: r.Revision, Created: r.Created, Updated: r.Updated}
}

func decode(r *journal.Resource, v any) error {
	if err := json.Unmarshal(r.Body, v); err != nil {
		return fmt.Errorf("%s at revision %d: %w", r.Ref, r.Revision, err)
	}
	return nil
}

func notFound(kind, id string) error {
	return &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: fmt.Sprintf("there is no %s %.80q", kind, id)}
}

func conflict(format string, args ...any) error {
	return &gatehouse.Error{Code: gatehouse.CodeConflict, Message: fmt.Sprintf(format, args...)}
}

// invalid is the error for faults; nil where they are only warnings.
func invalid(faults gatehouse.Faults) error {
	if len(faults.Errors()) == 0 {
		return nil
	}
	return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the request has faults", Err: &control.Invalid{Faults: faults}}
}

func fault(pointer, reason, hint string) error {
	return invalid(gatehouse.Faults{{Pointer: pointer, Reason: reason, Hint: hint}})
}

// refused gives the faults that billing found the form of a request's.
func refused(err error) error {
	if faults, ok := errors.AsType[gatehouse.Faults](err); ok {
		return invalid(faults)
	}
	return err
}

// coded gives an error of the journal its code.
func coded(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*gatehouse.Error](err); ok {
		return err
	}
	code, message := gatehouse.CodeInternal, "the control plane's store failed"
	switch {
	case moved(err):
		code, message = gatehouse.CodeStale, "it has changed meanwhile; ask again"
	case errors.Is(err, journal.ErrMismatch):
		code, message = gatehouse.CodeIdempotency, "the idempotency key was used for another request"
	case errors.Is(err, journal.ErrInvalid):
		code, message = gatehouse.CodeInvalid, "the request is not valid"
	case errors.Is(err, journal.ErrFull):
		code, message = gatehouse.CodeUnavailable, "the control plane's disk is full; nothing was changed"
	case errors.Is(err, journal.ErrUnknown):
		code, message = gatehouse.CodeUnavailable, "whether the change was made is not known; ask again with the same Idempotency-Key"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code, message = gatehouse.CodeUnavailable, "the request ended before its turn; nothing was changed"
	}
	return &gatehouse.Error{Code: code, Message: message, Err: err}
}
