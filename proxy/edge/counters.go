package edge

import (
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net"
	"sync/atomic"
	"syscall"
)

// Counters counts what happens to connections. The zero value is ready; all
// fields are safe for concurrent use.
type Counters struct {
	// Accepted connections, refused ones among them.
	Accepted atomic.Uint64
	// AcceptErrors are lacks of file descriptors or memory that were waited
	// out.
	AcceptErrors atomic.Uint64
	// Open connections, now.
	Open atomic.Int64
	// Handshakes are TLS handshakes that succeeded; Resumed of them continued
	// an earlier session.
	Handshakes, Resumed atomic.Uint64

	refusedTotal, refusedAddress atomic.Uint64
	failures                     [failureCount]atomic.Uint64
}

// Refusals are the connections refused, by the bound they were over:
// "connections" or "address".
func (c *Counters) Refusals() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		_ = yield("connections", c.refusedTotal.Load()) && yield("address", c.refusedAddress.Load())
	}
}

// Failures are the connections that ended in Conn.Handshake, by reason:
//
//	left           the client went away
//	timeout        the client took longer than allowed
//	busy           no slot for its handshake became free in time
//	proxy_header   a listed peer sent no valid PROXY header
//	not_tls        the client does not speak TLS
//	server_name    no certificate for the name asked for
//	certificate    the client's certificate does not verify
//	alert          the client refused our side
//	tls            anything else in TLS
//	other          the socket failed
//
// Connections refused over a bound are not among them.
func (c *Counters) Failures() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for i, name := range failureNames() {
			if !yield(name, c.failures[i].Load()) {
				return
			}
		}
	}
}

type failure int

const (
	failedLeft failure = iota
	failedTimeout
	failedBusy
	failedProxyHeader
	failedNotTLS
	failedServerName
	failedCertificate
	failedAlert
	failedTLS
	failedOther
	failureCount
)

func failureNames() [failureCount]string {
	return [...]string{
		"left", "timeout", "busy", "proxy_header", "not_tls", "server_name", "certificate", "alert", "tls", "other",
	}
}

// failureOf sorts an error of Conn.Handshake. What c remembers goes first:
// TLS does not hand on the errors of its callbacks as they were.
func failureOf(c *Conn, err error) failure {
	if c.busy {
		return failedBusy
	}
	if errors.Is(err, errProxyHeader) {
		return failedProxyHeader
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return failedTimeout
	}
	for _, left := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, left) {
			return failedLeft
		}
	}
	if c.tls == nil {
		return failedOther
	}
	if c.unknown {
		return failedServerName
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return failedNotTLS
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failedCertificate
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return failedAlert
	}
	return failedTLS
}
