package ingress

import (
	"bytes"

	"github.com/gatehouse-gateway/gatehouse"
)

// Field is one header line. Name is as the client wrote it, Value is without
// surrounding white space.
type Field struct {
	Kind  Kind
	Name  []byte
	Value []byte
}

// MaxFields bounds the header lines of a request, and the trailer's.
const MaxFields = 200

// appendFields reads header lines, each with its CRLF, through the empty line
// that ends them, onto dst.
func appendFields(dst []Field, raw []byte) ([]Field, error) {
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return dst, bad("a header line does not end in CR LF")
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 {
			if len(raw) > 0 {
				return dst, bad("bytes after the header section")
			}
			return dst, nil
		}
		colon, met := 0, uint8(0)
		for ; colon < len(line); colon++ {
			class := classes[line[colon]]
			if class&tokenByte == 0 {
				break
			}
			met |= class
		}
		if colon == 0 || colon == len(line) || line[colon] != ':' {
			if line[0] == ' ' || line[0] == '\t' {
				return dst, bad("folded header line")
			}
			return dst, bad("malformed header name")
		}
		name, value := line[:colon], trim(line[colon+1:])
		if !isFieldValue(value) {
			return dst, bad("control character in a header value")
		}
		if len(dst) == MaxFields {
			return dst, refuse(gatehouse.CodeHeaderTooLarge, "too many header lines")
		}
		kind := Other
		if met&underscoreByte == 0 {
			kind = kindOf(name)
		} else {
			kind = kindOfFolded(name)
		}
		dst = append(dst, Field{kind, name, value})
	}
	return dst, bad("header lines without an empty line at the end")
}

// ParseFieldLines appends the fields of a trailer section to dst: its lines,
// each with its CRLF, through the empty line that ends it. They are held to
// what header lines are held to, and only those that MayTrail are kept.
// Errors are as for Parse; the fields point into raw.
func ParseFieldLines(dst []Field, raw []byte) ([]Field, error) {
	start := len(dst)
	all, err := appendFields(dst, raw)
	if err != nil {
		return dst, err
	}
	kept := all[:start]
	for _, f := range all[start:] {
		if MayTrail(f.Name) {
			kept = append(kept, f)
		}
	}
	clear(all[len(kept):])
	return kept, nil
}

// MayTrail reports whether a field may follow a body. RFC 9110, 6.5.1 forbids
// those that had to be known before it, since a recipient that merges the
// trailer into the header would have them changed behind the back of whoever
// decided on the request: fields of framing, routing, request modification,
// authentication, answer control and content, and all that a gateway sets
// itself (every Kind but Other).
func MayTrail(name []byte) bool {
	if KindOf(name) != Other {
		return false
	}
	var room [longestName]byte
	folded := unfold(&room, name[:min(len(name), len(room))]) // what is longer has no name below
	for _, prefix := range []string{"content-", "if-", "sec-", "proxy-", "x-forwarded-", "access-control-"} {
		if len(folded) >= len(prefix) && EqualFold(folded[:len(prefix)], prefix) {
			return false
		}
	}
	for _, taken := range leading {
		if EqualFold(folded, taken) {
			return false
		}
	}
	return true
}

// leading are names of no Kind that must come before the body.
var leading = [...]string{
	"accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "age", "allow", "alt-svc",
	"authentication-info", "cache-control", "cdn-loop", "clear-site-data", "cookie2", "date", "early-data", "expires",
	"http-version", "idempotency-key", "location", "max-forwards", "method", "origin", "pragma", "range", "referer",
	"retry-after", "server", "set-cookie", "strict-transport-security", "traceparent", "tracestate", "user-agent", "vary",
	"warning", "www-authenticate", "x-api-key", "x-http-method", "x-http-method-override", "x-method-override",
	"x-original-url", "x-rewrite-url",
}
