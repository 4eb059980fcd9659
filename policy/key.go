package policy

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// partKind says which part of the input a key holds.
type partKind uint8

const (
	partMethod partKind = iota
	partRoute
	partTenant
	partPlan
	partAuth
	partHost
	partProtocol
	partTLS
	partIP
	partBodySize
	partTime        // index: the bucket in seconds
	partCert        // path: below it
	partOfPrincipal // index: which field; path: below it
	partPrincipal
	partFeature // name
	partFeatures
	partSegment // index
	partPath    // path or segments
	partParameter
	partQuery
	partHeader // name
)

// part is one part of a key.
type part struct {
	kind  partKind
	index int
	name  string
	path  []string
}

// appendKey appends the parts of in that reads names, each so that its end is known: different
// values give different bytes, and a missing one is no value's bytes.
func appendKey(dst []byte, reads *readSet, in *Input) []byte {
	if len(reads.principal) > 0 {
		dst = in.principal().appendKey(dst, reads)
	}
	for i := range reads.request {
		p := &reads.request[i]
		switch p.kind {
		case partMethod:
			dst = appendSized(dst, in.Method)
		case partRoute:
			dst = appendSized(dst, in.Route)
		case partTenant:
			dst = appendSized(dst, in.Tenant)
		case partPlan:
			dst = appendSized(dst, in.Plan)
		case partAuth:
			dst = appendSized(dst, in.Auth)
		case partHost:
			dst = appendSized(dst, in.Host)
		case partProtocol:
			dst = appendSized(dst, in.Protocol)
		case partTLS:
			dst = appendBool(dst, in.TLS)
		case partIP:
			// 4-in-6 addresses and zones read differently from plain ones.
			a := in.Client.As16()
			dst = append(dst, byte(in.Client.BitLen()))
			dst = appendSized(append(dst, a[:]...), in.Client.Zone())
		case partBodySize:
			dst = binary.LittleEndian.AppendUint64(dst, uint64(in.BodySize))
		case partTime:
			dst = binary.LittleEndian.AppendUint64(dst, uint64(floor(in.Time, p.index)))
		case partCert:
			dst = in.Cert.appendKey(dst, p.path)
		case partFeature:
			dst = appendBool(dst, slices.Contains(in.Features, p.name))
		case partFeatures:
			dst = binary.AppendUvarint(dst, uint64(len(in.Features)))
			for _, f := range in.Features {
				dst = appendSized(dst, f)
			}
		case partSegment:
			dst = appendSegment(dst, in.Path, p.index)
		case partPath:
			dst = appendSized(dst, in.Path)
		case partParameter:
			dst = appendParameter(dst, in.Query, p.name)
		case partQuery:
			dst = appendSized(dst, in.Query)
		case partHeader:
			dst = appendHeader(dst, in.Headers, p.name)
		}
	}
	return dst
}

// missing stands for no value; appendSized never begins with it.
const missing = 0

func appendSized[S string | []byte](dst []byte, s S) []byte {
	if n := len(s) + 1; n < 0x80 {
		dst = append(dst, byte(n))
	} else {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return append(dst, s...)
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendNode(dst []byte, n *node) []byte {
	if n == nil {
		return append(dst, missing)
	}
	return append(dst, n.text...)
}

func appendSegment(dst, path []byte, index int) []byte {
	rest := bytes.TrimPrefix(path, []byte("/"))
	for more := len(rest) > 0; more; index-- {
		var segment []byte
		segment, rest, more = bytes.Cut(rest, []byte("/"))
		if index == 0 {
			return appendSized(dst, segment)
		}
	}
	return append(dst, missing)
}

// appendParameter appends the values of a query parameter as sent.
func appendParameter(dst, query []byte, name string) []byte {
	for more := true; more; {
		var pair []byte
		pair, query, more = bytes.Cut(query, []byte("&"))
		if len(pair) == 0 {
			continue
		}
		rawName, value, _ := bytes.Cut(pair, []byte("="))
		if isUnescaped(rawName, name) {
			dst = appendSized(dst, value)
		}
	}
	return append(dst, missing)
}

// isUnescaped reports whether unescape(raw) is name, and allocates only where
// raw has escapes.
func isUnescaped(raw []byte, name string) bool {
	if len(raw) < len(name) {
		return false
	}
	if bytes.IndexByte(raw, '%') < 0 && bytes.IndexByte(raw, '+') < 0 {
		return string(raw) == name
	}
	return unescape(raw) == name
}

// appendHeader appends the values of a header field in order; the name is in
// lower case.
func appendHeader(dst []byte, headers Fields, name string) []byte {
	if headers != nil {
		for i := range headers.Len() {
			if n, value := headers.At(i); isLowered(n, name) {
				dst = appendSized(dst, value)
			}
		}
	}
	return append(dst, missing)
}

// isLowered reports whether b in ASCII lower case is name.
func isLowered(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}
