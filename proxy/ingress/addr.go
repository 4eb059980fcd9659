package ingress

import "net/netip"

// parseAddr reads an IP address as netip.ParseAddr does, but allocates nothing
// and knows no zones, which mean nothing to another machine.
func parseAddr(b []byte) (netip.Addr, bool) {
	for _, c := range b {
		switch c {
		case '.':
			a, ok := parse4(b)
			return netip.AddrFrom4(a), ok
		case ':':
			a, ok := parse6(b)
			return netip.AddrFrom16(a), ok
		}
	}
	return netip.Addr{}, false
}

// parse4 reads four decimal numbers without leading zeros.
func parse4(b []byte) (a [4]byte, ok bool) {
	field, digits, n := 0, 0, 0
	for _, c := range b {
		switch {
		case c == '.':
			if digits == 0 || field == 3 {
				return a, false
			}
			a[field] = byte(n)
			field, digits, n = field+1, 0, 0
		case !isDigit(c) || digits > 0 && n == 0:
			return a, false
		default:
			if n = n*10 + int(c-'0'); n > 255 {
				return a, false
			}
			digits++
		}
	}
	if field != 3 || digits == 0 {
		return a, false
	}
	a[3] = byte(n)
	return a, true
}

// parse6 reads RFC 4291, 2.2: groups, at most one "::", and perhaps an IPv4
// address at the end.
func parse6(b []byte) (a [16]byte, ok bool) {
	gap, i := -1, 0 // where "::" stands, and how many bytes are read
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, b = 0, b[2:]
		if len(b) == 0 {
			return a, true
		}
	}
	for i < 16 {
		digits, n := 0, 0
		for digits < len(b) && digits < 5 && Unhex(b[digits]) >= 0 {
			n = n<<4 | Unhex(b[digits])
			digits++
		}
		if digits == 0 || digits > 4 {
			return a, false
		}
		if digits < len(b) && b[digits] == '.' {
			v4, ok := parse4(b)
			if !ok || i > 12 || gap < 0 && i != 12 {
				return a, false
			}
			i += copy(a[i:], v4[:])
			b = nil
			break
		}
		a[i], a[i+1] = byte(n>>8), byte(n)
		i += 2
		if b = b[digits:]; len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return a, false
		}
		if b = b[1:]; b[0] == ':' {
			if gap >= 0 {
				return a, false
			}
			gap = i
			if b = b[1:]; len(b) == 0 {
				break
			}
		}
	}
	switch {
	case len(b) > 0, gap < 0 && i < 16, gap >= 0 && i == 16:
		return a, false
	case gap >= 0:
		n := copy(a[16-(i-gap):], a[gap:i])
		clear(a[gap : 16-n])
	}
	return a, true
}
