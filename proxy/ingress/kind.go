package ingress

import "bytes"

// Kind tells the fields that a gateway treats in some way of its own.
type Kind uint8

// The kinds of fields; Other is passed on untouched.
const (
	Other Kind = iota
	Host
	ContentLength
	TransferEncoding
	Connection
	HopByHop // Keep-Alive, Proxy and Proxy-* but Proxy-Status, TE, Trailer, Upgrade, HTTP2-Settings, and what Connection names
	Expect
	Authorization
	Cookie
	Forwarded
	XForwarded // X-Forwarded-* but -For, X-Real-IP, and what rewriters leave: X-Original-URL, X-Rewrite-URL
	ForwardedFor
	Via
	RequestID
	TraceParent
	Own // X-Gatehouse-*: ours, never the client's
)

// KindOf classifies a field name. The length is looked at first, so that most
// names cost one comparison or none.
//
// A name with "_" where a special one has "-" is Own, and so never passed on:
// CGI and its heirs read both as the same name.
func KindOf(name []byte) Kind {
	if bytes.IndexByte(name, '_') >= 0 {
		return kindOfFolded(name)
	}
	return kindOf(name)
}

// longestName is the longest name that the tables here know.
const longestName = 32

func kindOfFolded(name []byte) Kind {
	var folded [longestName]byte
	if b := unfold(&folded, name); b != nil && kindOf(b) != Other {
		return Own
	}
	if len(name) >= len(ownPrefix) {
		if b := unfold(&folded, name[:len(ownPrefix)]); EqualFold(b, ownPrefix) {
			return Own
		}
	}
	return Other
}

// unfold writes name into dst with "-" for "_"; nil: too long to be known.
func unfold(dst *[longestName]byte, name []byte) []byte {
	if len(name) > len(dst) {
		return nil
	}
	n := copy(dst[:], name)
	for i := range n {
		if dst[i] == '_' {
			dst[i] = '-'
		}
	}
	return dst[:n]
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
		if EqualFold(name, "http2-settings") {
			return HopByHop
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
	return kindByPrefix(name)
}

// kindByPrefix classifies names that are of a kind as a family. Backends act
// on all of them, on some that nobody thought of (CVE-2016-5385).
func kindByPrefix(name []byte) Kind {
	const proxy, forwarded = "proxy-", "x-forwarded-"
	switch lower(name[0]) {
	case 'p':
		if len(name) == len(proxy)-1 && EqualFold(name, proxy[:len(proxy)-1]) ||
			len(name) > len(proxy) && EqualFold(name[:len(proxy)], proxy) && !EqualFold(name, "proxy-status") {
			return HopByHop
		}
	case 'x':
		switch {
		case len(name) > len(ownPrefix) && EqualFold(name[:len(ownPrefix)], ownPrefix):
			return Own
		case len(name) > len(forwarded) && EqualFold(name[:len(forwarded)], forwarded),
			EqualFold(name, "x-original-url"), EqualFold(name, "x-rewrite-url"):
			return XForwarded
		}
	}
	return Other
}

const ownPrefix = "x-gatehouse-"
