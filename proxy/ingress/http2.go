package ingress

import "github.com/gatehouse-gateway/gatehouse"

// ParseHTTP2 validates a request head that came over HTTP/2 and reads it into
// r, which is new or Reset, in the form of HTTP/1.1, as which it goes on
// (RFC 9113, 8.2 and 8.3). The pseudo-header fields are given apart, empty
// where there were none; fields have their names as received, and their Kind
// does not matter. ended says that the stream has no body.
//
// Where Host is missing it is put first, of :authority; several Cookie fields
// become one (8.2.3). Errors are as for Parse, and concern the stream alone.
func (r *Request) ParseHTTP2(method, scheme, authority, path []byte, fields []Field, ended bool) error {
	r.Major, r.Minor = 2, 1
	if err := r.method(method); err != nil {
		return err
	}
	if string(scheme) != "http" && string(scheme) != "https" {
		return bad("the scheme is neither http nor https")
	}
	if err := r.appendHTTP2(authority, fields); err != nil {
		return err
	}
	if len(path) == 0 || path[0] != '/' && !r.asterisk(path) {
		return bad("malformed :path")
	}
	if err := r.parsePath(path); err != nil {
		return err
	}
	if len(authority) == 0 {
		authority = nil // Host may stand in for it
	}
	length := int64(-1)
	if ended {
		length = 0
	}
	if err := r.frame(authority, length); err != nil {
		return err
	}
	if ended && r.BodyLength > 0 {
		return bad("Content-Length promises a body, and there is none")
	}
	return nil
}

func (r *Request) appendHTTP2(authority []byte, fields []Field) error {
	hosts := 0
	for i := range fields {
		if string(fields[i].Name) == "host" {
			hosts++
		}
	}
	if len(fields)+1-min(hosts, 1) > MaxFields {
		return refuse(gatehouse.CodeHeaderTooLarge, "too many header lines")
	}
	if hosts == 0 {
		r.Fields = append(r.Fields, Field{Host, nameHost, authority})
	}
	first, joined := -1, false // the field that all cookies go into
	for _, f := range fields {
		if !isLowerToken(f.Name) {
			return bad("malformed header name")
		}
		if len(trim(f.Value)) < len(f.Value) || !isFieldValue(f.Value) {
			return bad("control character, or white space around, a header value")
		}
		f.Kind = KindOf(f.Name)
		switch {
		case f.Kind == TransferEncoding, f.Kind == Connection, f.Kind == HopByHop && !ofStream(f):
			return bad("a field that concerns a connection of HTTP/1.1")
		case f.Kind == Cookie && first < 0:
			first = len(r.Fields)
		case f.Kind == Cookie:
			if !joined {
				r.cookie = append(r.cookie[:0], r.Fields[first].Value...)
				joined = true
			}
			r.cookie = append(append(r.cookie, "; "...), f.Value...)
			continue
		}
		r.Fields = append(r.Fields, f)
	}
	if joined {
		// A crumb may be empty; the end of the value must be no white space.
		r.Fields[first].Value = trim(r.cookie)
	}
	return nil
}

var nameHost = []byte("host")

// ofStream reports whether a field that stays behind may come over HTTP/2
// (RFC 9113, 8.2.2).
func ofStream(f Field) bool {
	switch string(f.Name) {
	case "te":
		return EqualFold(f.Value, "trailers")
	case "keep-alive", "proxy-connection", "upgrade":
		return false
	}
	return true
}

func isLowerToken(b []byte) bool {
	for _, c := range b {
		if classes[c]&(tokenByte|upperByte) != tokenByte {
			return false
		}
	}
	return len(b) > 0
}
