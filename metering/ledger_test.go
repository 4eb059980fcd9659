package metering

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// book is a sink that keeps the largest value of each cell.
type book struct {
	name string
	// fault is asked before and after each write; nil: none.
	fault func(after bool) error
	// again writes each batch so many times more, shuffled.
	again int

	mu     sync.Mutex
	cells  map[string]int64
	sealed map[string]int64 // the cells as of their seal
	seals  map[Epoch]time.Time
	final  map[Epoch]bool
	wrong  []string
	writes int
}

func newBook(name string) *book {
	return &book{name: name, cells: map[string]int64{}, sealed: map[string]int64{}, seals: map[Epoch]time.Time{}, final: map[Epoch]bool{}}
}

func (b *book) Name() string { return b.name }

func cellName(c *Cell) string {
	return fmt.Sprint(c.Gateway, " ", c.Epoch, " ", c.Window.Format("15:04"), " ", c.Series, " ", c.Meter)
}

func (b *book) Write(_ context.Context, batch Batch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault != nil {
		if err := b.fault(false); err != nil {
			return err
		}
	}
	b.writes++
	cells := slices.Clone(batch.Cells)
	for range b.again + 1 {
		for i := range cells {
			c := &cells[i]
			name := cellName(c)
			// A window that is sealed may be told again, but not as more.
			if end, ok := b.seals[c.Epoch]; ok && !c.Window.After(end) && c.Value > b.cells[name] {
				b.wrong = append(b.wrong, fmt.Sprintf("%s was %d when sealed and is %d", name, b.cells[name], c.Value))
			}
			b.cells[name] = max(b.cells[name], c.Value)
		}
		rand.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	}
	for _, s := range batch.Seals {
		if s.Window.After(b.seals[s.Epoch]) {
			b.seals[s.Epoch] = s.Window
		}
		b.final[s.Epoch] = b.final[s.Epoch] || s.Final
	}
	if b.fault != nil {
		return b.fault(true)
	}
	return nil
}

// sum returns the requests.
func (b *book) sum() (n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, v := range b.cells {
		if strings.HasSuffix(name, " "+MeterRequests) {
			n += v
		}
	}
	return n
}

// Whatever a sink does, it has each cell once in the end, and no sealed cell
// changes: invariants I3 and I6.
func TestSinks(t *testing.T) {
	live := t.TempDir()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var calm atomic.Bool
		var row atomic.Int32 // of faults: with more than three the sink may be behind for minutes
		chaos := func(after bool) error {
			if rand.IntN(3) == 0 && !calm.Load() && row.Add(1) <= 3 {
				return fmt.Errorf("fault, after %t", after)
			}
			if after {
				row.Store(0)
			}
			return nil
		}
		good, bad, slow := newBook("good"), newBook("bad"), newBook("slow")
		bad.fault, bad.again = chaos, 2
		var up atomic.Bool
		slow.fault = func(bool) error {
			if !up.Load() {
				return errors.New("down")
			}
			return nil
		}
		books := []*book{good, bad, slow}
		told := make(chan string, 1000)
		begin := func() (*Meter, func()) {
			sys := hostSystem()
			sys.segment, sys.small = 16<<10, 64<<10
			m, err := open(Options{Dir: dir, Live: live, Sinks: []Sink{good, bad, slow}, Tell: func(e Event) { told <- e.What }}, sys)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()
			return m, func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		m, stop := begin()
		sum := 0
		for range 15 * 6 {
			count(m, 7)
			sum += 7
			<-time.After(10 * time.Second) // of the bubble's clock
		}
		for _, s := range m.Sinks() {
			want := s.Name == "slow"
			if s.Missing != want || (s.LastError != nil) != want && s.Name != "bad" || want && (s.Behind == 0 || s.Since.IsZero()) {
				t.Errorf("%+v", s)
			}
		}
		if slow.writes != 0 || good.sum() != int64(sum) {
			t.Errorf("slow was written %d times, good has %d of %d", slow.writes, good.sum(), sum)
		}
		up.Store(true)
		<-time.After(3 * time.Minute)
		if s := m.Sinks()[2]; s.Missing || s.LastError != nil || slow.sum() != int64(sum) {
			t.Errorf("%+v, %d of %d", s, slow.sum(), sum)
		}
		stop()
		for range 3 {
			m, stop = begin()
			count(m, 5)
			sum += 5
			<-time.After(2 * time.Minute)
			stop()
		}
		_, stop = begin()
		<-time.After(5 * time.Minute)
		calm.Store(true)
		stop()
		for _, b := range books {
			if got := b.sum(); got != int64(sum) {
				t.Errorf("%s has %d requests of %d", b.name, got, sum)
			}
			if !maps.Equal(b.cells, good.cells) {
				t.Errorf("%s has other cells than good", b.name)
			}
			for _, w := range b.wrong {
				t.Error(b.name, w)
			}
			for e := range b.seals {
				if !b.final[e] {
					t.Errorf("%s: epoch %v does not end", b.name, e)
				}
			}
			if len(b.seals) != 5 {
				t.Errorf("%s knows %d epochs, want 5", b.name, len(b.seals))
			}
		}
		m, stop = begin()
		if u := m.Usage("acme", noon); u.Total.Requests != int64(sum) {
			t.Errorf("Usage has %d requests of %d", u.Total.Requests, sum)
		}
		stop()
		kept, err := Read(dir)
		if err != nil || kept.Sum(MeterRequests) != int64(sum) || len(kept.Dropped) == 0 {
			t.Errorf("%d of %d requests are kept, %d dropped, %v", kept.Sum(MeterRequests), sum, len(kept.Dropped), err)
		}
		close(told)
		tells := map[string]int{}
		for what := range told {
			tells[what]++
		}
		// A process may end while a sink fails.
		if n := tells["a usage sink fails"]; n < 2 || tells["a usage sink works again"] > n || tells["a usage sink works again"] == 0 {
			t.Errorf("told: %v", tells)
		}
	})
}

// While a sink is away for hours the log stays within its bound, and the sink
// misses nothing when it is back.
func TestSinkAway(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Log = 320 << 10
	away := newBook("away")
	down := true
	away.fault = func(bool) error {
		if down {
			return errors.New("down")
		}
		return nil
	}
	o.Sinks = []Sink{away}
	m := b.open(o)
	acme := m.Tenant("acme")
	sum, most := int64(0), int64(0)
	use := func(n int) {
		for range n {
			for j := range 50 {
				acme.Series("", "r", fmt.Append(nil, strings.Repeat("x", 60), j)).Count(200, 1, 2, 3, 0)
				sum++
			}
			b.pass(m, 10*time.Second)
			if m.Health() != nil {
				t.Fatal(m.Health())
			}
			if sum%1000 == 0 {
				most = max(most, m.State().LogBytes)
			}
		}
	}
	use(10)
	_, _ = m.ships[0].round(t.Context()) // the sink is down
	use(6 * 60 * pick(20, 8))
	if most > o.Log {
		t.Errorf("the log took %d bytes, its bound is %d", most, o.Log)
	}
	down = false
	if _, err := m.ships[0].round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := away.sum(); got != sum {
		t.Errorf("the sink has %d of %d", got, sum)
	}
	use(12)
	if m.flush.coarse {
		t.Error("the log is still more than half full")
	}
	m.ships[0].close()
	end(t, m)
	kept, err := Read(b.dir)
	if err != nil || kept.Sum(MeterRequests) != sum || away.sum() != sum {
		t.Errorf("%d are kept and %d shipped of %d, %v", kept.Sum(MeterRequests), away.sum(), sum, err)
	}
	windows := map[string]bool{}
	for name := range away.cells {
		windows[strings.Fields(name)[2]] = true
	}
	if len(windows) > pick(20, 8)*60*3/4 {
		t.Errorf("%d windows: usage was not kept by the hour", len(windows))
	}
	t.Logf("at most %d KiB of log for %d requests, %d cells in %d windows", most>>10, sum, len(away.cells), len(windows))
	for _, w := range away.wrong {
		t.Error(w)
	}
}

// A sink that stopped within a segment that was compacted since gets it again.
func TestSinkOfCompacted(t *testing.T) {
	b := newBench(t)
	o := b.options()
	sink := newBook("sink")
	o.Sinks = []Sink{sink, newBook("late")} // for which nothing is dropped
	m := b.open(o)
	acme := m.Tenant("acme")
	sum := int64(0)
	use := func(segment uint64) {
		for m.flush.wal.number < segment {
			for j := range 50 {
				acme.Series("", "r", fmt.Append(nil, strings.Repeat("x", 60), j)).Count(200, 1, 2, 3, 0)
				sum++
			}
			b.pass(m, 10*time.Second)
		}
	}
	round := func() {
		if _, err := m.ships[0].round(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.ships[0].close()
	}
	use(3)
	round()
	use(4)
	if _, err := m.flush.wal.compact([]uint64{1, 2, 3}, stamp{b.wall, b.mono}); err != nil {
		t.Fatal(err)
	}
	round()
	if got := sink.sum(); got != sum {
		t.Errorf("the sink has %d of %d", got, sum)
	}
	if numbers, err := segments(m.flush.wal.dir); fmt.Sprint(numbers, err) != "[3 4] <nil>" {
		t.Error(numbers, err)
	}
	die(m)
	kept, err := Read(b.dir)
	if err != nil || kept.Sum(MeterRequests) != sum || len(kept.Damage) > 0 {
		t.Errorf("%d of %d, %v, %v", kept.Sum(MeterRequests), sum, kept.Damage, err)
	}
}
