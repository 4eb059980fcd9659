package upstream

import (
	"net/netip"
	"testing"
)

// An address of a cloud's metadata is prohibited however IPv6 carries it, and
// what carries an ordinary one is ordinary.
func TestProhibitedWhenCarried(t *testing.T) {
	f := func(addr string, expected bool) {
		t.Helper()
		if got := Prohibited(netip.MustParseAddr(addr)); got != expected {
			t.Errorf("Prohibited(%s) = %v", addr, got)
		}
	}
	f("2002:a9fe:a9fe::1", true) // 6to4
	f("2002:a9fe:a9fe::", true)
	f("2002:6464:64c8:1::1", true)    // of 100.100.100.200
	f("64:ff9b::a9fe:a9fe", true)     // NAT64
	f("64:ff9b:1::a9fe:a9fe", true)   // NAT64 of one's own
	f("64:ff9b:1:2::a9fe:a9fe", true) // with a subnet
	f("::a9fe:a9fe", true)            // IPv4-compatible
	f("::a83f:8110", true)            // of 168.63.129.16
	f("::e000:1", true)               // of 224.0.0.1
	f("::ffff:a9fe:a9fe", true)       // IPv4-mapped
	f("fe80::1%eth0", true)
	f("::", true)

	f("::1", false)
	f("2002:808:808::1", false)
	f("2002:a00:1::1", false)
	f("64:ff9b::808:808", false)
	f("64:ff9b:1::a00:1", false)
	f("64:ff9b:2::a9fe:a9fe", false) // beside the prefix
	f("::808:808", false)
	f("127.0.0.1", false)
	f("10.0.0.1", false)
	f("100.64.0.1", false)
	f("192.0.0.8", false)
	f("2001:db8::a9fe:a9fe", false) // carries nothing
	f("fd00::1", false)
}
