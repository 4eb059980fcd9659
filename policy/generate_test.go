package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"
)

// header is a Fields of alternating names and values.
type header []string

func (h header) Len() int { return len(h) / 2 }

func (h header) At(i int) (name, value []byte) { return []byte(h[2*i]), []byte(h[2*i+1]) }

func pick[T any](r *rand.Rand, vs ...T) T { return vs[r.IntN(len(vs))] }

func some(r *rand.Rand, vs ...string) []string {
	var out []string
	for _, v := range vs {
		if r.IntN(2) == 0 {
			out = append(out, v)
		}
	}
	return out
}

func randomClaim(r *rand.Rand, depth int) any {
	if depth > 0 {
		switch r.IntN(4) {
		case 0:
			m := map[string]any{}
			for _, k := range some(r, "a", "b", "c", "GET") {
				m[k] = randomClaim(r, depth-1)
			}
			return m
		case 1:
			vs := make([]any, r.IntN(3))
			for i := range vs {
				vs[i] = randomClaim(r, depth-1)
			}
			return vs
		}
	}
	return pick[any](r, "a", "b", "GET", true, false, nil, 1, 2.0, 2)
}

// randomInput draws from a small domain, so that inputs agree on most parts.
func randomInput(r *rand.Rand) *Input {
	claims := map[string]any{}
	for _, k := range some(r, "a", "b", "c", "jti") {
		claims[k] = randomClaim(r, 2)
	}
	if r.IntN(2) == 0 { // few enough to meet again
		claims = pick(r, map[string]any{"a": 1}, map[string]any{"a": 1, "b": 1}, map[string]any{"a": 2, "b": 1},
			map[string]any{"a": map[string]any{"b": 1, "c": "a"}}, map[string]any{"a": map[string]any{"b": 2, "c": "a"}})
	}
	var h header
	for range r.IntN(4) {
		h = append(h, pick(r, "X-A", "x-a", "X-B", "Cookie", "X-Request-Id"), pick(r, "a", "b", "", "a, b"))
	}
	var client netip.Addr
	if r.IntN(3) > 0 {
		client = netip.MustParseAddr(pick(r, "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1%a"))
	}
	principal := pick(r, Anonymous(), nil, NewIssued(
		pick(r, "", "a", "GET"), pick(r, "jwt", "key"), pick(r, "a", "b"), pick(r, "acme", "a"),
		some(r, "a", "b", "editor"), some(r, "a"), some(r, "b", "GET"), claims))
	return &Input{
		Tenant: pick(r, "acme", "a"), Plan: pick(r, "a", "b", ""), Route: pick(r, "a", "public"),
		Auth: pick(r, "none", "none", "none", "optional", "required"), Features: some(r, "a", "beta"),
		Method: []byte(pick(r, "GET", "a")), Host: []byte(pick(r, "a", "b")),
		Path:     []byte(pick(r, "/", "/a", "/a/", "/a/b", "/b/a", "/a%2Fb", "//a", "", "/%61")),
		Query:    []byte(pick(r, "", "a=b", "q=a", "q=a&q=b", "q", "q=%61", "%71=a", "q=%zz&a=GET", "&q=&", "q=a+b")),
		Protocol: []byte(pick(r, "HTTP/1.1", "a")), BodySize: pick[int64](r, -1, 1, 2),
		Headers: h, Principal: principal, Client: client, TLS: r.IntN(2) == 0,
		Time: time.Unix(pick[int64](r, 0, 0, 29, 59, 60, 89, 119, -1), int64(1+r.IntN(2))), Cert: randomCertificate(r),
	}
}

func randomCertificate(r *rand.Rand) *Certificate {
	if r.IntN(3) == 0 {
		return nil
	}
	return newCertificate(map[string]any{
		"subject": pick(r, "a", "b"), "issuer": "a", "serial": pick(r, "1", "2"), "fingerprint": pick(r, "a", "b"),
		"san": map[string]any{"dns": some(r, "a", "b"), "uri": some(r, "a"), "email": some(r, "b")}, "not_after": pick(r, 1, 2), "a": pick(r, "a", "b"), "b": "b",
	})
}

// mutate changes a few parts of in.
func mutate(r *rand.Rand, in *Input) *Input {
	out, other := *in, randomInput(r)
	for range 1 + r.IntN(3) {
		switch r.IntN(16) {
		case 0:
			out.Tenant = other.Tenant
		case 1:
			out.Plan = other.Plan
		case 2:
			out.Route = other.Route
		case 3:
			out.Features = other.Features
		case 4:
			out.Method = other.Method
		case 5:
			out.Host = other.Host
		case 6:
			out.Path = other.Path
		case 7:
			out.Query = other.Query
		case 8:
			out.Headers = other.Headers
		case 9:
			out.Principal = other.Principal
		case 10:
			out.Client = other.Client
		case 11:
			out.TLS = other.TLS
		case 12:
			out.BodySize = other.BodySize
		case 13:
			out.Protocol = other.Protocol
		case 14:
			out.Time = other.Time
		case 15:
			out.Cert = other.Cert
		}
	}
	return &out
}

// modules writes random tenant modules.
type modules struct {
	r    *rand.Rand
	vars []string
	n    int
}

var paths = []string{
	"input.tenant", "input.plan", "input.route", "input.auth", "input.features.beta", "input.features[input.plan]",
	"input.features", "input.request.method", "input.request.host", "input.request.path", "input.request.protocol",
	"input.request.segments", "input.request.segments[0]", "input.request.segments[1]", "input.request.segments[_]",
	"input.request.query", "input.request.query.q", "input.request.query.q[0]", "input.request.query[input.plan]",
	`input.request.headers["x-a"]`, `input.request.headers["x-b"]`, "input.request.headers.cookie", "input.request.body_size",
	"input.principal.kind", "input.principal.id", "input.principal.tenant", "input.principal.roles", "input.principal.roles[0]",
	"input.principal.issuer", "input.principal.issuer.a", "input.principal.roles[_]", "input.principal.scopes", "input.principal.groups", "input.principal.groups[_]",
	"input.principal.claims", "input.principal.claims.a", "input.principal.claims.a.b", "input.principal.claims.b",
	"input.principal.claims.a[0]", "input.principal.claims.b[_]", "input.principal.claims[input.plan]",
	"input.principal.claims.a[input.request.method]", "input.principal[input.plan]", "input.client.ip", "input.client.tls",
	"input.client.cert", "input.client.cert.subject", "input.client.cert.san", "input.client.cert.san.dns", "input.client.cert.san.dns[_]",
	"input.client.cert.not_after", "input.client.cert.x", "input.client.cert[input.plan]", "input.client.cert.subject.x",
	"input.client", "input.principal", "input.nothing", "input.request.nothing", "input.tenant.x", "input.request.method.x",
}

var wide = []string{"input", "input.request", "input.request.headers", "input[input.plan]", "input.time", `input.request.headers["x-request-id"]`, "input.principal.claims.jti"}

func (g *modules) path() string {
	if g.r.IntN(150) == 0 {
		return pick(g.r, wide...)
	}
	return pick(g.r, paths...)
}

func (g *modules) scalar() string {
	return pick(g.r, `"a"`, `"b"`, `"GET"`, `"acme"`, `"jwt"`, `"/a"`, "1", "2", "true", "false", "null")
}

func (g *modules) term() string {
	switch g.r.IntN(11) {
	case 0, 1, 2, 3:
		return g.path()
	case 4, 5:
		return g.scalar()
	case 6:
		if len(g.vars) > 0 {
			return pick(g.r, g.vars...) + pick(g.r, "", "", ".a", ".b", ".kind")
		}
		return g.scalar()
	case 7:
		return "{" + g.path() + ", " + g.scalar() + "}"
	case 8:
		return fmt.Sprintf("f%d(%s)", g.r.IntN(3), g.path())
	case 9:
		return fmt.Sprintf("object.get(%s, %s, %s)", pick(g.r, "input.principal", "input.principal.claims", "input.features"), g.scalar(), g.scalar())
	default:
		return fmt.Sprintf("r%d", g.r.IntN(4))
	}
}

func (g *modules) local() string {
	g.n++
	v := fmt.Sprintf("v%d", g.n)
	return v
}

func (g *modules) statement() string {
	switch g.r.IntN(21) {
	case 0, 1, 2:
		return g.term() + " == " + g.term()
	case 3:
		return "not " + g.path()
	case 4:
		return "not " + g.term() + " == " + g.scalar()
	case 5, 6:
		v := g.local()
		s := v + " := " + g.term()
		g.vars = append(g.vars, v)
		return s
	case 7:
		v := g.local()
		s := fmt.Sprintf("some %s in %s\n\t%s != %s", v, g.path(), v, g.scalar())
		g.vars = append(g.vars, v)
		return s
	case 8:
		return g.path()
	case 9:
		return fmt.Sprintf("every e in %s { e != %s }", g.path(), g.scalar())
	case 10:
		return fmt.Sprintf("count([x | x := %s[_]]) > %d", g.path(), g.r.IntN(2))
	case 11:
		return fmt.Sprintf("r%d with %s as %s", g.r.IntN(4), pick(g.r, "input.plan", "input.principal.claims.a", "input.principal.claims.a.b",
			"input.request", "input.request.method", "input.principal", "input", "input.features.beta", "input.request.segments"), g.term())
	case 12:
		return fmt.Sprintf("%s in %s", g.term(), g.path())
	case 13:
		return fmt.Sprintf("f%d(%s)", g.r.IntN(3), g.path())
	case 14:
		return "_ = " + g.path()
	case 15:
		return fmt.Sprintf("walk(%s, [_, %s])", g.path(), g.scalar())
	case 16:
		return fmt.Sprintf("startswith(%s, %s)", g.path(), g.path())
	case 17:
		return fmt.Sprintf("{%q: %s} = %s", pick(g.r, "a", "beta", "b"), g.scalar(), g.path())
	case 18:
		return fmt.Sprintf("p[%s]", g.term())
	case 19:
		if g.r.IntN(30) == 0 {
			return "time.now_ns() > 1"
		}
		return g.term() + " != " + g.term()
	default:
		return fmt.Sprintf("[_, %s] = %s", g.scalar(), g.path())
	}
}

// body keeps to rules and functions below layer, so that none is recursive.
func (g *modules) body(layer int) string {
	g.vars = nil
	lines := make([]string, 0, 4)
	for range 1 + g.r.IntN(4) {
		s := g.statement()
		for i := layer; i < 4; i++ {
			s = strings.ReplaceAll(s, fmt.Sprintf("r%d", i), g.scalar())
		}
		if layer < 0 {
			s = strings.NewReplacer("f0(", "count(", "f1(", "count(", "f2(", "count(", "r0", "1", "r1", "1", "r2", "1", "r3", "1").Replace(s)
		}
		if layer < 4 && strings.HasPrefix(s, "p[") {
			s = "true"
		}
		lines = append(lines, s)
	}
	if len(g.vars) > 0 { // strict compilation refuses unused ones
		lines = append(lines, "["+strings.Join(g.vars, ", ")+"]")
	}
	return strings.Join(lines, "\n\t")
}

func (g *modules) source() string {
	var b strings.Builder
	b.WriteString("package gatehouse.tenant\n\ndefault allow := false\n")
	if g.r.IntN(3) == 0 { // some of them read the time
		fmt.Fprintf(&b, "cache_seconds := %s\n", pick(g.r, "1", "30", "60", "90"))
		fmt.Fprintf(&b, "allow if %s %s %d\n", pick(g.r, "input.time", "time.now_ns()", "input.time % 100"), pick(g.r, "==", "<", ">="), pick(g.r, 0, 1, 2, 29_000_000_001, 30_000_000_000, 60_000_000_000, 60_000_000_001))
	}
	for i := range 3 {
		fmt.Fprintf(&b, "f%d(x) := %s if {\n\t%s\n}\n", i, pick(g.r, "x", "x.a", "[x, 1]", "is_string(x)", "{input.plan: x}"), g.body(-1))
	}
	for i := range 4 {
		fmt.Fprintf(&b, "r%d := %s if {\n\t%s\n}", i, pick(g.r, "true", "1", g.path()), g.body(i))
		if g.r.IntN(3) == 0 {
			fmt.Fprintf(&b, " else := %s if {\n\t%s\n}", g.path(), g.body(i))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "p contains %s if {\n\t%s\n}\n", g.path(), g.body(4-1))
	fmt.Fprintf(&b, "q[%s] := %s if {\n\t%s\n}\n", g.path(), g.scalar(), g.body(3))
	for range 1 + g.r.IntN(2) {
		fmt.Fprintf(&b, "allow if {\n\t%s\n}\n", g.body(4))
	}
	fmt.Fprintf(&b, "allow if q.%s\n", pick(g.r, "a", "b", "GET"))
	if g.r.IntN(2) == 0 {
		fmt.Fprintf(&b, "reason := %s if {\n\t%s\n}\n", g.path(), g.body(4))
		fmt.Fprintf(&b, "public if {\n\t%s\n}\n", g.body(4))
		fmt.Fprintf(&b, "status := 400 + %s\n", pick(g.r, "1", "input.request.body_size"))
	}
	if g.r.IntN(4) == 0 {
		fmt.Fprintf(&b, "obligations := {%q: %s, \"log\": {\"x\": sprintf(\"%%v\", [%s])}} if {\n\t%s\n}\n",
			pick(g.r, "cost", "cost", "cost", "costs"), pick(g.r, "1", "2", "input.request.body_size"), g.path(), g.body(4))
	}
	return b.String()
}
