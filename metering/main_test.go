package metering

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain also is the process that the crash tests kill.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == victimName {
		fmt.Fprintln(os.Stderr, victim(os.Args[2:]))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

var long = flag.Bool("long", false, "run the long form of the tests")

// pick returns the long or the short form of something.
func pick[T any](longer, shorter T) T {
	if *long {
		return longer
	}
	return shorter
}

var noon = time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)

// bench is a meter on a clock that the test moves.
type bench struct {
	t    testing.TB
	dir  string
	live string
	sys  *system
	wall time.Time
	mono time.Duration
	told []Event
}

// quick is a disk that is never lost, so that nothing need wait for it.
type quick struct{ osDisk }

func (quick) SyncDir(string) error { return nil }

func (q quick) Create(path string) (file, error) {
	f, err := q.osDisk.Create(path)
	return quickFile{f}, err
}

func (q quick) Open(path string) (file, error) {
	f, err := q.osDisk.Open(path)
	return quickFile{f}, err
}

type quickFile struct{ file }

func (quickFile) Sync() error { return nil }

// newBench returns one with small segments.
func newBench(t testing.TB) *bench {
	b := &bench{t: t, dir: t.TempDir(), live: t.TempDir(), wall: noon}
	b.sys = hostSystem()
	b.sys.segment = 16 << 10
	b.sys.small, b.sys.large = 64<<10, 64<<10
	b.sys.disk = quick{}
	b.sys.clock = func() (time.Time, time.Duration) { return b.wall, b.mono }
	return b
}

func (b *bench) options() Options {
	return Options{Dir: b.dir, Live: b.live, Tell: func(e Event) { b.told = append(b.told, e) }}
}

func (b *bench) open(o Options) *Meter {
	b.t.Helper()
	m, err := open(o, b.sys)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

// pass lets time go by and flushes.
func (b *bench) pass(m *Meter, d time.Duration) {
	b.wall, b.mono = b.wall.Add(d), b.mono+d
	m.tick()
}

// die leaves a meter as a kill does: what it holds of the kernel is closed.
func die(m *Meter) {
	m.flush.wal.drop()
	_ = m.flush.unlock()
}

// end ends a meter as Run does.
func end(t testing.TB, m *Meter) {
	t.Helper()
	if err := m.flush.end(); err != nil {
		t.Fatal(err)
	}
	m.shipRest(t.Context())
	if err := m.flush.unlock(); err != nil {
		t.Fatal(err)
	}
}

// memory returns a meter without a folder.
func memory(t testing.TB) *Meter {
	t.Helper()
	m, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func count(m *Meter, n int) {
	for range n {
		m.Tenant("acme").Series("", "r", []byte("ann")).Count(200, 1, 2, 3, 4*time.Microsecond)
	}
}
