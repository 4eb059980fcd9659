package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// Mask says what of an input is removed before a decision is kept. It is
// read-only.
type Mask struct {
	fields                        fields
	features, headers, parameters []string
	principal, cert               [][]string // paths within
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
// Whatever the pointers, these are removed: the values of the query, and
// header fields that hold credentials or addresses with a query. Such are
// those in secretHeaders, those whose names contain one of secretWords, and
// credentials, the names that the tenant has for its own.
func NewMask(pointers []string, credentials ...string) (*Mask, error) {
	m := &Mask{}
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
	"api-key", "apikey", "assertion", "auth", "cookie", "credential", "jwt", "passw", "secret", "session", "signature", "token",
}

// secret reports whether the header field, in lower case, is removed.
func (m *Mask) secret(name string) bool {
	return slices.Contains(secretHeaders, name) || slices.Contains(m.headers, name) ||
		slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(name, w) })
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
