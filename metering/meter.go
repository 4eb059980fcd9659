package metering

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// DefaultFlush is the default time between two flushes.
const DefaultFlush = time.Second

// Meter holds the counters of every tenant. It is safe for concurrent use.
type Meter struct {
	every time.Duration

	// mu guards the fields below. The series of a tenant have their own lock.
	mu      sync.Mutex
	file    *file // nil: in memory only, or not adopted yet; Run alone uses what it points to
	tenants map[gatehouse.TenantID]*TenantMeter
	fault   error // of the last flush or Adopt
}

// Open returns the meter whose counts are kept in dir, with those of the last
// flush. It makes dir (mode 0700) where that is missing. It fails if the
// directory cannot be written, and if usage.json is there but not whole: such
// a file is never replaced, and none of it is used. With an empty dir the
// counts are kept in memory only. flush is the time between two flushes, 0
// for DefaultFlush.
func Open(dir string, flush time.Duration) (*Meter, error) {
	m := OpenLater(flush)
	if dir == "" {
		return m, nil
	}
	if err := m.Adopt(dir); err != nil {
		return nil, err
	}
	return m, nil
}

// OpenLater returns a meter that counts from zero in memory, for a process
// whose directory is still another's. It writes nothing before Adopt: what it
// has counted until then is lost if the process is killed.
func OpenLater(flush time.Duration) *Meter {
	if flush <= 0 {
		flush = DefaultFlush
	}
	return &Meter{every: flush, tenants: map[gatehouse.TenantID]*TenantMeter{}}
}

// Adopt adds the counts that are kept in dir to those in memory, exactly
// once, and keeps both there from the next flush on. No other process may use
// dir any more. Counting goes on meanwhile; Usage may show a part of what is
// added. Adopt fails as Open does, with nothing added, and may then be called
// again; Health tells until it succeeds. A meter that has a directory keeps
// it: a second Adopt is an error.
func (m *Meter) Adopt(dir string) error {
	f, snap, err := openFile(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file != nil {
		return errors.New("adopt usage: the meter has a directory already")
	}
	if m.fault = err; err != nil {
		return err
	}
	m.restore(snap)
	m.file = f
	return nil
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
// A meter without a directory writes nothing. Run is called once.
func (m *Meter) Run(ctx context.Context) error {
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

// Health returns the error of the last flush or Adopt, nil while all is well.
// Counting goes on in either case.
func (m *Meter) Health() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault
}

// flush writes the counts if they changed. Only Run calls it.
func (m *Meter) flush() {
	m.mu.Lock()
	f := m.file
	m.mu.Unlock()
	if f == nil {
		return
	}
	err := f.save(m.snapshot())
	m.mu.Lock()
	m.fault = err
	m.mu.Unlock()
}
