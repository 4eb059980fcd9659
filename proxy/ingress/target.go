package ingress

import "bytes"

// parseTarget reads the request target into Path and Query. authority is not
// nil for an absolute target.
func (r *Request) parseTarget(target []byte) (authority []byte, err error) {
	if len(target) == 0 {
		return nil, bad("empty request target")
	}
	if target[0] != '/' && !r.asterisk(target) {
		rest, ok := cutScheme(target)
		if !ok {
			return nil, badTarget(target, "malformed request target")
		}
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		authority, target = rest[:end:end], rest[end:]
	}
	return authority, r.parsePath(target)
}

func (r *Request) asterisk(target []byte) bool { return len(target) == 1 && target[0] == '*' }

// parsePath reads a target without scheme and authority.
func (r *Request) parsePath(target []byte) error {
	if r.asterisk(target) {
		if string(r.Method) != "OPTIONS" {
			return bad("* is a target for OPTIONS only")
		}
		r.Path, r.RawPath = target, target
		return nil
	}
	raw := target
	if q := bytes.IndexByte(target, '?'); q >= 0 {
		raw, r.Query, r.HasQuery = target[:q:q], target[q+1:], true
		if !isTarget(r.Query) {
			return badTarget(target, "")
		}
	}
	path, marks, ok := appendPath(r.path[:0], raw, false)
	if !ok {
		return badTarget(target, "path not allowed")
	}
	r.path, r.Path, r.RawPath, r.Separators = path, path, raw, marks&separates != 0
	return nil
}

// isTarget reports whether only visible ASCII and no fragment is in b.
func isTarget(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

func badTarget(target []byte, message string) error {
	if !isTarget(target) {
		message = "character not allowed in the request target"
	}
	return bad(message)
}

func cutScheme(target []byte) ([]byte, bool) {
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) > len(scheme) && EqualFold(target[:len(scheme)], scheme) {
			return target[len(scheme):], true
		}
	}
	return nil, false
}
