package metering

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Options say where and how counts are kept. The zero value keeps them in
// memory only.
type Options struct {
	// Dir is the folder of the process; metering has its own in it, which is
	// made (mode 0700) where it is missing. Empty: counts are in memory only.
	Dir string
	// Live is a folder for the live file, on a local disk or in memory.
	// Default: /dev/shm where that is memory, can be written and outlives the
	// process (not so in a container), else Dir.
	Live string
	// Flush is the time between two writes of the log. Default DefaultFlush.
	Flush time.Duration
	// Series bounds the series of a tenant. Default MaxSeries.
	Series int
	// Log bounds the bytes of the logs of all epochs. Default 1 GiB. Usage is
	// kept beyond it, in coarser windows; see Full.
	Log int64
	// Retain is how long sealed usage stays in the log where there is no sink.
	// Default DefaultRetain.
	Retain time.Duration
	// Network allows a network file system, where nothing of this is certain.
	Network bool
	// Refuse has Full tell that requests should be refused while usage cannot
	// be written. Otherwise they are counted in the live file and in memory.
	Refuse bool
	// Sinks get every cell. Each has a name of its own.
	Sinks []Sink
	// Tell is told what an operator should know; nil: nobody is. It must not
	// block.
	Tell func(Event)
}

// Event is something that an operator should know.
type Event struct {
	// What is a constant text.
	What string
	// Epoch that it concerns.
	Epoch Epoch
	// Detail differs from one to the next.
	Detail string
}

// Defaults of Options.
const (
	DefaultFlush  = time.Second
	DefaultRetain = 24 * time.Hour
	DefaultLog    = 1 << 30
)

const (
	// sealDelay is the time from the end of a minute to its seal.
	sealDelay = 2 * time.Second
	// holdAfter is how many minutes may wait for their seal before the window
	// is held: usage is then counted in fewer, longer windows.
	holdAfter = 5
	// missingAfter is how long no seal may succeed before Health tells.
	missingAfter = 5 * time.Minute
)

// Meter holds the counters of every tenant. It is safe for concurrent use.
type Meter struct {
	o      Options
	bound  int // of the series of a tenant
	system *system
	live   live
	dirty  dirty
	window atomic.Uint32 // the minute that counts; the flusher moves it

	// past is held while records are released, and read-held while counts are
	// added up: a record is never missed, nor met twice. It guards the before
	// and sealed counts of every Series.
	past sync.RWMutex

	flush flusher
	ships []*shipper
	full  atomic.Pointer[error] // what Full tells; nil: nothing

	// mu guards the fields below. The series of a tenant have their own lock.
	mu      sync.Mutex
	tenants map[gatehouse.TenantID]*TenantMeter
	old     []*oldEpoch // that are adopted and not dropped yet
	fault   error       // of the last flush or Adopt

	recoveries []Recovery // the last of them
	// recovered and cut are what all of them say.
	recovered, cut int64
}

// Open returns the meter whose counts are kept in o.Dir, with those of every
// process that has counted there before and ended, however it ended. It fails
// if another process has the folder, if it cannot be written or is on a
// network file system, and if what is there cannot be read: that is then left
// as it is.
func Open(o Options) (*Meter, error) { return open(o, hostSystem()) }

// OpenLater returns a meter for a process whose folder still has another
// owner. It counts from zero in an epoch of its own, which is as safe as any,
// and leaves everything else in the folder alone until Adopt.
func OpenLater(o Options) (*Meter, error) { return openLater(o, hostSystem()) }

func open(o Options, sys *system) (*Meter, error) {
	m, err := openLater(o, sys)
	if err != nil || o.Dir == "" {
		return m, err
	}
	if err := m.Adopt(); err != nil {
		return nil, errors.Join(err, m.abandon())
	}
	return m, nil
}

func openLater(o Options, sys *system) (*Meter, error) {
	if o.Flush <= 0 {
		o.Flush = DefaultFlush
	}
	if o.Series <= 0 {
		o.Series = MaxSeries
	}
	if o.Retain <= 0 {
		o.Retain = DefaultRetain
	}
	if o.Log <= 0 {
		o.Log = DefaultLog
	}
	m := &Meter{o: o, bound: o.Series, system: sys, tenants: map[gatehouse.TenantID]*TenantMeter{}}
	m.flush.m = m
	m.flush.clock = newClock(sys.clock)
	m.window.Store(minute(m.flush.clock.now))
	m.flush.sealed = m.window.Load() - 1
	if o.Dir == "" {
		return m, nil
	}
	if err := m.begin(); err != nil {
		return nil, err
	}
	return m, nil
}

// begin makes the meter's epoch.
func (m *Meter) begin() error {
	f, err := openFolder(m.o.Dir, m.o.Network, m.system)
	if err != nil {
		return err
	}
	at := ""
	if m.system.maps {
		at = liveFolder(m.o.Live)
		if !m.o.Network && at != "" {
			if err := local(at); err != nil {
				return fmt.Errorf("use live folder: %w", err)
			}
		}
	}
	meta, lock, err := f.begin(at, m.system.maps)
	if err != nil {
		return err
	}
	fl := &m.flush
	fl.folder, fl.meta, fl.lock = f, meta, lock
	fl.wal = &wal{disk: m.system.disk, dir: f.dir(meta.Epoch), id: meta.identity, small: m.system.small}
	fl.wal.large = max(min(m.system.large, m.o.Log/8), m.system.small)
	fl.wal.nonce = meta.Epoch.Nonce
	if meta.Live != "" {
		maps := &mapper{meta: meta, system: m.system}
		m.live.make, m.live.bound = maps.make, liveSegments
		m.live.mu.Lock()
		m.live.grow()
		m.live.mu.Unlock()
		m.spare()
	} else {
		m.tell("counts do not survive a kill", "there is no live file on this system")
	}
	m.ships = newShippers(m)
	return nil
}

// abandon undoes begin.
func (m *Meter) abandon() error {
	fl := &m.flush
	return errors.Join(fl.unlock(), os.RemoveAll(fl.meta.Live), os.RemoveAll(fl.folder.dir(fl.meta.Epoch)))
}

func (m *Meter) tell(what, detail string) {
	if m.o.Tell != nil {
		m.o.Tell(Event{What: what, Epoch: m.flush.meta.Epoch, Detail: detail})
	}
}

// Epoch returns the meter's own epoch and the gateway's name; zero without a
// folder.
func (m *Meter) Epoch() (gateway string, e Epoch) {
	return m.flush.meta.Gateway, m.flush.meta.Epoch
}

// Tenant returns the counters of a tenant. It is the same value for every
// call with the same id.
func (m *Meter) Tenant(id gatehouse.TenantID) *TenantMeter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tenant(id, time.Now().UTC())
}

// tenant returns the counters of a tenant that has been there since; m.mu is
// held.
func (m *Meter) tenant(id gatehouse.TenantID, since time.Time) *TenantMeter {
	t := m.tenants[id]
	if t == nil {
		t = newTenant(m, id, since)
		m.tenants[id] = t
	}
	if since.Before(t.since) {
		t.since = since
	}
	return t
}

func (m *Meter) since(id gatehouse.TenantID) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tenants[id].since
}

// Run writes the log at every flush interval, seals minutes and sends cells to
// the sinks until ctx ends. Then it writes once more, ends the epoch, gives
// the sinks a moment to take the rest, and gives the folder back; nothing may
// be counted any more. It returns the error of that end. A flush that fails before is tried again at the next interval;
// Health tells. A meter without a folder writes nothing. Run is called once.
func (m *Meter) Run(ctx context.Context) error {
	if m.flush.wal == nil {
		<-ctx.Done()
		return nil
	}
	var wg sync.WaitGroup
	for _, s := range m.ships {
		wg.Go(func() { s.run(ctx) })
	}
	tick := time.NewTicker(m.o.Flush)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.tick()
			continue
		case <-ctx.Done():
		}
		wg.Wait()
		err := m.flush.end()
		if err == nil {
			m.shipRest(context.WithoutCancel(ctx))
		}
		err = errors.Join(err, m.flush.unlock())
		m.note(err)
		return err
	}
}

// note keeps the error of a flush for Health, and tells of the first.
func (m *Meter) note(err error) {
	m.mu.Lock()
	was := m.fault
	m.fault = err
	m.mu.Unlock()
	if m.o.Refuse && err != nil {
		m.full.Store(&err)
	} else {
		m.full.Store(nil)
	}
	if err != nil && was == nil {
		m.tell("usage cannot be written", err.Error())
	} else if err == nil && was != nil {
		m.tell("usage can be written again", "")
	}
}

// Health returns the error of the last flush or Adopt, and of minutes that
// are not sealed although they should be; nil while all is well. Counting
// goes on in either case.
func (m *Meter) Health() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault
}
