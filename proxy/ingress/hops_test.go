package ingress

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// walk writes out the hops of a list from its right end.
func walk(last func([]byte) (netip.Addr, []byte, error), list string) string {
	var hops []string
	for rest := []byte(list); len(rest) > 0; {
		var hop netip.Addr
		var err error
		if hop, rest, err = last(rest); err != nil {
			return strings.Join(append(hops, "malformed"), " ")
		}
		if hop.IsValid() {
			hops = append(hops, hop.String())
		} else {
			hops = append(hops, "unknown")
		}
	}
	return strings.Join(hops, " ")
}

func TestLastForwardedFor(t *testing.T) {
	for list, want := range map[string]string{
		"":                              "",
		"192.0.2.1":                     "192.0.2.1",
		"192.0.2.1, 192.0.2.2":          "192.0.2.2 192.0.2.1",
		" 192.0.2.1\t,192.0.2.2 ":       "192.0.2.2 192.0.2.1",
		"2001:db8::1,::ffff:192.0.2.1":  "192.0.2.1 2001:db8::1",
		"192.0.2.1:4711":                "192.0.2.1",
		"[2001:db8::1]:4711, [::1]":     "::1 2001:db8::1",
		"evil, 192.0.2.1":               "192.0.2.1 malformed",
		"192.0.2.1, ":                   "malformed",
		"192.0.2.1,,192.0.2.2":          "192.0.2.2 malformed",
		"fe80::1%eth0":                  "malformed",
		"192.0.2.1:0":                   "malformed",
		"192.0.2.256":                   "malformed",
		"192.0.2.01":                    "malformed",
		"unknown":                       "malformed",
		"192.0.2.1 192.0.2.2":           "malformed",
		"[192.0.2.1]":                   "malformed",
		"http://192.0.2.1, 203.0.113.7": "203.0.113.7 malformed",
	} {
		if got := walk(LastForwardedFor, list); got != want {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
}

func TestLastForwarded(t *testing.T) {
	for list, want := range map[string]string{
		"":                                     "",
		"for=192.0.2.1":                        "192.0.2.1",
		"For=192.0.2.1;by=_gw;proto=https":     "192.0.2.1",
		"for=192.0.2.1, for=192.0.2.2":         "192.0.2.2 192.0.2.1",
		`for="[2001:db8::1]:4711"`:             "2001:db8::1",
		`for="192.0.2.1:80",for="[::1]"`:       "::1 192.0.2.1",
		`for="192.0.2.1:_port"`:                "192.0.2.1",
		`for=192.0.2.1;host="a,b\"c"`:          "192.0.2.1",
		`host="a,for=192.0.2.9";for=192.0.2.1`: "192.0.2.1",
		`host="a\\";for=192.0.2.1, for=_x`:     "unknown 192.0.2.1",
		"for=unknown":                          "unknown",
		"for=_hidden, proto=http":              "unknown unknown",
		`for="_x:_y"`:                          "unknown",
		`for="`:                                "malformed",
		`for=", for=192.0.2.1`:                 "192.0.2.1 malformed",
		`for="192.0.2.9, for=192.0.2.1`:        "192.0.2.1 malformed",
		`for=\", for="192.0.2.1"`:              "192.0.2.1 malformed",
		"for=[::1]":                            "malformed",
		"for=192.0.2.1:80":                     "malformed",
		`for="::1"`:                            "malformed",
		`for="[::1"`:                           "malformed",
		`for="[::1]x"`:                         "malformed",
		`for="192.0.2.1:99999"`:                "malformed",
		"for=192.0.2.1;for=192.0.2.2":          "malformed",
		"for=192.0.2.1;":                       "malformed",
		"for =192.0.2.1":                       "malformed",
		"for= 192.0.2.1":                       "malformed",
		"for":                                  "malformed",
		"for=":                                 "malformed",
		`for=""`:                               "malformed",
		"for=evil":                             "malformed",
		"for=192.0.2.1,":                       "malformed",
		"for=192.0.2.1 for=192.0.2.2":          "malformed",
		`for="192.0.2.1"x`:                     "malformed",
		"for=_":                                "malformed",
	} {
		if got := walk(LastForwarded, list); got != want {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
}

func TestHopsAllocate(t *testing.T) {
	xff := []byte("2001:db8::1, 192.0.2.1, [2001:db8::2]:80")
	forwarded := []byte(`for="[2001:db8::1]:80";host="a,b", for=192.0.2.1, for=_x`)
	if n := testing.AllocsPerRun(100, func() {
		for rest := xff; len(rest) > 0; {
			_, rest, _ = LastForwardedFor(rest)
		}
		for rest := forwarded; len(rest) > 0; {
			_, rest, _ = LastForwarded(rest)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The law: parseAddr agrees with netip, but for zones.
func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"1.2.3.4", "::", "::1", "1::", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1::2::3", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8::", ":::", "1:", ":1", "12345::", "1.2.3", "01.2.3.4", "::1.2.3.4.5", "1:2:3:4:5:6:7:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := netip.ParseAddr(s)
		got, ok := parseAddr([]byte(s))
		if want.Zone() != "" {
			if ok {
				t.Fatalf("%q: a zone is taken", s)
			}
			return
		}
		if ok != (err == nil) || ok && got != want {
			t.Fatalf("%q: got %v %v, want %v %v", s, got, ok, want, err)
		}
	})
}

// The law: what a proxy appends to a list is what is read first, whatever
// stood there before.
func FuzzHops(f *testing.F) {
	f.Add(`for="`)
	f.Add(`for="a\\", for=b`)
	f.Fuzz(func(t *testing.T, before string) {
		for _, added := range []string{`for="[2001:db8::1]:80";host="a,b\"c"`, `host="\\";for="[2001:db8::1]"`} {
			hop, rest, err := LastForwarded([]byte(before + ", " + added))
			if err != nil || fmt.Sprint(hop) != "2001:db8::1" || string(rest) != before {
				t.Fatalf("%v %q %v", hop, rest, err)
			}
		}
		hop, rest, err := LastForwardedFor([]byte(before + ", 192.0.2.1"))
		if err != nil || fmt.Sprint(hop) != "192.0.2.1" || string(rest) != before {
			t.Fatalf("%v %q %v", hop, rest, err)
		}
	})
}
