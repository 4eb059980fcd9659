package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// httpExample is the HTTP API example of OPA's documentation, with verified
// claims in place of its token.
const httpExample = `package gatehouse.tenant

default allow := false

allow if {
	input.request.method == "GET"
	input.request.segments = ["finance", "salary", username]
	input.principal.id == username
}

allow if {
	input.request.method == "GET"
	input.request.segments = ["finance", "salary", username]
	subordinates[input.principal.id][_] == username
}

allow if {
	input.request.method == "GET"
	input.request.segments = ["finance", "salary", _]
	"hr" in input.principal.groups
}

subordinates := {"alice": [], "charlie": [], "bob": ["alice"], "betty": ["charlie"]}
`

type header [][2][]byte

func (h header) Len() int { return len(h) }

func (h header) At(i int) (name, value []byte) { return h[i][0], h[i][1] }

func fields(pairs ...string) header {
	var h header
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, [2][]byte{[]byte(pairs[i]), []byte(pairs[i+1])})
	}
	return h
}

// salary is a request that httpExample allows.
func salary() *policy.Input {
	return &policy.Input{
		Tenant: "acme", Plan: "gold", Route: "finance", Auth: "required", Features: []string{"beta"},
		Method: []byte("GET"), Host: []byte("api.acme.example"), Path: []byte("/finance/salary/alice"),
		Query: []byte("year=2026"), Protocol: []byte("HTTP/1.1"),
		Headers:   fields("User-Agent", "curl/8.0", "Accept", "*/*", "X-Team", "blue"),
		Principal: policy.NewPrincipal("jwt", "bob", "acme", []string{"viewer"}, []string{"read"}, []string{"eng"}, map[string]any{"sub": "bob"}),
		Client:    netip.MustParseAddr("192.0.2.7"), TLS: true, Time: time.Unix(1_800_000_000, 0),
	}
}

// fourteen reads 14 parts of the input.
const fourteen = `package gatehouse.tenant
allow if {
	input.tenant == "acme"; input.plan == "gold"; input.route == "finance"; input.features.beta
	input.request.method == "GET"; input.request.host == "api.acme.example"; input.request.segments[0] == "finance"
	input.request.query.year == ["2026"]; input.request.headers["x-team"] == "blue"; input.request.protocol == "HTTP/1.1"
	input.principal.id == "bob"; "viewer" in input.principal.roles; input.principal.claims.sub == "bob"; input.client.tls
}
`

func BenchmarkSeen(b *testing.B) {
	for name, source := range map[string]string{"http": httpExample, "example": example, "fourteen": fourteen} {
		b.Run(name, func(b *testing.B) {
			p, in := compile(b, roomy(b), source), salary()
			p.Decide(in)
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(in)
			}
		})
	}
}

// BenchmarkNew evaluates a request of a kind not seen before, by a caller
// whom the baseline has admitted before: what promise S5 speaks of.
func BenchmarkNew(b *testing.B) {
	for name, source := range map[string]string{"http": httpExample, "example": example, "fourteen": fourteen} {
		b.Run(name, func(b *testing.B) {
			p, in := compile(b, roomy(b), source), salary()
			p.KeepNone()
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(in)
			}
		})
	}
}

// BenchmarkFirst evaluates both policies.
func BenchmarkFirst(b *testing.B) {
	for name, source := range map[string]string{"http": httpExample, "example": example, "fourteen": fourteen, "baseline": ""} {
		b.Run(name, func(b *testing.B) {
			e := engine(b, policy.Config{Deadline: time.Minute, CacheEntries: -1})
			p, in := baselineOr(b, e, source), salary()
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(in)
			}
		})
	}
}

// BenchmarkDenied evaluates a denial: it asks for the reason as well.
func BenchmarkDenied(b *testing.B) {
	e := engine(b, policy.Config{Deadline: time.Minute, CacheEntries: -1})
	p, in := compile(b, e, httpExample), salary()
	in.Method = []byte("POST")
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(in)
	}
}

func baselineOr(tb testing.TB, e *policy.Engine, source string) *policy.Policy {
	if source == "" {
		return compile(tb, e)
	}
	return compile(tb, e, source)
}

func BenchmarkCompile(b *testing.B) {
	b.Run("new", func(b *testing.B) {
		e := roomy(b)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			compile(b, e, httpExample+fmt.Sprintf("# %d\n", i))
		}
	})
	b.Run("shared", func(b *testing.B) {
		e := roomy(b)
		keep := compile(b, e, httpExample)
		b.ReportAllocs()
		for b.Loop() {
			compile(b, e, httpExample)
		}
		keep.Decide(salary())
	})
	b.Run("large", func(b *testing.B) {
		var source strings.Builder
		source.WriteString("package gatehouse.tenant\n")
		for i := range 1000 {
			fmt.Fprintf(&source, "allow if { input.plan == \"p%d\"; input.principal.claims.c%d == input.route; some r in input.principal.roles; r == \"r%d\" }\n", i, i, i)
		}
		b.ReportAllocs()
		for b.Loop() {
			if p, faults := roomy(b).Compile([]gatehouse.Module{{Name: "a.rego", Source: source.String()}}); p == nil {
				b.Fatal(faults)
			}
		}
	})
}
