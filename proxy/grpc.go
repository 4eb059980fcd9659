package proxy

import (
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// isGRPC reports whether the request is a call of gRPC.
func (x *Exchange) isGRPC() bool {
	const grpc = "application/grpc"
	if x.In.Major != 2 {
		return false
	}
	ct, n := x.In.Sole("Content-Type")
	return n == 1 && len(ct) >= len(grpc) && ingress.EqualFold(ct[:len(grpc)], grpc)
}

// grpcTrailers are what a call of gRPC ends with; the last is not of gRPC
// itself but of every implementation.
var grpcTrailers = []string{"grpc-status", "grpc-message", "grpc-status-details-bin"}

// passesGRPC reports whether a trailer of a call may pass: gRPC's own, and the
// service's metadata, which may have any name that is not a protocol's.
func passesGRPC(name []byte) bool {
	for _, allowed := range grpcTrailers {
		if ingress.EqualFold(name, allowed) {
			return true
		}
	}
	return !strings.HasPrefix(strings.ToLower(string(name)), "grpc-")
}

// grpcCode is the status of gRPC for an error of the gateway's own. What is
// not listed goes by gRPC's rule for HTTP statuses.
func grpcCode(code gatehouse.Code) int {
	const (
		unknown            = 2
		deadlineExceeded   = 4
		permissionDenied   = 7
		resourceExhausted  = 8
		unimplemented      = 12
		internal           = 13
		unavailable        = 14
		unauthenticated    = 16
		cancelled          = 1
		failedPrecondition = 9
	)
	switch code {
	case gatehouse.CodeQuotaExceeded, gatehouse.CodeBodyTooLarge, gatehouse.CodeReducedCapacity, gatehouse.CodeTenantBusy:
		return resourceExhausted
	case gatehouse.CodeBackendTimeout, gatehouse.CodeRequestTimeout:
		return deadlineExceeded
	case gatehouse.CodeClientGone:
		return cancelled
	case gatehouse.CodeTenantSuspended:
		return failedPrecondition
	}
	switch status := gatehouse.Problems[code].Status; {
	case status == 401:
		return unauthenticated
	case status == 403:
		return permissionDenied
	case status == 404, status == 405:
		return unimplemented
	case status == 500, status == 400:
		return internal
	case status > 500:
		return unavailable
	}
	return unknown
}

// grpcAnswer turns the exchange's error into one that clients of gRPC read: a
// status in the head, and nothing else (Trailers-Only). The record and the
// counts keep the status that it has over HTTP.
func (x *Exchange) grpcAnswer(message string) {
	kept := x.Fields[:0]
	for _, f := range x.Fields {
		if !ingress.EqualFold(f.Name, "Content-Type") {
			kept = append(kept, f)
		}
	}
	x.Fields = kept
	x.add("Content-Type", "application/grpc")
	x.add("grpc-status", strconv.Itoa(grpcCode(x.code)))
	x.add("grpc-message", string(appendMessage(nil, message)))
	x.Body, x.Length, x.declared = nil, 0, -1
	x.wire = 200
}

// appendMessage appends s with all but visible ASCII and "%" escaped, as
// grpc-message has it.
func appendMessage(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '%' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}
