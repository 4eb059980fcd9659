package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// maxProblem bounds an error answer, in bytes.
const maxProblem = 4 << 20

// problem makes an error answer (RFC 9457) an error, and closes it.
func problem(r *http.Response) error {
	defer r.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxProblem)) // what came is enough
	var p struct {
		Title  string           `json:"title"`
		Detail string           `json:"detail"`
		Code   gatehouse.Code   `json:"code"`
		Faults gatehouse.Faults `json:"faults"`
	}
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		// Something else answered, perhaps a proxy between.
		code := gatehouse.CodeInternal
		if r.StatusCode == http.StatusBadGateway || r.StatusCode == http.StatusServiceUnavailable || r.StatusCode == http.StatusGatewayTimeout {
			code = gatehouse.CodeUnavailable
		}
		return &gatehouse.Error{Code: code, Message: fmt.Sprintf("the answer %s is none of a control plane's", r.Status)}
	}
	if p.Detail == "" {
		p.Detail = p.Title
	}
	e := &gatehouse.Error{Code: p.Code, Message: p.Detail}
	if len(p.Faults) > 0 {
		e.Err = p.Faults
	}
	return e
}

// isLocal reports whether a host is this machine.
func isLocal(host string) bool {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return a.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// IsLocal reports whether an address, a host with or without a port, is this
// machine's own by its look. Names are not resolved.
func IsLocal(address string) bool {
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	return isLocal(address)
}
