// Package ingress turns a received request head into the one form that the
// rest of Gatehouse works with, or refuses it.
//
// It reads the raw bytes of the header section, not what an HTTP library made
// of them: a request that two parsers could read differently is refused and
// its connection closed. Host and path are made canonical once; the same bytes
// serve match, decide, limit, forward and the records.
//
// Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1 framing), RFC 3986 (URI).
package ingress

import (
	"bytes"

	"github.com/gatehouse-gateway/gatehouse"
)

// Kind tells the fields that a gateway treats in some way of its own.
type Kind uint8

// The kinds of fields; Other is passed on untouched.
const (
	Other Kind = iota
	Host
	ContentLength
	TransferEncoding
	Connection
	HopByHop // Keep-Alive, Proxy-*, TE, Trailer, Upgrade, and what Connection names
	Expect
	Authorization
	Cookie
	Forwarded
	XForwarded // X-Forwarded-For, -Host, -Proto, -Port and X-Real-IP
	ForwardedFor
	Via
	RequestID
	TraceParent
	Own // X-Gatehouse-*: ours, never the client's
)

// Field is one header line. Name is as the client wrote it, Value is without
// surrounding white space.
type Field struct {
	Kind  Kind
	Name  []byte
	Value []byte
}

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
	// upper case, no empty or dot segments. "*" for OPTIONS *.
	Path []byte
	// Query is what follows "?", as sent; HasQuery tells "" from none.
	Query    []byte
	HasQuery bool
	// Minor is 0 or 1, of HTTP/1.x.
	Minor int
	// Fields are in the order received.
	Fields []Field
	// BodyLength is the length of the body; -1: chunked.
	BodyLength int64
	// Expect100 says that the client waits for 100 before it sends the body.
	Expect100 bool

	host, path []byte // what Host and Path are built in
}

// MaxFields bounds the header lines of a request.
const MaxFields = 200

// Reset makes the request ready for another Parse; it keeps its memory.
func (r *Request) Reset() {
	clear(r.Fields)
	*r = Request{Fields: r.Fields[:0], host: r.host[:0], path: r.path[:0]}
}

// Len and At give the fields to readers that know no ingress (policy.Fields).
func (r *Request) Len() int { return len(r.Fields) }

// At returns the name and value of field i.
func (r *Request) At(i int) (name, value []byte) { return r.Fields[i].Name, r.Fields[i].Value }

// First returns the value of the first field with the name, which is
// compared without regard to case.
func (r *Request) First(name string) ([]byte, bool) {
	for i := range r.Fields {
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
	switch {
	case string(protocol) == "HTTP/1.1":
		r.Minor = 1
	case string(protocol) == "HTTP/1.0":
		r.Minor = 0
	default:
		return refuse(gatehouse.CodeVersion, "only HTTP/1.1 and HTTP/1.0 are spoken here")
	}
	if !isToken(method) {
		return bad("malformed method")
	}
	r.Method = method
	if string(method) == "CONNECT" || string(method) == "TRACE" {
		return refuse(gatehouse.CodeMethodNotAllowed, "CONNECT and TRACE are not served")
	}
	if err := r.parseFields(raw); err != nil {
		return err
	}
	authority, err := r.parseTarget(target)
	if err != nil {
		return err
	}
	return r.frame(authority)
}

func (r *Request) parseFields(raw []byte) error {
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return bad("a header line does not end in CR LF")
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 {
			if len(raw) > 0 {
				return bad("bytes after the header section")
			}
			return nil
		}
		if line[0] == ' ' || line[0] == '\t' {
			return bad("folded header line")
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || !isToken(line[:colon]) {
			return bad("malformed header name")
		}
		value := trim(line[colon+1:])
		if !isFieldValue(value) {
			return bad("control character in a header value")
		}
		if len(r.Fields) == MaxFields {
			return refuse(gatehouse.CodeHeaderTooLarge, "too many header lines")
		}
		name := line[:colon]
		r.Fields = append(r.Fields, Field{KindOf(name), name, value})
	}
	return nil
}

// frame checks what the fields say together: host, body length, connection.
func (r *Request) frame(authority []byte) error {
	var host []byte
	hosts, lengths, codings := 0, 0, 0
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.Kind {
		case Host:
			host = f.Value
			hosts++
		case ContentLength:
			n, ok := parseLength(f.Value)
			if !ok {
				return bad("malformed Content-Length")
			}
			r.BodyLength = n
			lengths++
		case TransferEncoding:
			if !EqualFold(f.Value, "chunked") {
				return refuse(gatehouse.CodeNotImplemented, "only Transfer-Encoding: chunked is understood")
			}
			codings++
		case Expect:
			if !EqualFold(f.Value, "100-continue") {
				return refuse(gatehouse.CodeExpectation, "only Expect: 100-continue is understood")
			}
			r.Expect100 = r.Minor == 1
		case Connection:
			if err := r.connection(f.Value); err != nil {
				return err
			}
		}
	}
	switch {
	case lengths > 1:
		return bad("more than one Content-Length")
	case codings > 1:
		return bad("more than one Transfer-Encoding")
	case codings == 1 && lengths == 1:
		return bad("both Content-Length and Transfer-Encoding")
	case codings == 1 && r.Minor == 0:
		return bad("Transfer-Encoding in HTTP/1.0")
	case codings == 1:
		r.BodyLength = -1
	}
	r.Expect100 = r.Expect100 && r.BodyLength != 0
	if hosts != 1 {
		return bad("exactly one Host is expected")
	}
	if !r.parseHost(host) {
		return bad("malformed Host")
	}
	if authority != nil {
		named := string(r.Authority)
		r.host = r.host[:0]
		if !r.parseHost(authority) || string(r.Authority) != named {
			return bad("Host differs from the request target")
		}
	}
	return nil
}

// connection marks the fields that a Connection value names as hop-by-hop
// (RFC 9110, 7.6.1), and refuses names that a client has no business removing.
func (r *Request) connection(list []byte) error {
	for len(list) > 0 {
		var name []byte
		if comma := bytes.IndexByte(list, ','); comma >= 0 {
			name, list = trim(list[:comma]), list[comma+1:]
		} else {
			name, list = trim(list), nil
		}
		if len(name) == 0 || EqualFold(name, "close") || EqualFold(name, "keep-alive") {
			continue
		}
		if !isToken(name) {
			return bad("malformed Connection")
		}
		switch KindOf(name) {
		case Other, HopByHop:
		default:
			return bad("Connection names a field that is not hop-by-hop")
		}
		for i := range r.Fields {
			if bytes.EqualFold(r.Fields[i].Name, name) {
				r.Fields[i].Kind = HopByHop
			}
		}
	}
	return nil
}

// parseLength reads 1*DIGIT within int64.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
