package metering

import (
	"context"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// DefaultFlush is the default time between two flushes.
const DefaultFlush = time.Second

// Meter holds the counters of every tenant. It is safe for concurrent use.
type Meter struct {
	file  *file // nil: in memory only
	every time.Duration

	// mu guards the fields below. The series of a tenant have their own lock.
	mu      sync.Mutex
	tenants map[gatehouse.TenantID]*TenantMeter
	fault   error // of the last flush
}

// Open returns the meter whose counts are kept in dir, with those of the last
// flush. It makes dir (mode 0700) where that is missing. It fails if the
// directory cannot be written, and if usage.json is there but not whole: such
// a file is never replaced, and none of it is used. With an empty dir the
// counts are kept in memory only. flush is the time between two flushes, 0
// for DefaultFlush.
func Open(dir string, flush time.Duration) (*Meter, error) {
	if flush <= 0 {
		flush = DefaultFlush
	}
	m := &Meter{every: flush, tenants: map[gatehouse.TenantID]*TenantMeter{}}
	if dir == "" {
		return m, nil
	}
	f, snap, err := openFile(dir)
	if err != nil {
		return nil, err
	}
	m.file = f
	m.restore(snap)
	return m, nil
}

// Tenant returns the counters of a tenant. It is the same value for every
// call with the same id.
func (m *Meter) Tenant(id gatehouse.TenantID) *TenantMeter {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tenants[id]
	if t == nil {
		t = newTenant(time.Now().UTC())
		m.tenants[id] = t
	}
	return t
}

// Run writes the counts at every flush interval in which they changed, until
// ctx ends, and then once more. It returns the error of that last flush. A
// flush that fails before is tried again at the next interval; Health tells.
// Run is called once.
func (m *Meter) Run(ctx context.Context) error {
	if m.file == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(m.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.flush()
		case <-ctx.Done():
			m.flush()
			return m.Health()
		}
	}
}

// Health returns the error of the last flush, nil while all is well. Counting
// goes on in either case.
func (m *Meter) Health() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault
}

// flush writes the counts if they changed. Only Run calls it.
func (m *Meter) flush() {
	err := m.file.save(m.snapshot())
	m.mu.Lock()
	m.fault = err
	m.mu.Unlock()
}
