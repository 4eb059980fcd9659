package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Ref names a resource.
type Ref struct {
	// Kind is what it is: "tenant", "key". Tenant is whose it is, empty for
	// what belongs to the platform. ID is unique within both.
	Kind, Tenant, ID string
}

// String returns kind/tenant/id.
func (r Ref) String() string { return r.Kind + "/" + r.Tenant + "/" + r.ID }

// Resource is a resource as some event left it.
type Resource struct {
	Ref
	// Revision is the number of the event that last wrote it.
	Revision uint64
	// Created and Updated are the times of its first and last event, UTC to
	// the microsecond. A resource put again after its deletion is a new one.
	Created, Updated time.Time
	// Body is compact JSON; it belongs to the receiver.
	Body json.RawMessage
}

// Hash is a SHA-256 sum. As text it is hexadecimal.
type Hash [sha256.Size]byte

// String returns the hexadecimal form.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns the hexadecimal form.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads the hexadecimal form.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("hash of %d digits, not %d", len(text), 2*len(h))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Checkpoint is a place in the chain: whoever keeps one elsewhere can tell
// later whether the events up to it are still the same.
type Checkpoint struct {
	// Seq is the number of the event, At when it was, and Hash that of it and all
	// before it.
	Seq  uint64    `json:"seq"`
	At   time.Time `json:"at"`
	Hash Hash      `json:"hash"`
}

// Edit is what an event did to one resource.
type Edit struct {
	Ref
	// Before is the revision that was replaced, 0 when there was none.
	Before uint64
	// Created is when the resource came to be, as in Resource.
	Created time.Time
	// After is the resource's body since, nil when it was deleted.
	After json.RawMessage
}

// Event is one entry of the journal.
type Event struct {
	// Seq is its number, from 1; At its time, UTC to the microsecond.
	Seq uint64
	At  time.Time
	// Actor, Kind, Tenant, Subject and Why are those of the Change, as is
	// Idempotency.
	Actor, Kind, Tenant, Subject, Why string
	Idempotency                       Idempotency
	Edits                             []Edit
	// Body is what is stored and hashed: Why, Idempotency and Edits.
	Body json.RawMessage
	// Prev is the hash of the event before.
	Prev, Hash Hash
}

// Checkpoint returns the place of e.
func (e *Event) Checkpoint() Checkpoint { return Checkpoint{e.Seq, e.At, e.Hash} }

// Resource returns what e's edit of ref left, and whether that is a resource;
// it is not when e deleted ref or did not touch it.
func (e *Event) Resource(ref Ref) (Resource, bool) {
	for i := range e.Edits {
		if d := &e.Edits[i]; d.Ref == ref {
			return Resource{d.Ref, e.Seq, d.Created, e.At, d.After}, d.After != nil
		}
	}
	return Resource{}, false
}

// record is an event as the table holds it.
type record struct {
	seq, at                      int64 // at in µs
	actor, kind, tenant, subject string
	body, prev, hash             []byte
}

// sum returns the hash that the record should have were its number seq.
func (r *record) sum(seq int64) Hash {
	const fixed = 4 + 8 + 8 + 5*8
	b := make([]byte, 0, len(r.prev)+fixed+len(r.actor)+len(r.kind)+len(r.tenant)+len(r.subject)+len(r.body))
	b = append(b, r.prev...)
	b = append(b, "GHJ1"...)
	b = binary.BigEndian.AppendUint64(b, uint64(seq))
	b = binary.BigEndian.AppendUint64(b, uint64(r.at))
	for _, s := range [...]string{r.actor, r.kind, r.tenant, r.subject} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(len(r.body)))
	b = append(b, r.body...)
	return sha256.Sum256(b)
}

func micros(us int64) time.Time { return time.UnixMicro(us).UTC() }

// event decodes the record.
func (r *record) event() (Event, error) {
	e := Event{
		Seq: uint64(r.seq), At: micros(r.at),
		Actor: r.actor, Kind: r.kind, Tenant: r.tenant, Subject: r.subject, Body: r.body,
	}
	if len(r.prev) != len(e.Prev) || len(r.hash) != len(e.Hash) {
		return Event{}, fmt.Errorf("event %d: a hash has the wrong length", r.seq)
	}
	copy(e.Prev[:], r.prev)
	copy(e.Hash[:], r.hash)
	var b body
	if err := json.Unmarshal(r.body, &b); err != nil {
		return Event{}, fmt.Errorf("event %d: body: %w", r.seq, err)
	}
	e.Why, e.Idempotency = b.Why, Idempotency{b.Key, b.Request}
	e.Edits = make([]Edit, len(b.Edits))
	for i, d := range b.Edits {
		e.Edits[i] = Edit{Ref{d.Kind, d.Tenant, d.ID}, d.Before, micros(d.Created), d.After}
	}
	return e, nil
}

// body is the form of an event's body; appendBody writes it.
type body struct {
	Why     string `json:"why"`
	Key     string `json:"key"`
	Request string `json:"request"`
	Edits   []edit `json:"edits"`
}

type edit struct {
	Kind    string          `json:"kind"`
	Tenant  string          `json:"tenant"`
	ID      string          `json:"id"`
	Before  uint64          `json:"before"`
	Created int64           `json:"created"`
	After   json.RawMessage `json:"after"`
}

// appendBody writes the body without passing the edits' documents, which are
// compact already, through an encoder.
func appendBody(b []byte, why string, key Idempotency, edits []Edit) []byte {
	b = append(b, '{')
	comma := func() {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
	}
	text := func(name, value string) {
		if value != "" {
			comma()
			b = appendString(append(b, `"`+name+`":`...), value)
		}
	}
	number := func(name string, value uint64) {
		if value != 0 {
			comma()
			b = strconv.AppendUint(append(b, `"`+name+`":`...), value, 10)
		}
	}
	text("why", why)
	text("key", key.Key)
	text("request", key.Request)
	if len(edits) > 0 {
		comma()
		b = append(b, `"edits":[`...)
		for i := range edits {
			d := &edits[i]
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '{')
			text("kind", d.Kind)
			text("tenant", d.Tenant)
			text("id", d.ID)
			number("before", d.Before)
			comma()
			b = strconv.AppendInt(append(b, `"created":`...), d.Created.UnixMicro(), 10)
			if d.After != nil {
				b = append(append(b, `,"after":`...), d.After...)
			}
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // no string fails to encode
	}
	return append(b, quoted...)
}
