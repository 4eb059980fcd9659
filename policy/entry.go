package policy

import "time"

// Entry is a kept decision. Its JSON form is an event of OPA's decision log.
type Entry struct {
	// ID names the request; the access log has the same.
	ID string
	// Tenant and Revision are whose policy decided, and which one.
	Tenant, Revision string
	// At is the instant of the request.
	At time.Time
	// Took is the time of the decision; 0 if it was not measured.
	Took time.Duration
	// Decision without what Erased names. Of a failure there is the text only.
	Decision Decision
	// Erased and Masked are the parts that were removed, and those in place of
	// which "**" stands: JSON Pointers that begin with /input or /result.
	Erased, Masked []string
	// Replayable says that nothing was removed that the policy which decided
	// reads: the same policy decides Input the same. Another policy may read
	// what was removed; Replay finds out.
	Replayable bool

	input   Input
	present fields // of input
	// tainted says that the decision may depend on what was removed, so that
	// what it says in words was removed as well.
	tainted bool
}

// Input is the input, without what was removed. It is read-only.
func (e *Entry) Input() *Input { return &e.input }

// decide answers the input by p, if that is as it would have answered the
// request: it reads nothing that was removed, or the baseline denies, which
// reads nothing of it.
func (e *Entry) decide(p *Policy) (d Decision, ok bool) {
	switch {
	case e.spared(p.reads):
		return p.Decide(&e.input), true
	case e.spared(p.engine.reads):
		d = p.decidePlatform(&e.input)
		return d, !d.Allow && d.Err == nil
	}
	return d, false
}

// spared reports whether all that r reads is there.
func (e *Entry) spared(r *readSet) bool {
	return r.fields&^e.present == 0 && r.spared(e.Erased) && r.spared(e.Masked)
}
