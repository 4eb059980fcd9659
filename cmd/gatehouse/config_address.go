package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/gatehouse-gateway/gatehouse"
)

// validateAddresses returns what is wrong with the addresses that the process
// listens on, each by itself and beside the others.
func (c *config) validateAddresses() gatehouse.Faults {
	var fs gatehouse.Faults
	type address struct{ pointer, use, listen string }
	all := []address{{"/proxy/listen", "data plane", c.Proxy.Listen}, {"/proxy/tls/listen", "data plane over TLS", c.Proxy.TLS.Listen}}
	if c.mode() == modeControl {
		all = nil // it has no data plane
	}
	all = append(all, address{"/control/listen", "control API", c.Control.Listen})
	for i, a := range all {
		if a.listen == "" && a.pointer == "/proxy/tls/listen" {
			continue
		}
		if reason := addressFault(a.listen); reason != "" {
			fs = append(fs, gatehouse.Fault{Pointer: a.pointer, Reason: reason, Hint: "use host:port, such as " + exampleAddress(a.pointer)})
			continue
		}
		for _, b := range all[:i] {
			if collide(a.listen, b.listen) {
				fs = append(fs, gatehouse.Fault{Pointer: a.pointer, Also: b.pointer, Reason: fmt.Sprintf("the %s listens on %s already", b.use, b.listen), Hint: "give the " + a.use + " another port"})
			}
		}
	}
	if host, _, err := net.SplitHostPort(c.Control.Listen); err == nil && c.mode() != modeProxy && c.Control.TLS.Cert == "" && isBeyond(host) {
		fs = append(fs, gatehouse.Fault{
			Pointer: "/control/listen", Reason: c.Control.Listen + " is not loopback, and tokens would pass in clear",
			Hint: "set control.tls.cert and control.tls.key, or listen on 127.0.0.1",
		})
	}
	return fs
}

func exampleAddress(pointer string) string {
	d := defaultConfig()
	switch pointer {
	case "/proxy/listen":
		return d.Proxy.Listen
	case "/control/listen":
		return d.Control.Listen
	}
	return "127.0.0.1:8443"
}

// addressFault says what keeps an address from being listened on, "" for
// nothing. A host's name is not looked up.
func addressFault(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		if listen == "" {
			return "listen is empty"
		}
		return fmt.Sprintf("%q is not host:port", listen)
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return fmt.Sprintf("%q is no port", port)
	}
	if _, err := strconv.Atoi(host); err == nil {
		return fmt.Sprintf("%q is no host", host)
	}
	return ""
}

// collide tells whether two addresses cannot both be listened on. 0.0.0.0 is
// every address as :: is, of version 6 too: Go listens on both for either.
func collide(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || isEvery(hostA) || isEvery(hostB) || plainHost(hostA) == plainHost(hostB)
}

func plainHost(host string) string {
	if host == "localhost" {
		return "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return host
}

func isEvery(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// isBeyond tells of an address that others can reach. A name is not looked up:
// what it comes to is seen when it is listened on.
func isBeyond(host string) bool {
	ip, err := netip.ParseAddr(host)
	return isEvery(host) || err == nil && !ip.IsLoopback()
}
