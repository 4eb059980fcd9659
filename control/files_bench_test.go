package control

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// tenantText is one tenant of a document, as a list's item.
func tenantText(i, version int) string {
	return fmt.Sprintf(`  - id: tenant-%[1]d
    name: version %[2]d
    domain: tenant-%[1]d.example.com
    aliases: [www.tenant-%[1]d.example.com]
    plan: gold
    identity:
      api_keys: {keys: [{id: app, hash: "sha256:1%063[1]x"}]}
    backends:
      - id: app
        endpoints: [{url: "http://10.0.0.1:8080"}, {url: "http://10.0.0.2:8080"}]
    routes:
      - {id: root, match: {path: /}, backend: app}
      - {id: api, match: {path: "/api/{kind}", methods: [GET, PUT]}, backend: app}
`, i, version)
}

// BenchmarkSave changes one tenant of many in its file, and brings it in force
// but for the data plane.
func BenchmarkSave(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		for _, each := range []int{1, n} {
			name := fmt.Sprintf("tenants=%d/files=%d", n, n/each)
			b.Run(name, func(b *testing.B) {
				dir := b.TempDir()
				save := func(file, changed, version int) {
					var text strings.Builder
					text.WriteString("tenants:\n")
					for i := file * each; i < (file+1)*each; i++ {
						v := 0
						if i == changed {
							v = version
						}
						text.WriteString(tenantText(i, v))
					}
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.yaml", file)), []byte(text.String()), 0o600); err != nil {
						b.Fatal(err)
					}
				}
				if err := os.WriteFile(filepath.Join(dir, "plans.yaml"), []byte("plans: [{id: gold}]\n"), 0o600); err != nil {
					b.Fatal(err)
				}
				for file := range n / each {
					save(file, -1, 0)
				}
				changed := 0
				book := NewBook(func(u gatehouse.Update) gatehouse.Outcome {
					changed = len(u.Tenants)
					return gatehouse.Outcome{Revision: u.Revision}
				})
				f := NewFiles(dir, book, slog.New(slog.DiscardHandler))
				f.Load()
				f.Load() // files so fresh that they might have been written twice are read again
				b.ReportAllocs()
				version := 0
				for b.Loop() {
					b.StopTimer()
					version++
					i := version * 7919 % n
					save(i/each, i, version)
					b.StartTimer()
					if f.Load(); changed != 1 && (each == 1 || changed != 2) { // the one before goes back in a file of all
						b.Fatalf("%d tenants changed: %v", changed, book.Revisions()[0].Problems)
					}
				}
			})
		}
	}
}
