package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/gatehouse-gateway/gatehouse"
)

// Error is why a request could not be answered by the backend, or why its
// answer broke off.
type Error struct {
	// Code is one of the GH-FW codes, CodeBadRequest with RequestBody or
	// ClientGone, and for a Head that HTTP/2 has no way to send.
	Code gatehouse.Code
	// Token is the error token of RFC 9209, section 2.3.
	Token string
	// Endpoint is the URL of the endpoint tried last; empty where none was.
	Endpoint string
	// RequestBody is set when the client's body could not be read: the
	// backend is not at fault, and Err is what Request.Body returned.
	RequestBody bool
	// ClientGone is set when Request.Gone ended the wait: there is nobody to
	// answer. Token is then client_gone, which is none of RFC 9209's.
	ClientGone bool
	// Err is the cause, for the operator.
	Err error
}

// Error returns token, endpoint and cause for the operator.
func (e *Error) Error() string {
	s := e.Token
	if e.Endpoint != "" {
		s += " at " + e.Endpoint
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// malformed is an answer that this client does not accept.
type malformed struct{ token, reason string }

func (m *malformed) Error() string { return m.reason }

var (
	errProhibited = errors.New("the address is one no backend may have")
	errBusy       = errors.New("no connection became free in time")
	errQueue      = errors.New("too many requests wait for a connection")
	errCircuit    = errors.New("the circuits of all endpoints are open")
	errNoEndpoint = errors.New("the backend has no endpoints")
	errClosed     = errors.New("the response was released")
	errGone       = errors.New("the client is gone")
	errNoAnswer   = errors.New("the connection ended before an answer")
)

// phase is what was being done when an error came up: equal errors of
// different phases have different codes and tokens.
type phase uint8

const (
	connecting phase = iota
	handshaking
	writing
	awaiting // the header section of the answer
	reading  // the body of the answer
)

// explain makes an Error of err. It is the one place where causes become codes.
func explain(err error, p phase, endpoint string) *Error {
	code, token := classify(err, p)
	return &Error{Code: code, Token: token, Endpoint: endpoint, ClientGone: errors.Is(err, errGone), Err: err}
}

func classify(err error, p phase) (gatehouse.Code, string) {
	if m, ok := errors.AsType[*malformed](err); ok {
		return gatehouse.CodeBackendProtocol, m.token
	}
	switch {
	case errors.Is(err, errGone):
		return gatehouse.CodeBadRequest, "client_gone"
	case errors.Is(err, errBusy), errors.Is(err, errQueue):
		return gatehouse.CodeBackendBusy, "connection_limit_reached"
	case errors.Is(err, errProhibited):
		return gatehouse.CodeBackendProhibited, "destination_ip_prohibited"
	case errors.Is(err, errCircuit):
		return gatehouse.CodeCircuitOpen, "destination_unavailable"
	case errors.Is(err, errNoEndpoint):
		return gatehouse.CodeBackendUnavailable, "destination_unavailable"
	case timedOut(err):
		return gatehouse.CodeBackendTimeout, timeoutToken(err, p)
	case alerted(err) && p != reading:
		return gatehouse.CodeBackendUnreachable, "tls_alert_received"
	}
	switch p {
	case connecting:
		return gatehouse.CodeBackendUnreachable, connectToken(err)
	case handshaking:
		return gatehouse.CodeBackendUnreachable, handshakeToken(err)
	case reading:
		return gatehouse.CodeBackendProtocol, "http_response_incomplete"
	default:
		return gatehouse.CodeBackendUnreachable, "connection_terminated"
	}
}

func timedOut(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[interface {
		error
		Timeout() bool // connections in memory have no more of net.Error
	}](err)
	return ok && e.Timeout()
}

func timeoutToken(err error, p phase) string {
	switch p {
	case writing:
		return "connection_write_timeout"
	case awaiting:
		return "http_response_timeout"
	case reading:
		return "connection_read_timeout"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "dns_timeout"
	}
	return "connection_timeout"
}

func connectToken(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "dns_error"
	}
	if errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) {
		return "destination_ip_unroutable"
	}
	return "connection_refused"
}

func handshakeToken(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "tls_certificate_error"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return "connection_terminated"
	}
	return "tls_protocol_error"
}
