package upstream

import (
	"net/netip"
	"net/url"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

func TestProhibited(t *testing.T) {
	f := func(addr string, expected bool) {
		t.Helper()
		if got := Prohibited(netip.MustParseAddr(addr)); got != expected {
			t.Errorf("Prohibited(%s) = %v", addr, got)
		}
	}
	for _, a := range []string{
		"0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "169.254.0.1", "224.0.0.1", "239.255.255.255",
		"255.255.255.255", "fe80::1", "fe80::1%eth0", "febf::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
		"100.100.100.200", "168.63.129.16", "192.0.0.192", "::ffff:169.254.169.254", "::ffff:0.0.0.0",
		"64:ff9b::a9fe:a9fe",
	} {
		f(a, true)
	}
	for _, a := range []string{
		"127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "8.8.8.8",
		"2001:db8::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::808:808",
	} {
		f(a, false)
	}
	if !Prohibited(netip.Addr{}) {
		t.Error("the zero address is allowed")
	}
}

func TestGuard(t *testing.T) {
	up := backend(t, always(ok))
	u, _ := url.Parse(up)
	named := "http://localhost:" + u.Port()
	f := func(endpoint, expected string, allow ...string) {
		t.Helper()
		cfg := Config{}
		for _, a := range allow {
			cfg.Allow = append(cfg.Allow, netip.MustParsePrefix(a))
		}
		b := version(t, client(t, cfg), nil, gatehouse.Backend{Timeouts: brief}, endpoint)
		want(t, outcome(b, get()), expected)
	}
	const refused = `GH-FW-005 destination_ip_prohibited attempts=1`
	f(up, `200 "ok" attempts=1`)
	f(up, `200 "ok" attempts=1`, "127.0.0.0/8")
	f(up, refused, "10.0.0.0/8", "2001:db8::/32")
	f(named, `200 "ok" attempts=1`)
	f(named, `200 "ok" attempts=1`, "127.0.0.0/8")
	f(named, refused, "10.0.0.0/8")
	f("http://169.254.169.254", refused)
	f("http://169.254.169.254", refused, "169.254.0.0/16")
	f("http://[::ffff:169.254.169.254]", refused)
	f("http://0.0.0.0:"+u.Port(), refused)
	f("http://[::]:"+u.Port(), refused)
}
