package journal_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// The long forms: go test ./control/journal -args -writes 10000 -tenants 100000 -tamper.
var (
	writes      = flag.Int("writes", 100, "acknowledged writes of TestKill, on each store")
	tenantCount = flag.Int("tenants", 100, "tenants of TestLarge, with ten keys each")
	every       = flag.Bool("tamper", false, "flip every bit of every column of 50 stored events, 500 bits in a stored journal of 10,000, and every bit of one in memory")
)

// writerAddress makes the test binary a process that writes until it is
// killed.
const writerAddress = "JOURNAL_WRITER"

func TestMain(m *testing.M) {
	if address := os.Getenv(writerAddress); address != "" {
		write(address)
		return
	}
	flag.Parse()
	// The server's watcher is read once and no more.
	goleak.VerifyTestMain(m)
}

// write commits from several goroutines and says which events were
// acknowledged. Each event adds one to a writer's two resources.
func write(address string) {
	ctx := context.Background()
	j, err := journal.Open(ctx, journal.Config{Address: address, Index: index})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	var wg sync.WaitGroup
	var out sync.Mutex
	for w := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				tenant := fmt.Sprint("w", w)
				body := fmt.Appendf(nil, `{"plan":"p%d","n":%d}`, n%3, n)
				e, err := j.Commit(ctx, journal.Change{
					Actor: "writer", Kind: "count", Tenant: tenant,
					Puts: []journal.Put{
						{Ref: journal.Ref{Kind: "tenant", Tenant: tenant, ID: "x"}, Body: body},
						{Ref: journal.Ref{Kind: "tenant", Tenant: tenant, ID: fmt.Sprint("y", n%5)}, Body: body},
					},
				})
				out.Lock()
				if err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println("event", e.Seq, e.Hash)
				}
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

var index = journal.Index{"tenant": {"plan": "/plan", "domain": "/domain", "status": "/status"}}
