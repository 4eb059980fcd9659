package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
	"github.com/gatehouse-gateway/gatehouse/proxy/upstream"
)

const crlf = "\r\n"

// writeHead builds the request head for the backend: the client's end-to-end
// fields as sent, the rest by us. The framing is made anew, never copied.
func (x *Exchange) writeHead() {
	r := &x.In
	h := x.head[:0]
	h = append(h, r.Method...)
	h = append(h, ' ')
	h = append(h, r.Path...)
	if r.HasQuery {
		h = append(append(h, '?'), r.Query...)
	}
	h = append(h, " HTTP/1.1\r\nHost: "...)
	h = append(append(h, r.Authority...), crlf...)
	keyHeader := x.table.verifier.KeyHeader()
	counted := string(r.Method) == "OPTIONS"
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.Kind {
		case ingress.Other:
			if hops, ok := maxForwards(f); ok && counted {
				h = append(h, "Max-Forwards: "...)
				h = append(strconv.AppendInt(h, hops-1, 10), crlf...)
				continue
			}
			if x.obliged != nil && replaces(x.obliged, f.Name) {
				continue
			}
			if x.newTrace && ingress.EqualFold(f.Name, "tracestate") {
				continue // of the trace that was not gone on with
			}
			if keyHeader != "" && sameField(f.Name, keyHeader) {
				if x.table.showsCredentials {
					break
				}
				continue // a secret of ours
			}
			if gatehouse.WellFormedKey(f.Value) {
				continue // or of another tenant
			}
			if x.claims(f.Name) {
				continue
			}
		case ingress.Authorization:
			if x.obliged != nil && replaces(x.obliged, f.Name) {
				continue
			}
			if !x.table.showsCredentials && (x.spent || gatehouse.WellFormedKey(f.Value[max(0, len(f.Value)-gatehouse.KeyLength):])) {
				continue // used here; not the backend's to see
			}
		case ingress.Cookie:
			if x.obliged != nil && replaces(x.obliged, f.Name) {
				continue
			}
		case ingress.Via:
		default:
			continue
		}
		h = field(h, f.Name, f.Value)
	}
	if x.obliged != nil {
		for _, f := range x.obliged.Set {
			if x.table.signs && (f.Name == "signature" || f.Name == "signature-input") {
				continue // there is one already, in the gateway's name
			}
			h = append(append(h, f.Name...), ": "...)
			h = append(append(h, f.Value...), crlf...)
		}
	}
	h = x.forwardedFields(h)
	h = append(h, "Via: "...)
	h = append(h, x.protocol()[len("HTTP/"):]...)
	h = append(h, " gatehouse\r\nX-Request-Id: "...)
	h = append(append(h, x.id...), crlf...)
	h = append(h, "traceparent: "...)
	h = append(append(h, x.trace...), crlf...)
	x.assertion = identity.Assertion{Who: x.who, Method: r.Method, Authority: r.Authority, Path: r.Path, Audience: x.route.backendID}
	h = x.table.signer.Append(h, &x.assertion, x.start)
	if x.upgrade != nil {
		h = append(h, "Connection: Upgrade\r\nUpgrade: "...)
		h = append(append(h, x.upgrade...), crlf...)
	} else if x.takesTrailers() {
		h = append(h, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	switch {
	case r.BodyLength < 0:
		h = x.announceTrailers(h)
		h = append(h, "Transfer-Encoding: chunked\r\n"...)
	case r.BodyLength > 0 || x.bodyDeclared():
		h = append(h, "Content-Length: "...)
		h = append(strconv.AppendInt(h, r.BodyLength, 10), crlf...)
	}
	x.head = append(h, crlf...)
}

// claims reports whether a field says what only the gateway may: the proof of
// a token that was judged here, or a signature in place of its own.
func (x *Exchange) claims(name []byte) bool {
	if x.presented.Scheme == identity.SchemeDPoP && sameField(name, proofField) {
		return !x.table.showsCredentials
	}
	return x.table.signs &&
		(sameField(name, identity.FieldSignature) || sameField(name, identity.FieldSignatureInput))
}

// sameField reports whether two names are of one field to backends that follow
// CGI, which read "_" as "-".
func sameField(name []byte, other string) bool {
	if len(name) != len(other) {
		return false
	}
	for i, c := range name {
		if fieldByte(c) != fieldByte(other[i]) {
			return false
		}
	}
	return true
}

func fieldByte(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_':
		return '-'
	}
	return c
}

// replaces reports whether policy has the backend not get the client's field.
func replaces(o *policy.Obligations, name []byte) bool {
	for _, f := range o.Set {
		if sameField(name, f.Name) {
			return true
		}
	}
	for _, n := range o.Remove {
		if sameField(name, n) {
			return true
		}
	}
	return false
}

// maxForwards reads the hops that an OPTIONS may still take (RFC 9110, 7.6.2).
func maxForwards(f *ingress.Field) (hops int64, ok bool) {
	if !ingress.EqualFold(f.Name, "Max-Forwards") {
		return 0, false
	}
	hops, err := strconv.ParseInt(string(f.Value), 10, 64)
	return hops, err == nil && hops >= 0
}

// endsHere reports whether the request asks to go no further.
func (x *Exchange) endsHere() bool {
	if string(x.In.Method) != "OPTIONS" {
		return false
	}
	for i := range x.In.Fields {
		if hops, ok := maxForwards(&x.In.Fields[i]); ok && hops == 0 {
			return true
		}
	}
	return false
}

// answerOptions answers in place of the backend.
func (x *Exchange) answerOptions() {
	x.Status, x.declared = 204, -1
	if allow := x.table.router.Allow(&x.In); len(allow) > 0 {
		x.add("Allow", strings.Join(allow, ", "))
	}
	x.Fields = append(x.Fields, Field{nameRequestID, x.id})
	x.limitAnswer()
}

func field(h, name, value []byte) []byte {
	h = append(append(h, name...), ": "...)
	return append(append(h, value...), crlf...)
}

// bodyDeclared reports whether the client gave a Content-Length, be it 0.
func (x *Exchange) bodyDeclared() bool {
	for i := range x.In.Fields {
		if x.In.Fields[i].Kind == ingress.ContentLength {
			return true
		}
	}
	return false
}

// forwardedFields adds who asked for what (RFC 7239 and its elders). What an
// untrusted peer says of itself is dropped; a trusted proxy's list goes on.
func (x *Exchange) forwardedFields(h []byte) []byte {
	proto := "http"
	if x.TLS {
		proto = "https"
	}
	h = append(h, "X-Forwarded-For: "...)
	if n := len(h); x.client != x.Peer {
		if h = x.hopsBefore(h, ingress.ForwardedFor, TrustXForwardedFor); len(h) == n {
			h = append(x.client.AppendTo(h), ", "...)
		}
	}
	h = append(x.Peer.AppendTo(h), crlf...)
	h = append(h, "X-Real-IP: "...)
	h = append(x.client.AppendTo(h), crlf...)
	h = append(h, "X-Forwarded-Proto: "...)
	h = append(append(h, proto...), crlf...)
	h = append(h, "X-Forwarded-Host: "...)
	h = append(append(h, x.In.Authority...), crlf...)
	h = append(h, "Forwarded: "...)
	by := x.client
	if n := len(h); x.gateway.cfg.TrustedHeader == TrustForwarded {
		if h = x.hopsBefore(h, ingress.Forwarded, TrustForwarded); len(h) > n {
			by = x.Peer // the list says who was before
		}
	}
	h = append(h, "for="...)
	if by.Is6() {
		h = append(by.AppendTo(append(h, `"[`...)), `]"`...)
	} else {
		h = by.AppendTo(h)
	}
	h = append(h, `;by=_gatehouse;host="`...)
	h = append(append(h, x.In.Authority...), `";proto=`...)
	return append(append(h, proto...), crlf...)
}

// hopsBefore appends the list that a trusted proxy's field holds, if it is the
// one that is believed and can be read to its end.
func (x *Exchange) hopsBefore(h []byte, kind ingress.Kind, header TrustedHeader) []byte {
	g := x.gateway
	if cmp.Or(g.cfg.TrustedHeader, TrustXForwardedFor) != header || !g.trusts(x.Peer) {
		return h
	}
	start := len(h)
	for i := range x.In.Fields {
		f := &x.In.Fields[i]
		if f.Kind != kind || len(f.Value) == 0 {
			continue
		}
		if !readable(f.Value, kind) {
			return h[:start]
		}
		h = append(append(h, f.Value...), ", "...)
	}
	return h
}

// readable reports whether every hop of a list can be read.
func readable(list []byte, kind ingress.Kind) bool {
	last := ingress.LastForwardedFor
	if kind == ingress.Forwarded {
		last = ingress.LastForwarded
	}
	for len(list) > 0 {
		var err error
		if _, list, err = last(list); err != nil {
			return false
		}
	}
	return true
}

// loopLimit is how often a request may pass gateways of this name.
const loopLimit = 5

// looped looks for a forwarding loop (RFC 9110, 7.6.3).
func (x *Exchange) looped() bool {
	n := 0
	for i := range x.In.Fields {
		if x.In.Fields[i].Kind == ingress.Via {
			n += bytes.Count(x.In.Fields[i].Value, []byte(" gatehouse"))
		}
	}
	return n >= loopLimit
}

func (g *Gateway) trusts(a netip.Addr) bool {
	for _, p := range g.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// clientAddress is the peer's, or the right-most address that a chain of
// trusted proxies did not add.
func (g *Gateway) clientAddress(x *Exchange) netip.Addr {
	if len(g.trusted) == 0 || !g.trusts(x.Peer) {
		return x.Peer
	}
	if proto, n := x.In.Sole("X-Forwarded-Proto"); n == 1 && ingress.EqualFold(proto, "https") {
		x.TLS = true // terminated in front
	}
	kind, last := ingress.ForwardedFor, ingress.LastForwardedFor
	if g.cfg.TrustedHeader == TrustForwarded {
		kind, last = ingress.Forwarded, ingress.LastForwarded
	}
	client := x.Peer
	for i := len(x.In.Fields) - 1; i >= 0; i-- {
		if x.In.Fields[i].Kind != kind {
			continue
		}
		for list := x.In.Fields[i].Value; len(list) > 0; {
			hop, rest, err := last(list)
			if err != nil || !hop.IsValid() {
				return client // what is further left cannot be told from a lie
			}
			if client = hop; !g.trusts(client) {
				return client
			}
			list = rest
		}
	}
	return client
}

// send forwards the request and takes the head of the answer.
func (x *Exchange) send() (err error) {
	b := x.route.backend
	if x.upgrade == nil {
		if x.route.duplex && x.In.BodyLength != 0 {
			if err := x.transport.share(); err != nil {
				return &upstream.Error{Code: gatehouse.CodeBadRequest, Token: "http_request_error", RequestBody: true, Err: err}
			}
		}
		return b.Do(x.upstreamRequest(), &x.resp)
	}
	tunnels := &x.table.slot.tunnels
	if tunnels.Add(1) > int64(x.gateway.cfg.Limits.PerTenant.Tunnels) {
		tunnels.Add(-1)
		return refuse(gatehouse.CodeTenantBusy, "this tenant has as many upgraded connections as it may")
	}
	x.tunneled = true
	r := x.upstreamRequest()
	r.UpgradeTo = x.upgrade
	r.WebSocketKey, _ = x.In.Sole("Sec-WebSocket-Key")
	x.Tunnel, err = b.Upgrade(r, &x.resp)
	if x.Tunnel == nil {
		x.leaveTunnels()
	}
	return err
}

// upstreamRequest describes the attempt to the client of the backends.
func (x *Exchange) upstreamRequest() *upstream.Request {
	m := string(x.In.Method)
	x.up = upstream.Request{
		Head: x.head, IsHead: m == "HEAD", BodyLength: x.In.BodyLength,
		Interim: x.hooks.interim, Gone: x.hooks.gone,
	}
	switch m {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		x.up.Idempotent = true
	}
	if x.In.BodyLength != 0 {
		x.reader = bodyReader{x: x}
		x.up.Body = &x.reader
		x.up.Trailer = x.hooks.trailer
	}
	if x.route.hashes {
		value, ok := (*limitValues)(x).Value(x.route.terms.hashBy)
		if !ok {
			value = x.address()
		}
		x.up.HashKey = fnv1a(value)
	}
	return &x.up
}

// fnv1a is the 64-bit FNV-1a hash: the same in every gateway and after every
// restart, so that replicas send a caller to the same endpoint.
func fnv1a(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// bodyReader is the request body on its way to the backend: bounded and
// counted. With a backend of HTTP/2 another goroutine reads it.
type bodyReader struct{ x *Exchange }

var errBodyTooLarge = &gatehouse.Error{Code: gatehouse.CodeBodyTooLarge, Message: "the body is larger than this route takes"}

// Read reads the next part of the body.
func (b *bodyReader) Read(p []byte) (int, error) {
	x := b.x
	n, err := x.RequestBody.Read(p)
	if x.bodyIn.Add(int64(n)) > x.route.maxBody {
		return 0, errBodyTooLarge
	}
	return n, err
}

// Close interrupts a Read that another goroutine waits in.
func (b *bodyReader) Close() error {
	b.x.transport.interrupt()
	return nil
}

// wholeBody is the largest body that is written in one piece with its head,
// where all of it has come with the backend's head.
const wholeBody = 16 << 10

// takeAnswer turns the backend's response head into the exchange's answer,
// and takes in the body where it is small.
func (x *Exchange) takeAnswer() error {
	r := &x.resp
	x.Status, x.Length = r.Status, r.ContentLength
	x.declared = -1
	for i := range r.Fields {
		f := &r.Fields[i]
		switch ingress.KindOf(f.Name) {
		case ingress.ContentLength:
			x.declared = declaredLength(f.Value)
			continue
		case ingress.TransferEncoding, ingress.Connection, ingress.HopByHop, ingress.Own, ingress.RequestID:
			continue
		}
		if x.takeUnits(f) {
			continue
		}
		if namedByConnection(r.Fields, f.Name) || forgesStatus(f) {
			continue
		}
		x.Fields = append(x.Fields, Field{f.Name, f.Value})
	}
	x.Fields = append(x.Fields, Field{nameVia, x.route.via()}, Field{nameRequestID, x.id})
	x.limitAnswer()
	if x.Tunnel != nil {
		return nil
	}
	if r.ContentLength != 0 && x.takesTrailers() {
		if x.In.Major == 1 {
			x.Length = -1 // trailers follow chunks
		}
	} else if int64(len(r.Buffered())) < r.ContentLength {
		// It comes as it comes.
	} else if body, whole, err := r.Whole(wholeBody); err != nil {
		return err
	} else if whole {
		x.Body = body
		return nil
	}
	x.Stream = (*answerStream)(x)
	return nil
}

// forgesStatus reports whether a backend speaks in the gateway's name: callers
// tell by Proxy-Status whose answer they have (RFC 9209).
func forgesStatus(f *upstream.Field) bool {
	return len(f.Name) == len("Proxy-Status") && ingress.EqualFold(f.Name, "Proxy-Status") && bytes.Contains(f.Value, []byte("gatehouse"))
}

// passInterim passes an interim answer of the backend on.
func (x *Exchange) passInterim(status int, fields []upstream.Field) {
	out := make([]ingress.Field, 0, len(fields))
	for i := range fields {
		if f := &fields[i]; x.passesInterim(fields, f) {
			out = append(out, ingress.Field{Name: f.Name, Value: f.Value})
		}
	}
	x.transport.interim(status, out)
}

// passesInterim reports whether a field of an interim answer may pass.
func (x *Exchange) passesInterim(fields []upstream.Field, f *upstream.Field) bool {
	return ingress.KindOf(f.Name) == ingress.Other && !namedByConnection(fields, f.Name) && !forgesStatus(f) && x.route.meterOf(f.Name) < 0
}

// namedByConnection reports whether a Connection field makes name hop-by-hop.
func namedByConnection(fields []upstream.Field, name []byte) bool {
	for i := range fields {
		if ingress.KindOf(fields[i].Name) != ingress.Connection {
			continue
		}
		for list := fields[i].Value; len(list) > 0; {
			var token []byte
			token, list, _ = bytes.Cut(list, []byte(","))
			if bytes.EqualFold(bytes.TrimSpace(token), name) {
				return true
			}
		}
	}
	return false
}

var (
	nameVia       = []byte("Via")
	viaHTTP1      = []byte("1.1 gatehouse")
	viaHTTP2      = []byte("2.0 gatehouse")
	nameRequestID = []byte("X-Request-Id")
)

// answerStream is the body of a long answer on its way to the client.
type answerStream Exchange

// Read reads the next part, counted before it is written to the client.
func (s *answerStream) Read(p []byte) (int, error) {
	x := (*Exchange)(s)
	n, err := x.resp.Read(p)
	if n > 0 {
		x.bodyOut += int64(n)
		x.countedOut += int64(n)
		if x.flight != nil {
			x.flight.Sent(int64(n))
		}
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		x.failure = e.Token
		x.cause = e
	}
	return n, err
}

// unforwarded turns the upstream client's error into the gateway's.
func (x *Exchange) unforwarded(err error) error {
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		return err
	}
	if e.ClientGone {
		x.Close, x.failure = true, "client_gone"
		return &gatehouse.Error{Code: gatehouse.CodeClientGone, Message: "the client left before the answer", Err: e}
	}
	if e.RequestBody {
		x.Close = true
		if too, ok := errors.AsType[*gatehouse.Error](e.Err); ok {
			return too
		}
		if late, ok := errors.AsType[net.Error](e.Err); ok && late.Timeout() {
			return &gatehouse.Error{Code: gatehouse.CodeRequestTimeout, Message: "the request body did not arrive in time", Err: e}
		}
		return &gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: "the request body could not be read", Err: e}
	}
	x.failure = e.Token
	return &gatehouse.Error{Code: e.Code, Message: backendMessage[e.Code], Err: e}
}

// backendMessage says to the caller what happened, and nothing of where.
var backendMessage = map[gatehouse.Code]string{
	gatehouse.CodeBackendUnreachable: "the backend cannot be reached",
	gatehouse.CodeBackendTimeout:     "the backend did not answer in time",
	gatehouse.CodeBackendProtocol:    "the backend's answer cannot be passed on",
	gatehouse.CodeBackendBusy:        "all connections to the backend are in use",
	gatehouse.CodeBackendProhibited:  "the backend's address is not allowed",
	gatehouse.CodeBackendUnavailable: "the backend has no endpoint",
	gatehouse.CodeBadRequest:         "the request cannot be sent over HTTP/2",
	gatehouse.CodeCircuitOpen:        "the backend failed too often and is given time to recover",
}
