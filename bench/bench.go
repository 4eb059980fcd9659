package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench holds what all scenarios share: the built programs, the backends, the
// credentials.
type bench struct {
	dir     string
	work    work
	peers   []string
	builds  []string // others of Gatehouse, as NAME=PATH
	issuer  *issuer
	made    []tenant
	backend *process
	ports   int    // of the first backend
	profile string // file for all scenarios' profiles; empty: none are made
}

func newBench(ctx context.Context, peers []string, w work) (_ *bench, err error) {
	b := &bench{work: w, peers: peers}
	if b.dir, err = os.MkdirTemp("", "gatehouse-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	for name, pkg := range map[string]string{"gatehouse": "./cmd/gatehouse", "backend": "./bench/backend", "floor": "./bench/floor"} {
		if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(b.dir, name), pkg).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	b.peers = slices.DeleteFunc(b.peers, func(name string) bool {
		err := b.find(ctx, name)
		if err != nil {
			fmt.Printf("%s is left out: %v\n", name, err)
		}
		return err != nil
	})
	if b.issuer, err = newIssuer(); err != nil {
		return nil, err
	}
	public, err := b.issuer.public()
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{"jwks.json": []byte(b.issuer.jwks()), "public.pem": public} {
		if err := os.WriteFile(filepath.Join(b.dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	if err := b.certify(); err != nil {
		return nil, err
	}
	b.ports = 21000
	b.backend, err = start(ctx, "1", []string{"GOMAXPROCS=1"}, filepath.Join(b.dir, "backend"), "127.0.0.1:"+strconv.Itoa(b.ports), strconv.Itoa(active))
	if err != nil {
		return nil, err
	}
	return b, await(ctx, b.backendAddr(active-1), b.backend)
}

func (b *bench) backendAddr(i int) string { return "127.0.0.1:" + strconv.Itoa(b.ports+i) }

// certify makes one certificate for the hosts of the first tenant.
func (b *bench) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "t0.test"}, DNSNames: []string{"t0.test", "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(b.dir, "certificates"), 0o700); err != nil {
		return err
	}
	cert, secret := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for name, content := range map[string][]byte{"t0.crt": cert, "t0.key": secret, "t0.pem": slices.Concat(cert, secret)} {
		folder := filepath.Join(b.dir, "certificates")
		if name == "t0.pem" {
			folder = b.dir
		}
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// merge makes one profile of those of all scenarios.
func (b *bench) merge(ctx context.Context) error {
	if b.profile == "" {
		return nil
	}
	all, err := filepath.Glob(filepath.Join(b.dir, "*.prof"))
	if err != nil {
		return err
	}
	for _, name := range all {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		if info.Size() == 0 {
			return fmt.Errorf("profile %s is empty", filepath.Base(name))
		}
	}
	args := append([]string{"tool", "pprof", "-proto", "-output", b.profile}, all...)
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("merge %d profiles: %w\n%s", len(all), err, out)
	}
	return nil
}

func (b *bench) close() {
	b.backend.stop()
	_ = os.RemoveAll(b.dir)
}

// await waits until addr takes connections.
func await(ctx context.Context, addr string, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			return c.Close()
		}
		select {
		case err := <-p.end:
			p.end <- err
			return fmt.Errorf("%s ended: %w\n%s", filepath.Base(p.cmd.Path), err, p.log.String())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w\n%s", addr, ctx.Err(), p.log.String())
		case <-tick.C:
		}
	}
}

// contender is one proxy at one scenario.
type contender struct {
	name string
	// build is the program where the proxy is Gatehouse; empty: the peer's own.
	build string
	work  scenario
	addr  string
	run   *process
	more  *process   // a process beside it, such as a sidecar
	of    *contender // whose process is measured again, at other work; nil: it has its own
	got   []figures
}

// spent is the CPU time and memory of the contender's processes.
func (c *contender) spent() (usage, error) {
	u, err := c.run.spent()
	if err != nil || c.more == nil {
		return u, err
	}
	more, err := c.more.spent()
	return usage{u.user + more.user, u.system + more.system, u.rss + more.rss}, err
}

// scenario measures all its contenders in interleaved rounds.
func (b *bench) scenario(ctx context.Context, s scenario) (string, error) {
	ts, err := b.tenants(s.tenants)
	if err != nil {
		return "", err
	}
	if s.tls { // wrk names in the handshake what it connects to
		ts = slices.Clone(ts)
		ts[0].Host = "localhost"
	}
	all := []*contender{{name: "gatehouse", build: filepath.Join(b.dir, "gatehouse"), work: s}}
	for _, build := range b.builds {
		name, path, _ := strings.Cut(build, "=")
		all = append(all, &contender{name: name, build: path, work: s})
	}
	if s.tenants > active {
		w := s
		w.tenants = active
		all = append(all, &contender{name: thoseAsked, build: all[0].build, work: w})
	}
	if s.churn > 0 {
		w := s
		w.churn = 0
		all = append(all, &contender{name: withoutChanges, work: w, of: all[0]})
	}
	for _, name := range s.peers {
		if !slices.Contains(b.peers, name) {
			continue
		}
		w := s
		if other, ok := s.as[name]; ok {
			w = others()[other]
			w.rate, w.connections = s.rate, s.connections
		}
		all = append(all, &contender{name: name, work: w})
	}
	defer func() {
		for _, c := range all {
			if c.of == nil {
				c.run.stop()
				c.more.stop()
			}
		}
	}()
	for i, c := range all {
		if c.of != nil {
			c.addr, c.run, c.more = c.of.addr, c.of.run, c.of.more
			continue
		}
		c.addr = "127.0.0.1:" + strconv.Itoa(18100+i)
		own := ts
		if c.name == thoseAsked {
			own = ts[:active]
		}
		if err := b.launch(ctx, c, own); err != nil {
			return "", fmt.Errorf("%s: %w", c.name, err)
		}
		if err := b.check(ctx, c, ts); err != nil {
			return "", fmt.Errorf("%s does not do the work: %w", c.name, err)
		}
		if err := script(filepath.Join(b.dir, c.work.name+".lua"), c.work, ts); err != nil {
			return "", err
		}
	}
	for round := range b.work.rounds + 1 { // the first warms up
		for i := range all {
			c := all[i]
			if round%2 == 1 { // what one leaves behind is not always the same one's to bear
				c = all[len(all)-1-i]
			}
			length := b.work.length
			if round == 0 {
				length = time.Second
			}
			f, err := b.round(ctx, c, ts, length)
			if err != nil {
				return "", fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				c.got = append(c.got, f)
			}
		}
	}
	return table(s, all), nil
}

func (b *bench) round(ctx context.Context, c *contender, ts []tenant, length time.Duration) (figures, error) {
	if c.work.rate > 0 {
		return b.open(ctx, c, ts, length)
	}
	return b.closed(ctx, c, length)
}

// table is the outcome of a scenario in Markdown: medians, and of the CPU time
// the least and the most. A ratio is the median of those of the rounds: what
// the machine does beside changes slowly, and a round has its own of it.
func table(s scenario, all []*contender) string {
	var t strings.Builder
	fmt.Fprintf(&t, "### %s\n\n%s\n\n", s.name, s.what)
	t.WriteString("| | CPU µs/request | min–max | of it user | requests/s | p50 | p99 | RSS MiB | Gatehouse's CPU to it | promised |\n|---|---|---|---|---|---|---|---|---|---|\n")
	cpu := func(f figures) float64 { return f.cpu }
	for _, c := range all {
		name, ratio, bound := c.name, "", ""
		if other, ok := s.as[c.name]; ok {
			name += " (" + other + ")"
		}
		if c != all[0] {
			ratio = fmt.Sprintf("%.2f", between(all[0].got, c.got, cpu))
		}
		if p, ok := s.bounds[c.name]; ok {
			got := between(all[0].got, c.got, cpu)
			bound = fmt.Sprintf("%s ≤ %.3g", p.name, p.most)
			if p.p99 {
				got = between(all[0].got, c.got, func(f figures) float64 { return float64(f.p99) })
				bound = fmt.Sprintf("%s p99 %.2f ≤ %.3g", p.name, got, p.most)
			}
			if got > p.most {
				bound += ", missed"
			}
		}
		fmt.Fprintf(&t, "| %s | %.2f | %.2f–%.2f | %.2f | %.0f | %v | %v | %.0f | %s | %s |\n", name, median(c.got, cpu),
			extreme(c.got, cpu, slices.Min[[]float64]), extreme(c.got, cpu, slices.Max[[]float64]),
			median(c.got, func(f figures) float64 { return f.user }),
			median(c.got, func(f figures) float64 { return f.rps }),
			time.Duration(median(c.got, func(f figures) float64 { return float64(f.p50) })).Round(time.Microsecond),
			time.Duration(median(c.got, func(f figures) float64 { return float64(f.p99) })).Round(time.Microsecond),
			median(c.got, func(f figures) float64 { return float64(f.rss) / (1 << 20) }), ratio, bound)
	}
	return t.String()
}

// between is the median of the rounds' ratios of one contender to another.
func between(a, b []figures, of func(figures) float64) float64 {
	v := make([]float64, min(len(a), len(b)))
	for i := range v {
		v[i] = of(a[i]) / of(b[i])
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func values(got []figures, of func(figures) float64) []float64 {
	v := make([]float64, len(got))
	for i, f := range got {
		v[i] = of(f)
	}
	slices.Sort(v)
	return v
}

func median(got []figures, of func(figures) float64) float64 {
	v := values(got, of)
	return v[len(v)/2]
}

func extreme(got []figures, of func(figures) float64, which func([]float64) float64) float64 {
	return which(values(got, of))
}
