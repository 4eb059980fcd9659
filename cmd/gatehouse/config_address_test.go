package main

import (
	"net"
	"testing"
)

// Two addresses collide where the second cannot be listened on beside the
// first.
func TestCollide(t *testing.T) {
	hosts := []string{"", "0.0.0.0", "::", "127.0.0.1", "127.0.0.2", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "localhost"}
	for _, a := range hosts {
		first, err := net.Listen("tcp", net.JoinHostPort(a, "0"))
		if err != nil {
			t.Logf("%q: %v", a, err) // this machine has no such address
			continue
		}
		_, port, err := net.SplitHostPort(first.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range hosts {
			alone, err := net.Listen("tcp", net.JoinHostPort(b, "0"))
			if err != nil {
				continue
			}
			alone.Close()
			second, err := net.Listen("tcp", net.JoinHostPort(b, port))
			if got := collide(net.JoinHostPort(a, port), net.JoinHostPort(b, port)); got != (err != nil) {
				t.Errorf("%q beside %q: %t, and %v", b, a, got, err)
			}
			if err == nil {
				second.Close()
			}
		}
		first.Close()
	}
}
