package policy

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Principal is who asks. It is made by NewPrincipal once per credential and
// is read-only from then on: safe for concurrent use and for keeping.
type Principal struct {
	Kind, ID, Tenant string
	// Issuer says whose token named the caller; "": no token did. One ID of two
	// issuers is two callers.
	Issuer                string
	Roles, Scopes, Groups []string
	Claims                map[string]any

	term   *ast.Term                   // input.principal
	node   *node                       // the same, for cache keys
	fields [len(principalFields)]*node // of node
	// keyed are the keys of the readSets that last asked, by readSet.slot: a
	// principal meets the baseline and one tenant's policy, as a rule.
	keyed [2]atomic.Pointer[keyed]
	// left is what the mask that last asked leaves of node.
	left atomic.Pointer[maskedNode]
}

// keyed is the part of a key that a principal makes up.
type keyed struct {
	reads *readSet
	text  string
}

func (p *Principal) appendKey(dst []byte, reads *readSet) []byte {
	slot := &p.keyed[reads.slot]
	k := slot.Load()
	if k == nil || k.reads != reads {
		k = &keyed{reads, p.key(reads)}
		slot.Store(k)
	}
	return append(dst, k.text...)
}

func (p *Principal) key(reads *readSet) string {
	var key []byte
	for _, part := range reads.principal {
		if part.kind == partPrincipal {
			key = appendNode(key, p.node)
		} else {
			key = appendNode(key, p.fields[part.index].at(part.path))
		}
	}
	return string(key)
}

// masked is what m leaves of p.
func (p *Principal) masked(m *Mask) *maskedNode {
	left := p.left.Load()
	if left == nil || left.mask != m {
		left = m.maskNode(p.node, "/input/principal", m.principal)
		p.left.Store(left)
	}
	return left
}

// principalOf makes a principal of the text of a node. Those already made are
// in known, which may be nil.
func principalOf(text []byte, known map[string]*Principal) *Principal {
	if p := known[string(text)]; p != nil {
		return p
	}
	members, ok := decoded(text).(map[string]any)
	if !ok {
		return anonymous
	}
	p := principalFrom(members)
	if known != nil {
		known[string(text)] = p
	}
	return p
}

// principalFrom makes a principal of input.principal, decoded.
func principalFrom(members map[string]any) *Principal {
	text := func(name string) string {
		s, _ := members[name].(string)
		return s
	}
	list := func(name string) (out []string) {
		vs, _ := members[name].([]any)
		for _, v := range vs {
			if s, ok := v.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	claims, _ := members["claims"].(map[string]any)
	return NewIssued(text("issuer"), text("kind"), text("id"), text("tenant"), list("roles"), list("scopes"), list("groups"), claims)
}

// principalFields are the members of input.principal.
var principalFields = [...]string{"kind", "id", "tenant", "roles", "scopes", "groups", "claims", "issuer"}

// kindAnonymous is the kind of a caller without a credential.
const kindAnonymous = "anonymous"

var anonymous = NewPrincipal(kindAnonymous, "", "", nil, nil, nil, nil)

// Anonymous returns the principal of requests without a credential.
func Anonymous() *Principal { return anonymous }

// NewPrincipal prepares a principal for evaluation. It keeps the slices and
// the map: the caller no longer changes them. Claims hold what encoding/json
// decodes into an any, json.Number included; numbers that no sensible issuer
// writes (over 64 characters, or an exponent over three digits) read as
// strings, and values of other Go types by their JSON form, else as null.
func NewPrincipal(kind, id, tenant string, roles, scopes, groups []string, claims map[string]any) *Principal {
	return NewIssued("", kind, id, tenant, roles, scopes, groups, claims)
}

// NewIssued is NewPrincipal for the bearer of an issuer's token.
func NewIssued(issuer, kind, id, tenant string, roles, scopes, groups []string, claims map[string]any) *Principal {
	p := &Principal{Kind: kind, ID: id, Tenant: tenant, Issuer: issuer, Roles: roles, Scopes: scopes, Groups: groups, Claims: claims}
	if claims == nil {
		claims = map[string]any{}
	}
	members := map[string]any{
		"kind": kind, "id": id, "tenant": tenant,
		"roles": roles, "scopes": scopes, "groups": groups, "claims": claims,
	}
	if issuer != "" {
		members["issuer"] = issuer
	}
	p.term, p.node = convert(members)
	for i, name := range principalFields {
		p.fields[i] = p.node.kids[name]
	}
	return p
}

// Size is what a principal takes of memory in bytes, about and at most: with
// what is remembered beside it once policies have asked and decisions were
// kept. What makes it out is the number of values in the claims.
func (p *Principal) Size() int {
	const beside = 4 // the text, and in keyed and left again
	bytes, text := weight(p.Claims)
	for _, list := range [...][]string{p.Roles, p.Scopes, p.Groups} {
		b, t := weight(list)
		bytes, text = bytes+b, text+t
	}
	return 2<<10 + len(p.Kind) + len(p.ID) + len(p.Tenant) + len(p.Issuer) + bytes + beside*text
}

// What convert and the decoded claims take for a value, for a place in an
// array and for a member of an object, in bytes. Measured.
const (
	valueWeight  = 72
	placeWeight  = 32
	memberWeight = 272
)

// weight returns what a value takes in bytes, and the length of its node's
// text.
func weight(v any) (bytes, text int) {
	switch v := v.(type) {
	case string:
		return valueWeight + len(v), 4 + len(v)
	case json.Number:
		return valueWeight + len(v), 4 + len(v)
	case []string:
		for _, e := range v {
			bytes, text = bytes+placeWeight+valueWeight+len(e), text+4+len(e)
		}
		return bytes + 2*valueWeight, text + 4
	case []any:
		for _, e := range v {
			b, t := weight(e)
			bytes, text = bytes+placeWeight+b, text+t
		}
		return bytes + 2*valueWeight, text + 4
	case map[string]any:
		for k, e := range v {
			b, t := weight(e)
			bytes, text = bytes+memberWeight+2*len(k)+b+t+t/4, text+4+len(k)+t // the kid keeps its text
		}
		return bytes + memberWeight, text + 4
	}
	return valueWeight, 24
}

// node is a value of a principal as cache keys see it. Different values have
// different texts, and no text is the beginning of another.
type node struct {
	text string
	kids map[string]*node // of an object
}

// at returns the node at path, nil where there is none.
func (n *node) at(path []string) *node {
	for _, k := range path {
		if n == nil {
			return nil
		}
		n = n.kids[k]
	}
	return n
}

func convert(v any) (*ast.Term, *node) {
	switch v := v.(type) {
	case nil:
		return ast.NullTerm(), &node{text: "n"}
	case bool:
		if v {
			return ast.InternedTerm(true), &node{text: "t"}
		}
		return ast.InternedTerm(false), &node{text: "f"}
	case string:
		return ast.StringTerm(v), &node{text: sized('s', len(v), v)}
	case json.Number:
		return convertNumber(string(v))
	case float64:
		return convertNumber(strconv.FormatFloat(v, 'g', -1, 64))
	case int:
		return convertNumber(strconv.Itoa(v))
	case int64:
		return convertNumber(strconv.FormatInt(v, 10))
	case []string:
		return convertArray(v)
	case []any:
		return convertArray(v)
	case map[string]any:
		return convertObject(v)
	}
	var plain any
	b, err := json.Marshal(v)
	if err != nil || json.Unmarshal(b, &plain) != nil {
		return ast.NullTerm(), &node{text: "n"}
	}
	return convert(plain)
}

func convertNumber(text string) (*ast.Term, *node) {
	if !saneNumber(text) {
		return convert(text)
	}
	n, err := ast.NumberChecked(text)
	if err != nil {
		return convert(text)
	}
	return ast.NewTerm(n), &node{text: sized('d', len(text), text)}
}

func convertArray[T any](vs []T) (*ast.Term, *node) {
	terms := make([]*ast.Term, len(vs))
	var text strings.Builder
	for i, v := range vs {
		t, n := convert(v)
		terms[i] = t
		text.WriteString(n.text)
	}
	return ast.ArrayTerm(terms...), &node{text: sized('a', len(vs), text.String())}
}

func convertObject(m map[string]any) (*ast.Term, *node) {
	pairs := make([][2]*ast.Term, 0, len(m))
	kids := make(map[string]*node, len(m))
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		t, n := convert(m[k])
		pairs = append(pairs, [2]*ast.Term{ast.StringTerm(k), t})
		kids[k] = n
		text.WriteString(sized('k', len(k), k))
		text.WriteString(n.text)
	}
	return ast.ObjectTerm(pairs...), &node{text: sized('o', len(m), text.String()), kids: kids}
}

// sized is tag, count and body: the count makes the end of the body known.
func sized(tag byte, count int, body string) string {
	b := binary.AppendUvarint([]byte{tag}, uint64(count))
	return string(append(b, body...))
}

// Bounds of a number's text. Arithmetic on a larger one costs time out of
// proportion to its length: 1e999999999 + 1.
const (
	maxNumberText     = 64
	maxNumberExponent = 3 // digits
)

// saneNumber reports whether a JSON number is within the bounds.
func saneNumber(text string) bool {
	if len(text) > maxNumberText {
		return false
	}
	i := strings.IndexAny(text, "eE")
	return i < 0 || len(strings.TrimLeft(text[i+1:], "+-")) <= maxNumberExponent
}

// Prefetch reads what Decide will read of p first, before it is needed. Atomic
// reads are never left out.
func (p *Principal) Prefetch() uint64 {
	if p == nil {
		return 0
	}
	sum := uint64(len(p.ID))
	for i := range p.keyed {
		if k := p.keyed[i].Load(); k != nil && k.text != "" {
			sum += uint64(k.text[0])
		}
	}
	return sum
}
