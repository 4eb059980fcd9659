package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// identifyRequest takes the caller's request id and trace context where they
// are well formed, and makes new ones where not.
func (x *Exchange) identifyRequest() {
	x.id, x.trace = x.id[:0], x.trace[:0]
	for i := range x.In.Fields {
		f := &x.In.Fields[i]
		switch {
		case f.Kind == ingress.RequestID && len(x.id) == 0 && goodRequestID(f.Value):
			x.id = append(x.id, f.Value...)
		case f.Kind == ingress.TraceParent && len(x.trace) == 0 && goodTraceParent(f.Value):
			x.trace = append(x.trace, f.Value...)
		}
	}
	if len(x.id) == 0 {
		x.id = appendUUIDv7(x.id, uint64(x.start.UnixMilli()))
	}
	if x.newTrace = len(x.trace) == 0; x.newTrace {
		var b [24]byte
		binary.BigEndian.PutUint64(b[0:], rand.Uint64()|1) // all zero is invalid
		binary.BigEndian.PutUint64(b[8:], rand.Uint64())
		binary.BigEndian.PutUint64(b[16:], rand.Uint64()|1)
		x.trace = append(x.trace, "00-"...)
		x.trace = append(hex.AppendEncode(x.trace, b[:16]), '-')
		x.trace = append(hex.AppendEncode(x.trace, b[16:]), "-00"...)
	}
}

func (x *Exchange) requestID() string { return string(x.id) }

// goodRequestID: 8 to 128 of letters, digits, dot, underscore and hyphen.
func goodRequestID(b []byte) bool {
	if len(b) < 8 || len(b) > 128 {
		return false
	}
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// goodTraceParent checks version 00 of W3C Trace Context, and of a later
// version the four fields that it must begin with.
func goodTraceParent(b []byte) bool {
	if len(b) < 55 || b[2] != '-' || b[35] != '-' || b[52] != '-' || string(b[:2]) == "ff" {
		return false
	}
	if len(b) > 55 && (string(b[:2]) == "00" || b[55] != '-' || len(b) > 256) {
		return false
	}
	zero := func(part []byte) bool {
		for _, c := range part {
			if c != '0' {
				return false
			}
		}
		return true
	}
	for i, c := range b[:55] {
		if i != 2 && i != 35 && i != 52 && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return !zero(b[3:35]) && !zero(b[36:52])
}

// appendUUIDv7 appends a UUID of RFC 9562, section 5.7.
func appendUUIDv7(dst []byte, millis uint64) []byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], millis<<16|0x7000|uint64(rand.Uint32()&0xfff))
	binary.BigEndian.PutUint64(b[8:], rand.Uint64()&^(3<<62)|1<<63)
	dst = append(hex.AppendEncode(dst, b[:4]), '-')
	dst = append(hex.AppendEncode(dst, b[4:6]), '-')
	dst = append(hex.AppendEncode(dst, b[6:8]), '-')
	dst = append(hex.AppendEncode(dst, b[8:10]), '-')
	return hex.AppendEncode(dst, b[10:])
}
