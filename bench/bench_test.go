package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The peers' own checkers accept what the templates make for each scenario.
func TestPeerConfigurations(t *testing.T) {
	issuer, err := newIssuer()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{dir: t.TempDir(), issuer: issuer, ports: 21000}
	if err := b.certify(); err != nil {
		t.Fatal(err)
	}
	public, err := issuer.public()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "public.pem"), public, 0o600); err != nil {
		t.Fatal(err)
	}
	ts, err := b.tenants(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios() {
		if other, ok := s.as["haproxy"]; ok {
			s = others()[other]
		}
		dir := t.TempDir()
		set := settings{
			scenario: s, Dir: dir, Listen: "127.0.0.1:18100", Cores: 1, Tenants: ts, Auth: s.auth, Limits: s.limits, Rate: generous, TLS: s.tls,
			Cert: filepath.Join(b.dir, "certificates", "t0.crt"), CertKey: filepath.Join(b.dir, "certificates", "t0.key"),
			Pair: filepath.Join(b.dir, "t0.pem"), PublicKey: filepath.Join(b.dir, "public.pem"),
		}
		for _, name := range []string{"haproxy.map", "haproxy.keys"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("t0.test t0\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for file, check := range map[string][]string{"nginx.conf": {program("nginx"), "-t", "-c"}, "haproxy.cfg": {program("haproxy"), "-c", "-f"}} {
			path := filepath.Join(dir, file)
			if err := fill(file+".tmpl", path, set); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(check[0], append(check[1:], path)...).CombinedOutput(); err != nil {
				t.Errorf("%s, %s: %v\n%s", s.name, file, err, out)
			}
		}
		if err := script(filepath.Join(dir, "wrk.lua"), s, ts); err != nil {
			t.Error(err)
		}
	}
}

func TestTable(t *testing.T) {
	s := scenario{name: "plain", what: "1 KiB", bounds: map[string]promise{"nginx": {name: "S1", most: 1}}}
	all := []*contender{
		{name: "gatehouse", got: []figures{{cpu: 22, rps: 9, p50: 1000, p99: 2000, rss: 1 << 20}, {cpu: 20, rps: 9, p50: 1000, p99: 2000, rss: 1 << 20}, {cpu: 21, rps: 9, p50: 1000, p99: 2000, rss: 1 << 20}}},
		{name: "nginx", got: []figures{{cpu: 20, rps: 10, p50: 1000, p99: 2000, rss: 2 << 20}, {cpu: 10, rps: 10, p50: 1000, p99: 2000, rss: 2 << 20}, {cpu: 30, rps: 10, p50: 1000, p99: 4000, rss: 2 << 20}}},
	}
	got := table(s, all)
	want := `### plain

1 KiB

| | CPU µs/request | min–max | of it user | requests/s | p50 | p99 | RSS MiB | Gatehouse's CPU to it | promised |
|---|---|---|---|---|---|---|---|---|---|
| gatehouse | 21.00 | 20.00–22.00 | 0.00 | 9 | 1µs | 2µs | 1 |  |  |
| nginx | 20.00 | 10.00–30.00 | 0.00 | 10 | 1µs | 2µs | 2 | 1.10 | S1 ≤ 1, missed |
`
	if got != want {
		t.Errorf("%s", got)
	}
	// The ratios of p99 are 1, 1 and 0.5.
	s.bounds = map[string]promise{"nginx": {name: "S6", most: 1.05, p99: true}}
	if got := table(s, all); !strings.Contains(got, "| 1.10 | S6 p99 1.00 ≤ 1.05 |") {
		t.Errorf("%s", got)
	}
}
