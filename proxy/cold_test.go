package proxy_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// BenchmarkTenants is the line without the backend, where tenants take turns.
// Of one tenant everything is in the processor's caches; of a thousand little
// is left when a tenant's turn comes again: the difference is memory.
func BenchmarkTenants(b *testing.B) {
	expand := credentials(b)
	begin, end, _ := strings.Cut(expand(fmt.Sprintf(costDocument, "127.0.0.1:9")), "tenants:\n")
	_, full, _ := strings.Cut(end, "  - id: full\n    domain: full.test\n")
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			doc := strings.Builder{}
			doc.WriteString(begin + "tenants:\n")
			heads := make([][]byte, n)
			for i := range n {
				// Keys belong to one tenant; tokens of this issuer are good at all.
				tenant := strings.ReplaceAll(full, "api_keys:", "#")
				fmt.Fprintf(&doc, "  - id: t%d\n    domain: t%d.test\n%s", i, i, tenant)
				heads[i] = []byte(expand(fmt.Sprintf("GET /api/tracks/7 HTTP/1.1\r\nHost: t%d.test\r\nUser-Agent: test\r\nAuthorization: Bearer $STUDIO_EDITOR\r\n\r\n", i)))
			}
			h := proxytest.New(b, doc.String(), proxytest.Options{Parts: func(p *proxy.Parts) { p.Access, p.Meter = io.Discard, running(b) }})
			for _, head := range heads {
				if err := h.Gateway.Line(head); err != nil {
					b.Fatal(err)
				}
			}
			i := 0
			for b.Loop() {
				_ = h.Gateway.Line(heads[i]) // as above
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}
