package metering

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// rows counts what a sink is told.
type rows struct {
	mu     sync.Mutex
	n      int64 // guarded by mu
	latest map[Cell]int64
}

func (*rows) Name() string { return "rows" }

func (r *rows) Write(_ context.Context, b Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += int64(len(b.Cells))
	for _, c := range b.Cells {
		v := c.Value
		c.Value = 0
		r.latest[c] = max(r.latest[c], v)
	}
	return nil
}

// What 10,000 series of 1,000 tenants cost in a minute in which all of them
// count each second: bytes of log, and cells that a sink is told. The short
// form takes a second.
func TestMinute(t *testing.T) {
	sink := &rows{latest: map[Cell]int64{}}
	m, err := Open(Options{Dir: t.TempDir(), Flush: pick(time.Second, 20*time.Millisecond), Sinks: []Sink{sink}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	var all []*Series
	for i := range 10_000 {
		all = append(all, m.Tenant(gatehouse.TenantID(fmt.Sprint("tenant-", i%1000))).Series("gold", "orders", fmt.Append(nil, "user-", i/1000, "@example.com")))
	}
	began := time.Now()
	want, rounds := int64(0), pick(60, 1)
	tick := time.NewTicker(pick(time.Second, 100*time.Millisecond))
	defer tick.Stop()
	for range rounds {
		for _, s := range all {
			s.Count(200, 100, 2000, 0, time.Millisecond)
			want++
		}
		<-tick.C
	}
	took := time.Since(began)
	m.flush.mu.Lock()
	bytes := logged(t, m)
	m.flush.mu.Unlock()
	sink.mu.Lock()
	told, cells := sink.n, len(sink.latest)
	sink.mu.Unlock()
	t.Logf("%v: %d bytes of log, a sink was told %d cells of %d", took.Round(time.Second), bytes, told, cells)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	got := int64(0)
	for c, n := range sink.latest {
		if c.Meter == MeterRequests {
			got += n
		}
	}
	if got != want {
		t.Errorf("the sink has %d requests, want %d", got, want)
	}
}
