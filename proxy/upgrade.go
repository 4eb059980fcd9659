package proxy

import (
	"bytes"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// findUpgrade notes the protocol that the request asks to change to, where
// the route takes it (RFC 9110, 7.8). Any other request goes on without, as if
// it had not asked.
func (x *Exchange) findUpgrade() error {
	if !x.In.Upgrade || len(x.route.terms.upgrades) == 0 || string(x.In.Method) != "GET" || x.In.BodyLength != 0 || x.In.Major != 1 {
		return nil
	}
	asked, n := x.In.Sole("Upgrade")
	if n != 1 {
		return nil
	}
	i := slices.IndexFunc(x.route.terms.upgrades, func(p string) bool { return ingress.EqualFold(asked, p) })
	if i < 0 {
		return nil
	}
	if x.route.terms.upgrades[i] == gatehouse.DefaultUpgrade {
		if key, n := x.In.Sole("Sec-WebSocket-Key"); n != 1 || len(key) != 24 { // 16 bytes in base64 (RFC 6455, 4.1)
			return refuse(gatehouse.CodeBadRequest, "a WebSocket handshake needs one Sec-WebSocket-Key")
		}
	}
	x.upgrade = x.text(x.route.terms.upgrades[i])
	return nil
}

// takesTrailers reports whether trailers may pass in the answer: the route
// names some, and the client says that it reads them (RFC 9110, 10.1.4).
func (x *Exchange) takesTrailers() bool {
	if x.In.Major == 2 {
		return len(x.route.terms.trailers) > 0 || x.isGRPC()
	}
	if len(x.route.terms.trailers) == 0 {
		return false
	}
	te, n := x.In.Sole("TE")
	if n != 1 {
		return false
	}
	for len(te) > 0 {
		var coding []byte
		coding, te, _ = bytes.Cut(te, []byte(","))
		if ingress.EqualFold(bytes.TrimSpace(coding), "trailers") {
			return true
		}
	}
	return false
}

// passesTrailer reports whether a trailer of the name may pass.
func (x *Exchange) passesTrailer(name []byte) bool {
	if !ingress.MayTrail(name) {
		return false
	}
	for _, allowed := range x.route.terms.trailers {
		if ingress.EqualFold(name, allowed) {
			return true
		}
	}
	return x.isGRPC() && passesGRPC(name)
}

// announceTrailers passes the request's Trailer on, as far as its names may
// pass.
func (x *Exchange) announceTrailers(h []byte) []byte {
	if len(x.route.terms.trailers) == 0 {
		return h
	}
	start := len(h)
	for i := range x.In.Fields {
		if !ingress.EqualFold(x.In.Fields[i].Name, "Trailer") {
			continue
		}
		for list := x.In.Fields[i].Value; len(list) > 0; {
			var name []byte
			name, list, _ = bytes.Cut(list, []byte(","))
			if name = bytes.TrimSpace(name); !x.passesTrailer(name) {
				continue
			}
			if len(h) == start {
				h = append(h, "Trailer: "...)
			} else {
				h = append(h, ", "...)
			}
			h = append(h, name...)
		}
	}
	if len(h) > start {
		h = append(h, crlf...)
	}
	return h
}

// appendTrailer adds the request's trailer lines that may pass.
func (x *Exchange) appendTrailer(dst []byte) []byte {
	trailer := x.transport.trailer()
	for i := range trailer {
		if x.passesTrailer(trailer[i].Name) {
			dst = field(dst, trailer[i].Name, trailer[i].Value)
		}
	}
	return dst
}
