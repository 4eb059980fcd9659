// Package ingress turns a received request head into the one form that the
// rest of Gatehouse works with, or refuses it.
//
// It is the only parser of requests: a head that two parsers could read
// differently is refused and its connection closed. Host and path are made
// canonical once; the same bytes serve match, decide, limit, forward and the
// records. What came over HTTP/2 ends up in the same form as HTTP/1.1.
//
// Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1 framing), RFC 9113
// (HTTP/2), RFC 3986 (URI), RFC 7239 (Forwarded).
package ingress

import "github.com/gatehouse-gateway/gatehouse"

// Request is a request head that passed validation. Its slices point into the
// buffer it was parsed from or into the Request, and hold until either is
// reused.
type Request struct {
	Method []byte
	// Host is canonical: lower case, no port, no trailing dot; IPv6 in
	// brackets.
	Host []byte
	// Authority is Host with the port, where the client gave one.
	Authority []byte
	// Path is canonical: unreserved characters decoded, other escapes in
	// upper case, no empty or dot segments. "*" for OPTIONS *. ApplyPathMode
	// may replace it.
	Path []byte
	// RawPath is the path as it was sent; empty for an absolute target that
	// has none.
	RawPath []byte
	// Separators says that Path has an encoded slash, or a backslash encoded
	// or not: backends differ on whether these separate segments. Until
	// ApplyPathMode has judged it, such a path must not be forwarded.
	Separators bool
	// Query is what follows "?", as sent; HasQuery tells "" from none.
	Query    []byte
	HasQuery bool
	// Major and Minor are 1 and 0 or 1, or 2 and 1 for a request that came
	// over HTTP/2: it goes on as HTTP/1.1.
	Major, Minor int
	// Fields are in the order received.
	Fields []Field
	// BodyLength is the length of the body; -1: not known before its end.
	BodyLength int64
	// Expect100 says that the client waits for 100 before it sends the body.
	Expect100 bool
	// Close says that the connection takes no further request (RFC 9112,
	// 9.3): Connection says so, or the version is HTTP/1.0.
	Close bool
	// Upgrade says that Connection names Upgrade (RFC 9110, 7.8).
	Upgrade bool

	unseen     int    // fields at the end that Hide has put there
	host, path []byte // what Host and Path are built in
	spare      []byte // what ApplyPathMode builds in
	cookie     []byte // what the cookies of HTTP/2 are joined in
}

// Reset makes the request ready for another Parse; it keeps its memory.
func (r *Request) Reset() {
	clear(r.Fields)
	*r = Request{Fields: r.Fields[:0], host: r.host[:0], path: r.path[:0], spare: r.spare[:0], cookie: r.cookie[:0]}
}

// Forget drops what points into the buffer that r was parsed from, but for
// the method, which becomes method.
func (r *Request) Forget(method []byte) {
	clear(r.Fields)
	r.Method, r.Fields, r.RawPath, r.Query = method, r.Fields[:0], nil, nil
}

// Hide puts the fields that the backend will not get as they are behind all
// others, out of sight of Len, At and First: what is of this connection only, ours to
// set, and, unless the peer is believed, what it says of who came before. A
// rule that went by one of them would go by what the client can take back.
func (r *Request) Hide(untrusted bool) {
	kept := 0
	for i := range r.Fields {
		if r.hidden(&r.Fields[i], untrusted) {
			continue
		}
		if kept < i { // those passed over move one back, in their order
			f := r.Fields[i]
			copy(r.Fields[kept+1:i+1], r.Fields[kept:i])
			r.Fields[kept] = f
		}
		kept++
	}
	r.unseen = len(r.Fields) - kept
}

func (r *Request) hidden(f *Field, untrusted bool) bool {
	switch f.Kind {
	case Connection, HopByHop, Own:
		return true
	case Forwarded, XForwarded, ForwardedFor:
		return untrusted
	}
	return false
}

// Len and At give the fields to readers that know no ingress (policy.Fields),
// but for those hidden.
func (r *Request) Len() int { return len(r.Fields) - r.unseen }

// At returns the name and value of field i.
func (r *Request) At(i int) (name, value []byte) { return r.Fields[i].Name, r.Fields[i].Value }

// First returns the value of the first field with the name, which is
// compared without regard to case, but for those hidden.
func (r *Request) First(name string) ([]byte, bool) {
	for i := range r.Len() {
		if EqualFold(r.Fields[i].Name, name) {
			return r.Fields[i].Value, true
		}
	}
	return nil, false
}

// Sole is First, and also tells how many fields there are of the name.
func (r *Request) Sole(name string) (value []byte, count int) {
	for i := range r.Fields {
		if EqualFold(r.Fields[i].Name, name) {
			if count == 0 {
				value = r.Fields[i].Value
			}
			count++
		}
	}
	return value, count
}

func refuse(code gatehouse.Code, message string) error {
	return &gatehouse.Error{Code: code, Message: message}
}

func bad(message string) error { return refuse(gatehouse.CodeBadRequest, message) }

// Parse validates a request head: the three parts of its request line and the
// raw header section, each line with its CRLF and the empty line at the end.
// Errors are *gatehouse.Error with a code of the admit phase; the connection
// must be closed after any.
func (r *Request) Parse(method, target, protocol, raw []byte) error {
	if err := r.version(protocol); err != nil {
		return err
	}
	if err := r.method(method); err != nil {
		return err
	}
	var err error
	if r.Fields, err = appendFields(r.Fields, raw); err != nil {
		return err
	}
	authority, err := r.parseTarget(target)
	if err != nil {
		return err
	}
	return r.frame(authority, 0)
}

// method takes any token (RFC 9110, 9.1), which is case-sensitive, but not the
// two that are no business of a gateway's.
func (r *Request) method(method []byte) error {
	if !isToken(method) {
		return bad("malformed method")
	}
	r.Method = method
	if string(method) == "CONNECT" || string(method) == "TRACE" {
		return refuse(gatehouse.CodeMethodNotAllowed, "CONNECT and TRACE are not served")
	}
	return nil
}
