package ingress

import (
	"bytes"
	"errors"
	"net/netip"
)

// ErrHops says that a list of hops cannot be read at its end. What was read
// before stands: it was added later, by a nearer proxy.
var ErrHops = errors.New("malformed list of forwarders")

// LastForwardedFor takes the last address off a value of X-Forwarded-For; rest
// is what stands before it, empty at the end. An address may carry a port,
// which is dropped, and is unmapped from IPv6. It allocates nothing.
func LastForwardedFor(list []byte) (hop netip.Addr, rest []byte, err error) {
	item := list
	if at := bytes.LastIndexByte(list, ','); at >= 0 {
		item, rest = list[at+1:], list[:at]
	}
	item = trim(item)
	hop, ok := parseAddr(item)
	if !ok {
		hop, ok = parseNode(item)
	}
	if !ok || !hop.IsValid() {
		return netip.Addr{}, nil, ErrHops
	}
	return hop.Unmap(), rest, nil
}

// LastForwarded takes the last element off a value of Forwarded (RFC 7239, 4)
// and returns the address that its "for" names; rest is what stands before
// it, empty at the end. The address is not valid where the element has none,
// or an obfuscated one. Ports are dropped. It allocates nothing.
//
// The list is read from its right end, so that nothing that a client sent in
// front, an open quotation say, changes what a proxy appended.
func LastForwarded(list []byte) (hop netip.Addr, rest []byte, err error) {
	at := len(list) - 1
	for ; at >= 0 && list[at] != ','; at-- {
		if list[at] == '"' {
			if at = openingQuote(list, at); at < 0 {
				return netip.Addr{}, nil, ErrHops
			}
		}
	}
	hop, ok := parseElement(trim(list[at+1:]))
	if !ok {
		return netip.Addr{}, nil, ErrHops
	}
	return hop.Unmap(), list[:max(at, 0)], nil
}

// openingQuote returns the index of the quote that the one at end closes, -1
// where there is none. Within the string each quote has an odd number of
// backslashes in front.
func openingQuote(list []byte, end int) int {
	for at := end - 1; at >= 0; at-- {
		if list[at] != '"' {
			continue
		}
		slashes := 0
		for slashes < at && list[at-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return at
		}
	}
	return -1
}

// parseElement reads forwarded-element: pairs of a token and a value, each
// name at most once, of which only "for" is of interest.
func parseElement(b []byte) (hop netip.Addr, ok bool) {
	for named := false; ; {
		end := 0
		for end < len(b) && classes[b[end]]&tokenByte != 0 {
			end++
		}
		if end == 0 || end == len(b) || b[end] != '=' {
			return hop, false
		}
		name := b[:end]
		value, rest, ok := cutValue(b[end+1:])
		if !ok {
			return hop, false
		}
		if EqualFold(name, "for") {
			if named {
				return hop, false
			}
			named = true
			// A node has nothing that would have to be escaped.
			if hop, ok = parseNode(value); !ok {
				return hop, false
			}
		}
		if len(rest) == 0 {
			return hop, true
		}
		if rest[0] != ';' {
			return hop, false
		}
		b = rest[1:]
	}
}

// cutValue reads a token or a quoted-string (RFC 9110, 5.6.4), whose escapes
// it leaves as they are. A token has no brackets and no colon, so that an
// address with either must be quoted.
func cutValue(b []byte) (value, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		end := 0
		for end < len(b) && classes[b[end]]&tokenByte != 0 {
			end++
		}
		return b[:end], b[end:], end > 0
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return b[1:i], b[i+1:], true
		case '\\':
			i++
		}
	}
	return nil, nil, false
}

// parseNode reads node (RFC 7239, 6): an address with or without a port, IPv6
// in brackets; or "unknown" or a name with "_" in front, which give no address.
func parseNode(b []byte) (hop netip.Addr, ok bool) {
	var port []byte
	switch {
	case len(b) == 0:
		return hop, false
	case b[0] == '[':
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return hop, false
		}
		if hop, ok = parseAddr(b[1:end]); !ok || !hop.Is6() {
			return netip.Addr{}, false
		}
		port = b[end+1:]
	default:
		name := b
		if colon := bytes.IndexByte(b, ':'); colon >= 0 {
			name, port = b[:colon], b[colon:]
		}
		if !isObfuscated(name) && !EqualFold(name, "unknown") {
			if hop, ok = parseAddr(name); !ok {
				return netip.Addr{}, false
			}
		}
	}
	if len(port) > 0 && !isPort(port) && (port[0] != ':' || !isObfuscated(port[1:])) {
		return netip.Addr{}, false
	}
	return hop, true
}

// isObfuscated reads obfnode and obfport.
func isObfuscated(b []byte) bool {
	if len(b) < 2 || b[0] != '_' {
		return false
	}
	for _, c := range b {
		if !isUnreserved(c) || c == '~' {
			return false
		}
	}
	return true
}
