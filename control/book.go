// Package control is the control plane: it holds the document in force, turns
// changes into updates for the data planes, and remembers what came of each.
//
// Files reads tenant documents and watches them. The Book is what every source
// of changes goes through.
package control

import (
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
	inForce   state      // guarded by mu; written under publishing too
	revisions []Revision // guarded by mu; oldest first
	next      uint64     // guarded by publishing
	problems  string     // of the last revision; guarded by publishing
}

// NewBook returns an empty book whose changes go to apply.
func NewBook(apply Apply) *Book { return &Book{apply: apply, next: 1} }

// Change is what a source wants to be in force.
type Change struct {
	Source string
	// Parts are the whole of it, one after the other, and read-only from now
	// on. A part that the last change had too is the same by its address: it
	// costs nothing.
	Parts []*gatehouse.Document
	// Keep says that nothing of the text can be used, and leaves in force what
	// is. Parts do not count.
	Keep bool
	// Problems were found in the text; they are recorded.
	Problems configs.Problems
	// Began is when the reading of the change began.
	Began time.Time
	// Locate gives the faults of a refused tenant, under /tenants/INDEX of all
	// Parts, their places. Nil: they have none.
	Locate func(gatehouse.Faults) configs.Problems
}

// Publish brings a change in force as far as the data plane takes it. It
// reports false when there was nothing to do and nothing new to say: the same
// problems are not a second revision, and their end is one.
func (b *Book) Publish(c Change) (Revision, bool) {
	b.publishing.Lock()
	defer b.publishing.Unlock()
	var u gatehouse.Update
	if !c.Keep {
		u = b.inForce.difference(c.Parts)
	}
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
		b.settle(&c, out.Refused)
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
	if c.Locate == nil || c.Keep {
		return nil
	}
	n := 0
	for _, part := range c.Parts {
		i := slices.IndexFunc(part.Tenants, func(t gatehouse.Tenant) bool { return t.ID == r.Tenant })
		if i >= 0 {
			return c.Locate(r.Faults.Under(gatehouse.Pointer("tenants", n+i)))
		}
		n += len(part.Tenants)
	}
	return nil
}

// settle makes a change the state in force, but for the refused tenants, which
// stay as they were.
func (b *Book) settle(c *Change, refused []gatehouse.Refusal) {
	next := b.inForce
	if !c.Keep {
		next = b.inForce.next(c.Parts, refused)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inForce = next
}

// Document returns the document in force. Its slices are read-only.
func (b *Book) Document() gatehouse.Document {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.inForce.document()
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
