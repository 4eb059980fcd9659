package ingress

import (
	"bytes"
	"net/netip"
)

// parseTarget reads the request target into Path and Query. authority is not
// nil for an absolute target.
func (r *Request) parseTarget(target []byte) (authority []byte, err error) {
	for _, c := range target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return nil, bad("character not allowed in the request target")
		}
	}
	if len(target) == 0 {
		return nil, bad("empty request target")
	}
	if target[0] != '/' {
		if string(target) == "*" {
			if string(r.Method) != "OPTIONS" {
				return nil, bad("* is a target for OPTIONS only")
			}
			r.Path = target
			return nil, nil
		}
		rest, ok := cutScheme(target)
		if !ok {
			return nil, bad("malformed request target")
		}
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		authority, target = rest[:end:end], rest[end:]
	}
	if q := bytes.IndexByte(target, '?'); q >= 0 {
		r.Query, r.HasQuery, target = target[q+1:], true, target[:q]
	}
	path, ok := AppendPath(r.path[:0], target)
	if !ok {
		return nil, bad("path not allowed")
	}
	r.path, r.Path = path, path
	return authority, nil
}

func cutScheme(target []byte) ([]byte, bool) {
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) > len(scheme) && EqualFold(target[:len(scheme)], scheme) {
			return target[len(scheme):], true
		}
	}
	return nil, false
}

// AppendPath appends the canonical form of the path raw to dst. It is
// idempotent, always begins with "/", and never has an empty, "." or ".."
// segment. It refuses what backends are known to read in different ways: a
// malformed escape, an encoded or literal backslash, an encoded slash or
// control character, and a dot segment with parameters ("..;").
func AppendPath(dst, raw []byte) ([]byte, bool) {
	start := len(dst)
	dst = append(dst, '/')
	if len(raw) > 0 && raw[0] == '/' {
		raw = raw[1:]
	}
	segment := len(dst) // where the segment being copied begins
	for i := 0; ; i++ {
		if i == len(raw) || raw[i] == '/' {
			last := i == len(raw)
			switch s := dst[segment:]; {
			case len(s) == 0 && !last, len(s) == 1 && s[0] == '.':
				dst = dst[:segment]
			case len(s) == 2 && s[0] == '.' && s[1] == '.':
				dst = dst[:max(segment-1, start+1)]
				dst = dst[:start+bytes.LastIndexByte(dst[start:], '/')+1]
				segment = len(dst)
			case len(s) > 1 && s[0] == '.' && (s[1] == ';' || s[1] == '.' && len(s) > 2 && s[2] == ';'):
				return dst[:start], false
			case !last:
				dst = append(dst, '/')
				segment = len(dst)
			}
			if last {
				return dst, true
			}
			continue
		}
		c := raw[i]
		switch {
		case c == '%':
			if i+2 >= len(raw) {
				return dst[:start], false
			}
			hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
			if hi < 0 || lo < 0 {
				return dst[:start], false
			}
			switch d := byte(hi<<4 | lo); {
			case d < ' ' || d == 0x7f || d == '/' || d == '\\':
				return dst[:start], false
			case isUnreserved(d):
				dst = append(dst, d)
			default:
				dst = append(dst, '%', upperHex[hi], upperHex[lo])
			}
			i += 2
		case c == '\\' || c <= ' ' || c >= 0x7f:
			return dst[:start], false
		default:
			dst = append(dst, c)
		}
	}
}

const upperHex = "0123456789ABCDEF"

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// isUnreserved is RFC 3986, 2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// parseHost sets Host and Authority from a Host value or an authority.
func (r *Request) parseHost(value []byte) bool {
	if len(value) == 0 || len(value) > 260 {
		return false
	}
	name, port := value, []byte(nil)
	if value[0] == '[' {
		end := bytes.IndexByte(value, ']')
		if end < 0 {
			return false
		}
		name, port = value[:end+1], value[end+1:]
	} else if colon := bytes.IndexByte(value, ':'); colon >= 0 {
		name, port = value[:colon], value[colon:]
	}
	if len(port) > 0 && !isPort(port) {
		return false
	}
	start := len(r.host)
	if value[0] == '[' {
		addr, err := netip.ParseAddr(string(name[1 : len(name)-1]))
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		r.host = append(r.host, '[')
		r.host = addr.AppendTo(r.host)
		r.host = append(r.host, ']')
	} else {
		if n := len(name); n > 0 && name[n-1] == '.' {
			name = name[:n-1]
		}
		previous := byte('.')
		for _, c := range name {
			c = lower(c)
			if c == '.' && previous == '.' ||
				c != '.' && c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
				return false
			}
			r.host = append(r.host, c)
			previous = c
		}
		if previous == '.' {
			return false
		}
	}
	end := len(r.host)
	r.host = append(r.host, port...)
	r.Host, r.Authority = r.host[start:end:end], r.host[start:]
	return true
}

// isPort reads ":" and 1 to 65535.
func isPort(b []byte) bool {
	if len(b) < 2 || len(b) > 6 {
		return false
	}
	n := 0
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n >= 1 && n <= 65535
}
