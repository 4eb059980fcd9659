package ingress

import (
	"bytes"

	"github.com/gatehouse-gateway/gatehouse"
)

// frame checks what the fields say together: host, body length, connection.
// authority is what the target or HTTP/2 named, nil for nothing; length is
// that of the body where no field tells.
func (r *Request) frame(authority []byte, length int64) error {
	var host []byte
	var strange error // about a coding; what is malformed counts before what is not understood
	hosts, lengths, codings := 0, 0, 0
	r.BodyLength, r.Close = length, r.Minor == 0
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
			if !EqualFold(f.Value, "chunked") && strange == nil {
				strange = refuseCoding(f.Value)
			}
			codings++
		case Expect:
			if !EqualFold(f.Value, "100-continue") {
				return refuse(gatehouse.CodeExpectation, "only Expect: 100-continue is understood")
			}
			r.Expect100 = r.Minor == 1 // RFC 9110, 10.1.1: HTTP/1.0 cannot mean it
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
	case strange != nil:
		return strange
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
		named := r.Authority
		if !r.parseHost(authority) || !bytes.Equal(r.Authority, named) {
			return bad("Host differs from the request target")
		}
	}
	return nil
}

// refuseCoding tells codings that are not served from those that cannot be
// meant: nothing, no list of tokens, or chunked anywhere but last (RFC 9112,
// 6.1 and 6.3), behind which nobody could find the end of the body.
func refuseCoding(value []byte) error {
	for last := false; !last; {
		coding, rest, more := bytes.Cut(value, comma)
		value, last = rest, !more
		coding, _, parameters := bytes.Cut(coding, semicolon)
		if !isToken(trim(coding)) {
			return bad("malformed Transfer-Encoding")
		}
		if EqualFold(trim(coding), "chunked") && (!last || parameters) {
			return bad("chunked must be the last transfer coding, and plain")
		}
	}
	return refuse(gatehouse.CodeNotImplemented, "only Transfer-Encoding: chunked is understood")
}

var comma, semicolon = []byte{','}, []byte{';'}

// maxOptions bounds the names in a Connection field, each of which is looked
// for among all fields.
const maxOptions = 32

// connection marks the fields that a Connection value names as hop-by-hop
// (RFC 9110, 7.6.1), and refuses names that a client has no business removing.
func (r *Request) connection(list []byte) error {
	for n := 0; len(list) > 0; n++ {
		if n == maxOptions {
			return bad("Connection names too many options")
		}
		var name []byte
		name, list, _ = bytes.Cut(list, comma)
		name = trim(name)
		switch {
		case len(name) == 0, EqualFold(name, "keep-alive"):
			continue
		case EqualFold(name, "close"):
			r.Close = true
			continue
		case !isToken(name):
			return bad("malformed Connection")
		}
		switch KindOf(name) {
		case Other, HopByHop:
		default:
			return bad("Connection names a field that is not hop-by-hop")
		}
		if r.Minor == 1 && EqualFold(name, "upgrade") {
			r.Upgrade = true
		}
		for i := range r.Fields {
			if EqualFold(r.Fields[i].Name, name) {
				r.Fields[i].Kind = HopByHop
			}
		}
	}
	return nil
}

// parseLength reads a decimal number within int64, without the leading zeros
// that some take for octal.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
