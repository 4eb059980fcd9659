package policy

import (
	"net/netip"
	"time"
)

// Input is what is known about a request when it is decided. The document
// that policies see is described in the package comment.
type Input struct {
	Tenant, Plan, Route string
	// Auth is what the route asks for: none, optional or required.
	Auth string
	// Features that are on, sorted.
	Features []string
	// Method, Host, Path, Query (raw, without "?") and Protocol; host and path
	// in canonical form. They are read during Decide only.
	Method, Host, Path, Query, Protocol []byte
	// BodySize in bytes; -1 when not known.
	BodySize int64
	// Headers may be nil. It is read during Decide only.
	Headers Fields
	// Principal is who asks; nil stands for Anonymous().
	Principal *Principal
	// Client is the address of the caller; the zero Addr reads as "".
	Client netip.Addr
	// Cert is the verified certificate of the caller; nil: none.
	Cert *Certificate
	// TLS says whether the caller's connection is encrypted.
	TLS bool
	// Time is the instant of the request.
	Time time.Time
}

// Fields are the header fields of a request in the order received. At is
// called for 0 <= i < Len only; names may have any case.
type Fields interface {
	Len() int
	At(i int) (name, value []byte)
}
