package ingress

import (
	"bytes"

	"github.com/gatehouse-gateway/gatehouse"
)

// marks tell what was met in a path.
type marks uint8

const (
	separates marks = 1 << iota // an encoded slash, or a backslash in either form
	climbs                      // a dot segment
)

// appendPath appends the canonical form of the path raw to dst. It is
// idempotent, always begins with "/", and never has an empty, "." or ".."
// segment; ".." at the root stays there (RFC 3986, 5.2.4).
//
// Encoded slashes and backslashes stay escapes, a literal backslash becomes
// one; with split they are slashes instead.
//
// Escapes are decoded once: in "%252e" the "%" is data (RFC 3986, 2.4), and
// who decoded it again would have a path that the client has not named.
//
// Refused is what backends are known to read in different ways and no client
// needs: a malformed escape, an encoded control character, what only fits
// into a path encoded, and parameters behind a segment that is empty or dots
// ("/..;/", "/;/": servers that strip the parameters are left with it).
func appendPath(dst, raw []byte, split bool) (_ []byte, met marks, ok bool) {
	start := len(dst)
	dst = append(dst, '/')
	if len(raw) > 0 && raw[0] == '/' {
		raw = raw[1:]
	}
	segment := len(dst) // where the segment being copied begins
	for i := 0; ; i++ {
		plain := i
		for i < len(raw) && classes[raw[i]]&pathByte != 0 {
			i++
		}
		dst = append(dst, raw[plain:i]...)
		if i < len(raw) && raw[i] != '/' {
			var c byte
			if c, i, ok = unescape(raw, i); !ok {
				return dst[:start], met, false
			}
			separator := c == '/' || c == '\\'
			switch {
			case separator:
				met |= separates
			case isUnreserved(c):
				dst = append(dst, c)
				continue
			}
			if !separator || !split {
				dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
				continue
			}
		}
		last := i >= len(raw)
		switch s := dst[segment:]; {
		case len(s) == 0 && !last:
		case len(s) == 1 && s[0] == '.':
			met |= climbs
			dst = dst[:segment]
		case len(s) == 2 && s[0] == '.' && s[1] == '.':
			met |= climbs
			dst = dst[:max(segment-1, start+1)]
			dst = dst[:start+bytes.LastIndexByte(dst[start:], '/')+1]
			segment = len(dst)
		case hollow(s):
			return dst[:start], met, false
		case !last:
			dst = append(dst, '/')
			segment = len(dst)
		}
		if last {
			return dst, met, true
		}
	}
}

// unescape reads the escape, or the backslash, at raw[i]. next is the index of
// its last byte.
func unescape(raw []byte, i int) (c byte, next int, ok bool) {
	if raw[i] == '\\' {
		return '\\', i, true
	}
	if raw[i] != '%' || i+2 >= len(raw) {
		return 0, i, false
	}
	hi, lo := Unhex(raw[i+1]), Unhex(raw[i+2])
	if hi < 0 || lo < 0 {
		return 0, i, false
	}
	c = byte(hi<<4 | lo)
	return c, i + 2, c >= ' ' && c != 0x7f
}

// hollow reports whether the segment is empty or a dot segment but for its
// parameters.
func hollow(s []byte) bool {
	n := 0
	for n < 2 && n < len(s) && s[n] == '.' {
		n++
	}
	return n < len(s) && (s[n] == ';' || bytes.HasPrefix(s[n:], encodedSemicolon))
}

var encodedSemicolon = []byte("%3B")

// ApplyPathMode makes Path what the mode of the matched route wants of a path
// with Separators. It is to be called once a route was found, and before the
// path is used for anything else. An error is a *gatehouse.Error with
// CodeBadRequest.
//
// Reject, which any unknown mode is taken for, refuses such a path. Normalize
// reads the path as sent anew, with slashes for them; changed tells that Path
// is another now, and must be found to be of the same route.
//
// Raw keeps empty segments too, which may make another path of it than was
// matched: changed then. It refuses a path with a dot segment, be it between
// slashes or other separators, encoded or not. So a path below /p/ is below it
// for every backend; but one that is not may become so where a backend decodes
// "%2F". Escapes of unreserved characters are decoded in every mode: no rule
// about /admin is got around by "/%61dmin".
func (r *Request) ApplyPathMode(mode gatehouse.PathMode) (changed bool, err error) {
	switch mode {
	case gatehouse.PathNormalize:
		if !r.Separators {
			return false, nil
		}
		path, _, ok := appendPath(r.spare[:0], r.RawPath, true)
		if !ok {
			return false, bad("path not allowed")
		}
		changed = !bytes.Equal(path, r.Path)
		r.spare, r.path, r.Path, r.Separators = r.path, path, path, false
		return changed, nil
	case gatehouse.PathRaw:
		if len(r.RawPath) == 0 || r.RawPath[0] != '/' {
			return false, nil
		}
		path, met, ok := appendPath(r.spare[:0], r.RawPath, true)
		if !ok || met&climbs != 0 {
			return false, bad("path not allowed")
		}
		path = appendKept(path[:0], r.RawPath)
		changed = !bytes.Equal(path, r.Path)
		r.spare, r.path, r.Path = r.path, path, path
		return changed, nil
	default:
		if r.Separators {
			return false, bad("path not allowed: it has an encoded slash or a backslash")
		}
		return false, nil
	}
}

// appendKept appends raw, which appendPath has taken, with its segments as
// they are.
func appendKept(dst, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '%' && c != '\\' {
			dst = append(dst, c)
			continue
		}
		if c, i, _ = unescape(raw, i); isUnreserved(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return dst
}
