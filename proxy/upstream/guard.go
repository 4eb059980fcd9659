package upstream

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
)

// prohibited are addresses that no deployment means as a backend: a document
// that names them, or a name that resolves to them, is after the machine that
// Gatehouse runs on or its cloud's credentials.
var prohibited = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), // "this host"; Linux connects it to loopback
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud metadata
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure's wire server
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle Cloud metadata
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS metadata, DNS and time
	netip.MustParsePrefix("fd20:ce::254/128"),   // Google Cloud metadata
}

// carriers are IPv6 addresses that hold an IPv4 address, from the byte given.
var carriers = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64 (RFC 6052)
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // NAT64 of one's own, as /96 (RFC 8215)
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4 (RFC 3056)
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible (RFC 4291, 2.5.5.1)
}

// Prohibited reports whether no backend may ever have the address: it is
// unspecified, link-local, multicast or a cloud's metadata service, be it
// written as IPv4, as IPv4 in IPv6, or behind NAT64.
func Prohibited(a netip.Addr) bool {
	a = plain(a)
	if !a.IsValid() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return true
	}
	return within(prohibited, a)
}

// plain undoes the ways to write one address as another.
func plain(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsUnspecified() {
		return a // ::1 and :: are themselves
	}
	for _, c := range carriers {
		if c.prefix.Contains(a) {
			b := a.As16()
			return netip.AddrFrom4([4]byte(b[c.at:]))
		}
	}
	return a
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// guard returns what a net.Dialer calls with every address it is about to
// connect to, after resolution: nothing can change between check and use.
func guard(allow []netip.Prefix) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %s: %w", address, errProhibited)
		}
		if Prohibited(ap.Addr()) || len(allow) > 0 && !within(allow, plain(ap.Addr())) {
			return fmt.Errorf("address %s: %w", ap.Addr(), errProhibited)
		}
		return nil
	}
}
