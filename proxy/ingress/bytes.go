package ingress

import "bytes"

// tokenBytes are the characters of a token (RFC 9110, 5.6.2).
var tokenBytes = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenBytes[c] {
			return false
		}
	}
	return len(b) > 0
}

// isFieldValue allows visible characters, space, tab and obs-text.
func isFieldValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trim removes optional white space (space and tab) at both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for n := len(b); n > 0 && (b[n-1] == ' ' || b[n-1] == '\t'); n = len(b) {
		b = b[:n-1]
	}
	return b
}

// EqualFold compares ASCII without regard to case and allocates nothing.
func EqualFold[A, B string | []byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// KindOf classifies a field name. The length is looked at first, so that most
// names cost one comparison or none.
//
// A name with "_" where a special one has "-" is Own, and so never passed on:
// CGI and its heirs read both as the same name.
func KindOf(name []byte) Kind {
	if bytes.IndexByte(name, '_') >= 0 {
		var folded [24]byte
		n := copy(folded[:], name)
		for i := range n {
			if folded[i] == '_' {
				folded[i] = '-'
			}
		}
		if n == len(name) && kindOf(folded[:n]) != Other || n >= len(ownPrefix) && EqualFold(folded[:len(ownPrefix)], ownPrefix) {
			return Own
		}
		return Other
	}
	return kindOf(name)
}

func kindOf(name []byte) Kind {
	switch len(name) {
	case 2:
		if EqualFold(name, "te") {
			return HopByHop
		}
	case 3:
		if EqualFold(name, "via") {
			return Via
		}
	case 4:
		if EqualFold(name, "host") {
			return Host
		}
	case 6:
		if EqualFold(name, "cookie") {
			return Cookie
		}
		if EqualFold(name, "expect") {
			return Expect
		}
	case 7:
		if EqualFold(name, "upgrade") || EqualFold(name, "trailer") {
			return HopByHop
		}
	case 9:
		if EqualFold(name, "forwarded") {
			return Forwarded
		}
		if EqualFold(name, "x-real-ip") {
			return XForwarded
		}
	case 10:
		if EqualFold(name, "connection") {
			return Connection
		}
		if EqualFold(name, "keep-alive") {
			return HopByHop
		}
	case 11:
		if EqualFold(name, "traceparent") {
			return TraceParent
		}
	case 12:
		if EqualFold(name, "x-request-id") {
			return RequestID
		}
	case 13:
		if EqualFold(name, "authorization") {
			return Authorization
		}
	case 14:
		if EqualFold(name, "content-length") {
			return ContentLength
		}
	case 15:
		if EqualFold(name, "x-forwarded-for") {
			return ForwardedFor
		}
	case 16:
		if EqualFold(name, "x-forwarded-host") || EqualFold(name, "x-forwarded-port") {
			return XForwarded
		}
		if EqualFold(name, "proxy-connection") {
			return HopByHop
		}
	case 17:
		if EqualFold(name, "transfer-encoding") {
			return TransferEncoding
		}
		if EqualFold(name, "x-forwarded-proto") {
			return XForwarded
		}
	case 18:
		if EqualFold(name, "proxy-authenticate") {
			return HopByHop
		}
	case 19:
		if EqualFold(name, "proxy-authorization") {
			return HopByHop
		}
	}
	if len(name) > len(ownPrefix) && EqualFold(name[:len(ownPrefix)], ownPrefix) {
		return Own
	}
	return Other
}

const ownPrefix = "x-gatehouse-"
