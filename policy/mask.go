package policy

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/gatehouse-gateway/gatehouse"
)

// Mask says what of an input is removed before a decision is kept. It is
// read-only but for what it remembers of header names, and safe for concurrent
// use.
type Mask struct {
	fields                        fields
	features, headers, parameters []string
	principal, cert               [][]string // paths within
	seed                          maphash.Seed
	names                         [maskNames]atomic.Pointer[maskName]
}

// maskNames is the number of header names that a Mask remembers. A name has one
// place, and takes it from another.
const maskNames = 64

// maxMaskName bounds the names remembered, in bytes.
const maxMaskName = 64

// maskName is what a Mask makes of a header name.
type maskName struct {
	raw     string // as it was sent
	name    string // in lower case
	pointer string // to the field in an event
	secret  bool   // the field is removed
	unnamed bool   // nobody may learn of the name either
}

// classify looks a header name up, or judges it.
func (m *Mask) classify(raw []byte) *maskName {
	slot := &m.names[maphash.Bytes(m.seed, raw)%maskNames]
	if n := slot.Load(); n != nil && n.raw == string(raw) {
		return n
	}
	n := &maskName{raw: string(raw), name: lower(raw)}
	n.pointer = pointerTo("/input/request/headers", n.name)
	n.secret, n.unnamed = m.secret(n.name) || !utf8.ValidString(n.name), holdsKey(raw)
	if len(raw) <= maxMaskName {
		slot.Store(n)
	}
	return n
}

// fieldPointer names a part of the document by its JSON Pointer within input.
type fieldPointer struct {
	field   fields
	pointer string
}

// fieldPointers name every part of the document. Read-only.
var fieldPointers = [...]fieldPointer{
	{fieldTenant, "/tenant"},
	{fieldPlan, "/plan"},
	{fieldFeatures, "/features"},
	{fieldRoute, "/route"},
	{fieldAuth, "/auth"},
	{fieldMethod, "/request/method"},
	{fieldHost, "/request/host"},
	{fieldPath, "/request/path"},
	{fieldSegments, "/request/segments"},
	{fieldQuery, "/request/query"},
	{fieldHeaders, "/request/headers"},
	{fieldBodySize, "/request/body_size"},
	{fieldProtocol, "/request/protocol"},
	{fieldPrincipal, "/principal"},
	{fieldIP, "/client/ip"},
	{fieldTLS, "/client/tls"},
	{fieldCert, "/client/cert"},
	{fieldTime, "/time"},
}

var errMask = errors.New("does not name a part of input")

// NewMask makes a Mask of JSON Pointers into input, such as
// /principal/claims/email. A pointer below an array removes the whole array;
// /request/path and /request/segments remove each other.
//
// Whatever the pointers, these are removed: the values of the query, header
// fields that hold credentials or addresses with a query, and what holds an API
// key of ours, wherever. Such fields are those in secretHeaders, those whose
// names contain one of secretWords or have one of secretEnds or secretParts, and
// credentials, the names that the tenant has for its own.
func NewMask(pointers []string, credentials ...string) (*Mask, error) {
	m := &Mask{seed: maphash.MakeSeed()}
	for _, name := range credentials {
		m.headers = append(m.headers, strings.ToLower(name))
	}
	for _, p := range pointers {
		if err := m.add(p); err != nil {
			return nil, fmt.Errorf("mask %q: %w", p, err)
		}
	}
	return m, nil
}

var unescapePointer = strings.NewReplacer("~1", "/", "~0", "~")

func (m *Mask) add(pointer string) error {
	if !strings.HasPrefix(pointer, "/") {
		return errMask
	}
	path := strings.Split(pointer[1:], "/")
	for i := range path {
		path[i] = unescapePointer.Replace(path[i])
	}
	known := false
	for _, f := range fieldPointers {
		switch whole, below := overlap(pointer, f.pointer), strings.HasPrefix(pointer, f.pointer+"/"); {
		case whole && !below:
			m.fields |= f.field
		case below && f.field == fieldFeatures && len(path) == 2:
			m.features = append(m.features, path[1])
		case below && f.field == fieldHeaders && len(path) == 3:
			m.headers = append(m.headers, strings.ToLower(path[2]))
		case below && f.field == fieldQuery:
			m.parameters = append(m.parameters, path[2])
		case below && f.field == fieldSegments:
			m.fields |= fieldSegments
		case below && f.field == fieldPrincipal && slices.Contains(principalFields[:], path[1]):
			m.principal = append(m.principal, path[1:])
		case below && f.field == fieldCert:
			m.cert = append(m.cert, path[2:])
		default:
			continue
		}
		known = true
	}
	if m.fields&(fieldPath|fieldSegments) != 0 {
		m.fields |= fieldPath | fieldSegments
	}
	if !known {
		return errMask
	}
	return nil
}

// overlap reports whether two JSON Pointers name the same value, or one that
// is within the other.
func overlap(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return strings.HasPrefix(b, a) && (len(a) == len(b) || b[len(a)] == '/')
}

// secretHeaders hold credentials, or addresses with a query in them.
var secretHeaders = []string{
	"authorization", "cookie", "dpop", "proxy-authorization", "referer", "sec-websocket-protocol", "set-cookie",
	"x-api-key", "x-forwarded-client-cert", "x-forwarded-uri", "x-original-uri", "x-original-url", "x-rewrite-url",
}

// secretWords are in the names of further fields that hold credentials.
var secretWords = []string{
	"apikey", "assertion", "auth", "cookie", "credential", "jwt", "passphrase", "passw", "secret", "session", "signature", "token",
}

// secretEnds end the parts of such names, as in x-functions-key and x-totp, and
// secretParts are such parts. As parts of other words they mean nothing:
// x-shipping, x-decoded.
var (
	secretEnds  = []string{"code", "key", "keys", "otp"}
	secretParts = []string{"csrf", "hmac", "mfa", "pass", "pin", "pwd", "sid", "sig", "xsrf"}
)

// secret reports whether the header field, in lower case, is removed.
func (m *Mask) secret(name string) bool {
	if slices.Contains(secretHeaders, name) || slices.Contains(m.headers, name) ||
		slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(name, w) }) {
		return true
	}
	for part := range strings.FieldsFuncSeq(name, func(c rune) bool { return c == '-' || c == '_' || c == '.' }) {
		if slices.Contains(secretParts, part) || slices.ContainsFunc(secretEnds, func(w string) bool { return strings.HasSuffix(part, w) }) {
			return true
		}
	}
	return false
}

// holdsKey reports whether an API key of ours lies anywhere in s.
func holdsKey[S string | []byte](s S) bool {
	for i := 0; i+gatehouse.KeyLength <= len(s); i++ {
		if s[i] == gatehouse.KeyPrefix[0] && gatehouse.WellFormedKey(s[i:i+gatehouse.KeyLength]) {
			return true
		}
	}
	return false
}

// erase removes path from a decoded document, and returns what was removed:
// less of the path where that leads below an array; nil if there is nothing.
func erase(from map[string]any, path []string) []string {
	for i, name := range path {
		v, ok := from[name]
		if !ok {
			return nil
		}
		_, array := v.([]any)
		below, object := v.(map[string]any)
		switch {
		case i == len(path)-1, array:
			delete(from, name)
			return path[:i+1]
		case !object:
			return nil
		}
		from = below
	}
	return nil
}

// pointerTo is the JSON Pointer of path, below base.
func pointerTo(base string, path ...string) string {
	tokens := make([]any, len(path))
	for i, name := range path {
		tokens[i] = strings.ToValidUTF8(name, "\ufffd")
	}
	return base + gatehouse.Pointer(tokens...)
}

// maskedNode is what Mask leaves of a principal or certificate.
type maskedNode struct {
	mask   *Mask
	text   string // of a node
	erased []string
}

// maskNode removes paths from n, whose pointer is base.
func (m *Mask) maskNode(n *node, base string, paths [][]string) *maskedNode {
	out := &maskedNode{mask: m, text: n.text}
	v, _ := decodeNode(n.text)
	members, ok := v.(map[string]any)
	if !ok {
		return out
	}
	for _, path := range paths {
		if gone := erase(members, path); gone != nil {
			out.erased = append(out.erased, pointerTo(base, gone...))
		}
	}
	_, left := convert(members)
	out.text = left.text
	return out
}
