package policy

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/netip"
	"time"
)

// recordTime is the instant of a record.
func recordTime(record []byte) time.Time {
	return time.Unix(0, int64(binary.LittleEndian.Uint64(record)))
}

// reader reads a record. What a recording wrote is whole: it panics on
// anything else.
type reader struct{ buf []byte }

func (r *reader) byte() byte {
	b := r.buf[0]
	r.buf = r.buf[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.buf)
	r.buf = r.buf[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.buf)
	r.buf = r.buf[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint() - 1
	b := r.buf[:n:n]
	r.buf = r.buf[n:]
	return b
}

func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) strings() []string {
	var list []string
	for range r.uvarint() {
		list = append(list, r.string())
	}
	return list
}

func (r *reader) pairs() []Field {
	var fs []Field
	for range r.uvarint() {
		fs = append(fs, Field{r.string(), r.string()})
	}
	return fs
}

// keptFields are header fields that were kept.
type keptFields []Field

// Len is the number of fields.
func (k keptFields) Len() int { return len(k) }

// At returns field i.
func (k keptFields) At(i int) (name, value []byte) { return []byte(k[i].Name), []byte(k[i].Value) }

// entry reads a record. The principals already read are in known.
func (r *reader) entry(known map[string]*Principal) *Entry {
	e := &Entry{At: recordTime(r.buf)}
	flags := r.buf[recordHead-1]
	r.buf = r.buf[recordHead:]
	e.Replayable, e.tainted = flags&recordReplayable != 0 && flags&recordPartial == 0, flags&recordTainted != 0
	r.input(e, known)
	e.Erased, e.Masked = r.strings(), r.strings()
	e.Decision = r.decision()
	e.Decision.Allow, e.Decision.Public = flags&recordAllow != 0, flags&recordPublic != 0
	e.ID, e.Revision, e.Took = r.string(), r.string(), time.Duration(r.uvarint())
	e.Tenant = e.input.Tenant
	return e
}

func (r *reader) input(e *Entry, known map[string]*Principal) {
	e.present = fields(binary.LittleEndian.Uint32(r.buf))
	r.buf = r.buf[4:]
	in := &e.input
	in.Time = e.At
	text := func(f fields, s *string) {
		if e.present&f != 0 {
			*s = r.string()
		}
	}
	raw := func(f fields, b *[]byte) {
		if e.present&f != 0 {
			*b = r.bytes()
		}
	}
	text(fieldTenant, &in.Tenant)
	text(fieldPlan, &in.Plan)
	text(fieldRoute, &in.Route)
	text(fieldAuth, &in.Auth)
	raw(fieldMethod, &in.Method)
	raw(fieldHost, &in.Host)
	raw(fieldPath|fieldSegments, &in.Path)
	raw(fieldProtocol, &in.Protocol)
	if e.present&fieldFeatures != 0 {
		in.Features = r.strings()
	}
	raw(fieldQuery, &in.Query)
	if e.present&fieldHeaders != 0 {
		var fs keptFields
		for r.byte() == 1 {
			fs = append(fs, Field{r.string(), r.string()})
		}
		in.Headers = fs
	}
	if e.present&fieldBodySize != 0 {
		in.BodySize = r.varint()
	}
	if e.present&fieldPrincipal != 0 {
		in.Principal = principalOf(r.bytes(), known)
	}
	if e.present&fieldIP != 0 {
		// What was written is an address, or nothing.
		in.Client, _ = netip.ParseAddr(r.string())
	}
	if e.present&fieldTLS != 0 {
		in.TLS = r.byte() == 1
	}
	if e.present&fieldCert != 0 {
		if members, ok := decoded(r.bytes()).(map[string]any); ok {
			in.Cert = newCertificate(members)
		}
	}
}

func (r *reader) decision() Decision {
	d := Decision{Status: int(r.uvarint()), By: r.string(), Reason: r.string()}
	if failure := r.string(); failure != "" {
		d.Err = errors.New(failure)
	}
	if r.byte() == 1 {
		d.Obligations = &Obligations{
			Set: r.pairs(), Remove: r.strings(), Cost: r.varint(), Log: r.pairs(), Limits: r.strings(), StepUp: r.string(),
		}
	}
	return d
}

func decoded(text []byte) any {
	v, _ := decodeNode(string(text))
	return v
}

// decodeNode reads the text of a node: what encoding/json would have made of
// it, with numbers as json.Number.
func decodeNode(text string) (v any, rest string) {
	if text == "" {
		return nil, ""
	}
	tag, text := text[0], text[1:]
	switch tag {
	case 't', 'f':
		return tag == 't', text
	case 'n':
		return nil, text
	}
	u, k := binary.Uvarint([]byte(text[:min(len(text), binary.MaxVarintLen64)]))
	n, text := int(u), text[k:]
	switch tag {
	case 's':
		return text[:n], text[n:]
	case 'd':
		return json.Number(text[:n]), text[n:]
	case 'a':
		vs := make([]any, n)
		for i := range vs {
			vs[i], text = decodeNode(text)
		}
		return vs, text
	}
	members := make(map[string]any, n) // 'o'
	for range n {
		size, k := binary.Uvarint([]byte(text[1:min(len(text), 1+binary.MaxVarintLen64)]))
		name := text[1+k : 1+k+int(size)]
		members[name], text = decodeNode(text[1+k+int(size):])
	}
	return members, text
}
