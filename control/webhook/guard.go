package webhook

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/gatehouse-gateway/gatehouse"
)

// closed are networks that are reachable and yet not public: shared address
// space (RFC 6598), protocol assignments (RFC 6890), documentation (RFC 5737,
// RFC 3849), benchmarks (RFC 2544), the reserved block (RFC 1112), translation
// (RFC 6052, RFC 8215), 6to4 and Teredo, which carry IPv4 addresses inside.
func closed() []netip.Prefix {
	names := []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32", "2002::/16", "fec0::/10",
	}
	out := make([]netip.Prefix, len(names))
	for i, n := range names {
		out[i] = netip.MustParsePrefix(n)
	}
	return out
}

// Guard returns a dial function that connects to public addresses only, and to
// those that are allowed: whoever registers an endpoint does not reach the
// operator's own network through it. The address is looked at when it is
// dialled, after its name was resolved.
func Guard(d *net.Dialer, allow ...netip.Prefix) func(ctx context.Context, network, address string) (net.Conn, error) {
	guarded, shut := *d, closed()
	guarded.ControlContext = nil
	guarded.Control = func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("dial %s: %w", address, err)
		}
		if ip := at.Addr().Unmap().WithZone(""); !allowed(ip, allow) && !public(ip, shut) {
			return &gatehouse.Error{Code: gatehouse.CodeBackendProhibited, Message: "the endpoint is not at a public address"}
		}
		return nil
	}
	return guarded.DialContext
}

func allowed(ip netip.Addr, in []netip.Prefix) bool {
	return slices.ContainsFunc(in, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func public(ip netip.Addr, shut []netip.Prefix) bool {
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !allowed(ip, shut)
}
