package policy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"
)

// A record is a kept decision as bytes: an instant, flags, the parts of the
// input that were not removed, what was removed, and the decision. Records
// hold no pointers, so that a log of many costs the collector nothing.

// maxRecord bounds a record. What is larger is kept without the parts that can
// be large, and if it is still larger not at all.
const maxRecord = 16 << 10

// maxParts bounds the header fields and the parameters that are kept.
const maxParts = 256

// largeFields are removed from an input whose record is too large.
const largeFields = fieldPath | fieldSegments | fieldQuery | fieldHeaders | fieldFeatures | fieldPrincipal | fieldCert

// Flags of a record.
const (
	recordAllow = 1 << iota
	recordPublic
	recordTainted // see Entry.tainted
	recordPartial
	recordReplayable
)

// recordHead is the bytes of the instant and the flags, with which a record
// begins.
const recordHead = 9

// recording is the making of one record.
type recording struct {
	buf            []byte
	erased, masked []string
	scratch        []byte
}

// meta is what a record holds beside input and decision.
type meta struct {
	id       []byte
	revision string
	took     time.Duration
}

// record makes the record of a decision on in, which was made by p. Parts that
// are not in only are left out and the record is partial; nil stands for all.
// The result is valid until the next call; nil if it is too large.
func (r *recording) record(in *Input, d Decision, m *Mask, p *Policy, only *readSet, about meta) []byte {
	for _, large := range [...]fields{0, largeFields} {
		r.buf, r.erased, r.masked = r.buf[:0], r.erased[:0], r.masked[:0]
		r.write(in, d, m, p, only, about, large)
		if len(r.buf) <= maxRecord {
			return r.buf
		}
	}
	return nil
}

func (r *recording) write(in *Input, d Decision, m *Mask, p *Policy, only *readSet, about meta, large fields) {
	r.buf = binary.LittleEndian.AppendUint64(r.buf, uint64(in.Time.UnixNano()))
	r.buf = append(r.buf, 0)
	wanted := fieldsAll
	if only != nil {
		wanted = only.fields
	}
	r.input(in, m, only, wanted, m.fields|large)
	reads := p.reads
	if d.By == ByBaseline {
		reads = p.engine.reads
	}
	flags := byte(0)
	if only != nil {
		flags |= recordPartial
	}
	if reads.spared(r.erased) && reads.spared(r.masked) {
		flags |= recordReplayable
	} else {
		flags |= recordTainted
	}
	if d.Allow {
		flags |= recordAllow
	}
	if d.Public {
		flags |= recordPublic
	}
	r.buf[recordHead-1] = flags
	kept := d.redact(flags&recordTainted != 0, m.secret)
	if kept.Reason != d.Reason {
		r.erased = append(r.erased, "/result/reason")
	}
	if !kept.Obligations.equal(d.Obligations) {
		r.erased = append(r.erased, "/result/obligations")
	}
	r.strings(r.erased)
	r.strings(r.masked)
	r.decision(kept)
	r.buf = appendSized(appendSized(r.buf, about.id), about.revision)
	r.buf = binary.AppendUvarint(r.buf, uint64(max(0, about.took)))
}

// spared reports whether r reads none of the pointers, which begin with
// /input.
func (r *readSet) spared(pointers []string) bool {
	return !slices.ContainsFunc(pointers, func(gone string) bool {
		return slices.ContainsFunc(r.pointers, func(read string) bool { return overlap(read, gone) })
	})
}

// redact removes from d what could repeat a removed part of the input: all
// that a tainted decision says in words, and credentials for the backend.
func (d Decision) redact(tainted bool, secret func(header string) bool) Decision {
	if tainted {
		d.Reason = ""
		if d.Err != nil && !errors.Is(d.Err, ErrBudget) && !errors.Is(d.Err, ErrAside) {
			d.Err = errTainted
		}
	}
	if d.Obligations == nil {
		return d
	}
	o := *d.Obligations
	blank := func(fs []Field, gone func(string) bool) []Field {
		fs = slices.Clone(fs)
		for i := range fs {
			if tainted || gone(fs[i].Name) {
				fs[i].Value = ""
			}
		}
		return fs
	}
	o.Set = blank(o.Set, secret)
	o.Log = blank(o.Log, func(string) bool { return false })
	if tainted {
		o.StepUp, o.Limits = "", nil
	}
	d.Obligations = &o
	return d
}

var errTainted = errors.New("policy: evaluation failed")

// input writes the parts of in that are wanted and not gone.
func (r *recording) input(in *Input, m *Mask, only *readSet, wanted, gone fields) {
	if !utf8.Valid(in.Path) || holdsKey(in.Path) { // the JSON form could not say the first
		gone |= fieldPath | fieldSegments
	}
	if !utf8.Valid(in.Query) || bytes.Count(in.Query, []byte("&")) > maxParts {
		gone |= fieldQuery
	}
	if in.Headers != nil && in.Headers.Len() > maxParts {
		gone |= fieldHeaders
	}
	for _, b := range [...]struct {
		f fields
		b []byte
	}{{fieldMethod, in.Method}, {fieldHost, in.Host}, {fieldProtocol, in.Protocol}} {
		if !utf8.Valid(b.b) {
			gone |= b.f
		}
	}
	if in.principal().node == nil { // not made by NewPrincipal
		gone |= fieldPrincipal
	}
	for _, f := range fieldPointers {
		if wanted&gone&f.field != 0 {
			r.erased = append(r.erased, "/input"+f.pointer)
		}
	}
	present := wanted &^ gone
	r.buf = binary.LittleEndian.AppendUint32(r.buf, uint32(present))
	text := func(f fields, s string) {
		if present&f != 0 {
			r.buf = appendSized(r.buf, s)
		}
	}
	raw := func(f fields, b []byte) {
		if present&f != 0 {
			r.buf = appendSized(r.buf, b)
		}
	}
	text(fieldTenant, in.Tenant)
	text(fieldPlan, in.Plan)
	text(fieldRoute, in.Route)
	text(fieldAuth, in.Auth)
	raw(fieldMethod, in.Method)
	raw(fieldHost, in.Host)
	raw(fieldPath|fieldSegments, in.Path)
	raw(fieldProtocol, in.Protocol)
	if present&fieldFeatures != 0 {
		r.features(in.Features, m)
	}
	if present&fieldQuery != 0 {
		r.query(in.Query, m)
	}
	if present&fieldHeaders != 0 {
		r.headers(in.Headers, m, only)
	}
	if present&fieldBodySize != 0 {
		r.buf = binary.AppendVarint(r.buf, in.BodySize)
	}
	if present&fieldPrincipal != 0 {
		r.node(in.principal().masked(m))
	}
	if present&fieldIP != 0 {
		addr, _ := in.Client.MarshalText()
		r.buf = appendSized(r.buf, addr)
	}
	if present&fieldTLS != 0 {
		r.buf = appendBool(r.buf, in.TLS)
	}
	if present&fieldCert != 0 {
		r.node(in.Cert.masked(m))
	}
}

func (r *recording) node(n *maskedNode) {
	r.buf = appendSized(r.buf, n.text)
	r.erased = append(r.erased, n.erased...)
}

func (r *recording) strings(list []string) {
	r.buf = binary.AppendUvarint(r.buf, uint64(len(list)))
	for _, s := range list {
		r.buf = appendSized(r.buf, s)
	}
}

// erase names what comes more than once.
func (r *recording) erase(at string) {
	if !slices.Contains(r.erased, at) {
		r.erased = append(r.erased, at)
	}
}

// mask names what comes more than once.
func (r *recording) mask(at string) {
	if !slices.Contains(r.masked, at) {
		r.masked = append(r.masked, at)
	}
}

func (r *recording) features(list []string, m *Mask) {
	left := list
	if len(m.features) > 0 {
		left = nil
		for _, f := range list {
			if slices.Contains(m.features, f) {
				r.erased = append(r.erased, pointerTo("/input/features", f))
			} else {
				left = append(left, f)
			}
		}
	}
	r.strings(left)
}

// maskedValue takes the place of what is in masked.
const maskedValue = "**"

// maxParameterName bounds names of the query: a longer one is a value without
// a name, as one without "=" is.
const maxParameterName = 32

// query writes names with maskedValue for their values.
func (r *recording) query(query []byte, m *Mask) {
	r.scratch = r.scratch[:0]
	for pair := range bytes.SplitSeq(query, []byte("&")) {
		if len(pair) == 0 {
			continue
		}
		rawName, _, named := bytes.Cut(pair, []byte("="))
		name := unescape(rawName)
		switch {
		case !named, len(rawName) > maxParameterName, !utf8.ValidString(name), holdsKey(name):
			// Nobody may learn of the name, so it is all of the query.
			r.mask("/input/request/query")
			continue
		case slices.Contains(m.parameters, name):
			r.erase(pointerTo("/input/request/query", name))
			continue
		}
		r.mask(pointerTo("/input/request/query", name))
		r.scratch = append(r.scratch, url.QueryEscape(name)+"="+maskedValue+"&"...)
	}
	r.buf = appendSized(r.buf, r.scratch)
}

// headers writes those that only names, apart from secrets.
func (r *recording) headers(headers Fields, m *Mask, only *readSet) {
	n := 0
	if headers != nil {
		n = headers.Len()
	}
	for i := range n {
		rawName, value := headers.At(i)
		known := m.classify(rawName)
		switch {
		case only != nil && only.headers != nil && !slices.Contains(only.headers, known.name):
		case known.unnamed:
			r.mask("/input/request/headers")
		case known.secret, !utf8.Valid(value), holdsKey(value):
			r.erase(known.pointer)
		default:
			r.buf = appendSized(appendSized(append(r.buf, 1), known.name), value)
		}
	}
	r.buf = append(r.buf, 0)
}

func (r *recording) decision(d Decision) {
	r.buf = binary.AppendUvarint(r.buf, uint64(d.Status))
	r.buf = appendSized(appendSized(r.buf, d.By), d.Reason)
	failure := ""
	if d.Err != nil {
		failure = d.Err.Error()
	}
	r.buf = appendSized(r.buf, failure)
	o := d.Obligations
	r.buf = appendBool(r.buf, o != nil)
	if o == nil {
		return
	}
	r.pairs(o.Set)
	r.strings(o.Remove)
	r.buf = binary.AppendVarint(r.buf, o.Cost)
	r.pairs(o.Log)
	r.strings(o.Limits)
	r.buf = appendSized(r.buf, o.StepUp)
}

func (r *recording) pairs(fs []Field) {
	r.buf = binary.AppendUvarint(r.buf, uint64(len(fs)))
	for _, f := range fs {
		r.buf = appendSized(appendSized(r.buf, f.Name), f.Value)
	}
}
