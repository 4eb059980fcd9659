// Package control is the control plane: it holds the document in force, turns
// changes into updates for the data planes, and remembers what came of each.
//
// Files reads tenant documents and watches them. The Book is what every source
// of changes goes through.
package control

import (
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
)

// Apply hands an update to the data plane and returns what it took. It is
// called by one goroutine at a time.
type Apply func(gatehouse.Update) gatehouse.Outcome

// Result says what became of a change.
type Result string

// The results of a change.
const (
	// Applied: everything is live.
	Applied Result = "applied"
	// Partial: some tenants were refused and keep their running version.
	Partial Result = "partial"
	// Refused: nothing changed.
	Refused Result = "refused"
)

// Revision is the record of one change, taken or not.
type Revision struct {
	Revision uint64    `json:"revision"`
	At       time.Time `json:"at"`
	// Source names where the change came from.
	Source string `json:"source"`
	Result Result `json:"result"`
	// Changed tenants are live in their new form.
	Changed []gatehouse.TenantID `json:"changed"`
	Removed []gatehouse.TenantID `json:"removed"`
	// Refused tenants keep the form they had.
	Refused []gatehouse.Refusal `json:"refused,omitempty"`
	// Problems of the source's text, with places.
	Problems configs.Problems `json:"problems,omitempty"`
	// Took is the time from the reading of the change to the data plane's
	// answer, in milliseconds.
	Took float64 `json:"took_ms"`
}

// history bounds the revisions remembered.
const history = 1000

// Book holds the document in force and its history. It is safe for
// concurrent use.
type Book struct {
	apply Apply

	publishing sync.Mutex // held by Publish: changes take turns

	mu        sync.RWMutex
	document  gatehouse.Document // guarded by mu; what the data plane serves
	revisions []Revision         // guarded by mu; oldest first
	next      uint64             // guarded by publishing
	problems  string             // of the last revision; guarded by publishing
}

// NewBook returns an empty book whose changes go to apply.
func NewBook(apply Apply) *Book { return &Book{apply: apply, next: 1} }

// Change is what a source wants to be in force.
type Change struct {
	Source string
	// Document is the whole of it.
	Document gatehouse.Document
	// Problems were found in the text; they are recorded. Where nothing of
	// the text can be used the document is the one in force.
	Problems configs.Problems
	// Began is when the reading of the change began.
	Began time.Time
	// Locate gives the faults of a refused tenant, under /tenants/INDEX of
	// Document, their places. Nil: they have none.
	Locate func(gatehouse.Faults) configs.Problems
}

// Publish brings a change in force as far as the data plane takes it. It
// reports false when there was nothing to do and nothing new to say: the same
// problems are not a second revision, and their end is one.
func (b *Book) Publish(c Change) (Revision, bool) {
	b.publishing.Lock()
	defer b.publishing.Unlock()
	from := b.Document()
	u := difference(&from, &c.Document)
	u.Revision, u.Full = b.next, b.next == 1
	problems := c.Problems.Errors().Error()
	empty := len(u.Plans)+len(u.Tenants)+len(u.RemovedPlans)+len(u.RemovedTenants) == 0
	if empty && !u.Full && problems == b.problems {
		return Revision{}, false
	}
	r := Revision{
		Revision: u.Revision, At: time.Now().UTC(), Source: c.Source, Problems: c.Problems,
		Changed: []gatehouse.TenantID{}, Removed: []gatehouse.TenantID{},
	}
	b.next++
	if !empty || u.Full {
		out := b.apply(u)
		r.Changed, r.Removed, r.Refused = out.Applied, out.Removed, out.Refused
		for _, refused := range out.Refused {
			r.Problems = append(r.Problems, c.locate(refused)...)
		}
		b.settle(&c.Document, out.Refused)
	}
	b.problems = r.Problems.Errors().Error()
	switch failed := len(r.Refused) > 0 || len(r.Problems.Errors()) > 0; {
	case !failed:
		r.Result = Applied
	case len(r.Changed)+len(r.Removed) > 0:
		r.Result = Partial
	default:
		r.Result = Refused
	}
	r.Took = float64(time.Since(c.Began).Microseconds()) / 1000
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.revisions = append(b.revisions, r); len(b.revisions) > history {
		b.revisions = slices.Delete(b.revisions, 0, len(b.revisions)-history)
	}
	return r, true
}

func (c *Change) locate(r gatehouse.Refusal) configs.Problems {
	i := slices.IndexFunc(c.Document.Tenants, func(t gatehouse.Tenant) bool { return t.ID == r.Tenant })
	if i < 0 || c.Locate == nil {
		return nil
	}
	return c.Locate(r.Faults.Under(gatehouse.Pointer("tenants", i)))
}

// settle makes next the document in force, but for the refused tenants, which
// stay as they were.
func (b *Book) settle(next *gatehouse.Document, refused []gatehouse.Refusal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	doc := gatehouse.Document{Plans: next.Plans}
	is := func(id gatehouse.TenantID) bool {
		return slices.ContainsFunc(refused, func(r gatehouse.Refusal) bool { return r.Tenant == id })
	}
	for _, t := range next.Tenants {
		if !is(t.ID) {
			doc.Tenants = append(doc.Tenants, t)
		}
	}
	for _, t := range b.document.Tenants {
		if is(t.ID) {
			doc.Tenants = append(doc.Tenants, t)
		}
	}
	b.document = doc
}

// difference is the update that leads from one document to another.
func difference(from, to *gatehouse.Document) gatehouse.Update {
	var u gatehouse.Update
	u.Plans, u.RemovedPlans = changes(from.Plans, to.Plans, func(p *gatehouse.Plan) gatehouse.PlanID { return p.ID })
	u.Tenants, u.RemovedTenants = changes(from.Tenants, to.Tenants, func(t *gatehouse.Tenant) gatehouse.TenantID { return t.ID })
	return u
}

func changes[T any, K comparable](from, to []T, id func(*T) K) (set []T, removed []K) {
	old := make(map[K]*T, len(from))
	for i := range from {
		old[id(&from[i])] = &from[i]
	}
	for i := range to {
		k := id(&to[i])
		if was := old[k]; was == nil || !reflect.DeepEqual(*was, to[i]) {
			set = append(set, to[i])
		}
		delete(old, k)
	}
	for i := range from { // in order
		if k := id(&from[i]); old[k] != nil {
			removed = append(removed, k)
		}
	}
	return set, removed
}

// Document returns the document in force. Its slices are read-only.
func (b *Book) Document() gatehouse.Document {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.document
}

// Tenants returns the tenants in force, by id.
func (b *Book) Tenants() []gatehouse.Tenant {
	ts := append([]gatehouse.Tenant{}, b.Document().Tenants...)
	slices.SortFunc(ts, func(x, y gatehouse.Tenant) int {
		if x.ID < y.ID {
			return -1
		}
		return 1
	})
	return ts
}

// Tenant returns a tenant in force.
func (b *Book) Tenant(id gatehouse.TenantID) (gatehouse.Tenant, error) {
	doc := b.Document()
	i := slices.IndexFunc(doc.Tenants, func(t gatehouse.Tenant) bool { return t.ID == id })
	if i < 0 {
		return gatehouse.Tenant{}, &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "there is no such tenant"}
	}
	return doc.Tenants[i], nil
}

// Revisions returns the latest changes, newest first.
func (b *Book) Revisions() []Revision {
	b.mu.RLock()
	defer b.mu.RUnlock()
	rs := slices.Clone(b.revisions)
	slices.Reverse(rs)
	return rs
}
