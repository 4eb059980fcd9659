package metering

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const testNonce = 0x5eed

func newTestWAL(t testing.TB, d disk) *wal {
	w := &wal{disk: d, dir: t.TempDir(), small: 64 << 10, large: 64 << 10}
	w.id = identity{Gateway: "gw-test", Epoch: Epoch{1, testNonce}}
	w.nonce = testNonce
	return w
}

func (w *wal) mustCommit(t testing.TB) {
	t.Helper()
	if err := w.commit(); err != nil {
		t.Fatal(err)
	}
}

// cellsFrame adds one frame of cells.
func (w *wal) cellsFrame(t testing.TB, cells ...cellEntry) {
	t.Helper()
	e := emitter{w: w, at: stamp{noon, 0}}
	for i := range cells {
		if err := e.frame(frameCells); err != nil {
			t.Fatal(err)
		}
		w.cell(&cells[i])
	}
	e.close()
}

func (w *wal) sealFrame(t testing.TB, window uint32) {
	t.Helper()
	e := emitter{w: w, at: stamp{noon, 0}}
	if err := e.frame(frameSeal); err != nil {
		t.Fatal(err)
	}
	w.b = append(binary.AppendUvarint(w.b, uint64(window)), 0)
	e.close()
}

// picture shows what a fold comes to.
func (f *fold) picture() string {
	var s strings.Builder
	for _, id := range slices.SortedFunc(maps.Keys(f.open), cellID.compare) {
		fmt.Fprintf(&s, "%d/%d=%v ", id.series, id.window, f.open[id][atRequests])
	}
	sums := []string{}
	for k, v := range f.sums {
		sums = append(sums, fmt.Sprintf("%s:%d ", k.Consumer, v[atRequests]))
	}
	slices.Sort(sums)
	return s.String() + strings.Join(sums, "") + fmt.Sprint("sealed ", f.sealed)
}

// The log of a machine that lost power, or whose disk lies: whatever byte is
// wrong, and wherever it ends, every other frame is used, and the fault told.
func TestWALDamage(t *testing.T) {
	w := newTestWAL(t, osDisk{})
	key := SeriesKey{Tenant: "acme", Consumer: "ann"}
	entry := func(window uint32, n int64) cellEntry {
		return cellEntry{id: 1, window: window, values: values{atRequests: n}, key: &key}
	}
	var ends []int64
	var frames []func(f *fold)
	add := func(apply func(f *fold)) {
		w.mustCommit(t)
		ends = append(ends, w.at)
		frames = append(frames, apply)
	}
	if _, err := w.room(stamp{noon, 0}); err != nil {
		t.Fatal(err)
	}
	add(func(*fold) {})
	for i, n := range []int64{3, 5, 8} {
		es := []cellEntry{entry(10, n), entry(11, int64(i))}
		w.cellsFrame(t, es...)
		add(func(f *fold) { f.cell(&es[0]); f.cell(&es[1]) })
	}
	w.sealFrame(t, 10)
	add(func(f *fold) { f.seal(10, false) })
	last := entry(11, 40)
	w.cellsFrame(t, last)
	add(func(f *fold) { f.cell(&last) })
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	path := w.path(1)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good = good[:ends[len(ends)-1]+1000] // the rest is zeros too
	check := func(name string, b []byte, use func(i int) bool, damaged bool) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := foldLog(w.dir, testNonce, 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := newFold()
		for i, apply := range frames {
			if use(i) {
				apply(want)
			}
		}
		if got.picture() != want.picture() {
			t.Fatalf("%s:\ngot  %s\nwant %s", name, got.picture(), want.picture())
		}
		if is := len(got.damage) > 0; is != damaged {
			t.Fatalf("%s: damage %v", name, got.damage)
		}
	}
	frameOf := func(at int64) int {
		i, _ := slices.BinarySearch(ends, at+1)
		return i
	}
	check("whole", good, func(int) bool { return true }, false)
	end := ends[len(ends)-1]
	for at := range end {
		for bit := 0; bit < 8; bit += pick(1, 5) {
			b := slices.Clone(good)
			b[at] ^= 1 << bit
			lost := frameOf(at)
			check(fmt.Sprintf("bit %d of byte %d", bit, at), b, func(i int) bool { return i != lost }, true)
		}
		cut := frameOf(at)
		begins := int64(0)
		if cut > 0 {
			begins = ends[cut-1]
		}
		// A byte that is zero anyway is no damage if it is the only one cut off.
		damaged := slices.ContainsFunc(good[begins:at], func(c byte) bool { return c != 0 })
		check(fmt.Sprintf("cut at byte %d", at), good[:at], func(i int) bool { return i < cut }, damaged)
		zeros := slices.Clone(good)
		clear(zeros[at:])
		check(fmt.Sprintf("zeros from byte %d", at), zeros, func(i int) bool {
			return i < cut || i == cut && string(zeros[begins:ends[cut]]) == string(good[begins:ends[cut]])
		}, damaged && string(zeros[begins:ends[cut]]) != string(good[begins:ends[cut]]))
	}
	for _, at := range []int64{end, end + 1, end + 100, int64(len(good)) - 1} {
		b := slices.Clone(good)
		b[at] = 0x47
		check(fmt.Sprintf("noise at byte %d", at), b, func(int) bool { return true }, true)
	}
	if b := slices.Clone(good); true { // a frame of another epoch behind
		other := newTestWAL(t, osDisk{})
		other.nonce = testNonce + 1
		other.cellsFrame(t, entry(11, 1000))
		copy(b[end:], other.b)
		check("a frame of another epoch", b, func(int) bool { return true }, true)
	}
}

// What frames come to does not depend on their order or number.
func TestFoldProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		var cells []cellEntry
		totals := map[cellID]values{}
		for range n {
			id := cellID{uint32(rapid.IntRange(1, 4).Draw(t, "series")), uint32(rapid.IntRange(10, 13).Draw(t, "window"))}
			v := totals[id]
			for i := range v {
				v[i] += int64(rapid.IntRange(0, 3).Draw(t, "n"))
			}
			totals[id] = v
			cells = append(cells, cellEntry{id: id.series, window: id.window, values: v})
		}
		fold := func(list []cellEntry) *fold {
			f := newFold()
			for i := range 4 {
				f.keys[uint32(i+1)] = SeriesKey{Consumer: fmt.Sprint(i)}
			}
			for i := range list {
				f.cell(&list[i])
			}
			f.seal(12, false)
			return f
		}
		again := slices.Concat(cells, cells[:rapid.IntRange(0, n).Draw(t, "again")])
		again = rapid.Permutation(again).Draw(t, "order")
		if got, want := fold(again).picture(), fold(cells).picture(); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		sum := int64(0)
		for _, v := range totals {
			sum += v[atRequests]
		}
		got, f := int64(0), fold(again)
		for _, v := range f.sums {
			got += v[atRequests]
		}
		for _, v := range f.open {
			got += v[atRequests]
		}
		if got != sum {
			t.Fatalf("%d requests of %d", got, sum)
		}
	})
}

// Segments grow, are filled before they are used, and are recycled. Numbers
// of frames have no gap.
func TestSegments(t *testing.T) {
	w := newTestWAL(t, osDisk{})
	w.small, w.large = 64<<10, 256<<10
	key := SeriesKey{Tenant: "acme", Route: "r", Consumer: strings.Repeat("x", 100)}
	for i := range 40 {
		var cells []cellEntry
		for j := range 100 {
			cells = append(cells, cellEntry{id: uint32(j + 1), window: uint32(i + 1), values: values{atRequests: 1}, key: &key})
		}
		w.cellsFrame(t, cells...)
		w.mustCommit(t)
		if err := w.prepare(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := foldLog(w.dir, testNonce, 0)
	if err != nil || len(f.damage) != 0 || len(f.open) != 4000 || f.seq != w.seq || f.number != w.number {
		t.Fatalf("%v, %v, %d cells, %d frames of %d, %d segments of %d", err, f.damage, len(f.open), f.seq, w.seq, f.number, w.number)
	}
	sizes := []int64{}
	for n := range w.number {
		info, err := os.Stat(w.path(n + 1))
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size()>>10)
	}
	if got := fmt.Sprint(sizes); !strings.HasPrefix(got, "[64 256 256") {
		t.Errorf("sizes are %s KiB", got)
	}
	w.spare = 0
	if err := os.RemoveAll(w.sparePath()); err != nil {
		t.Fatal(err)
	}
	if err := w.recycle(2); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(w.dir, "spare"))
	if err != nil || len(b) != 256<<10 || strings.Trim(string(b), "\x00") != "" {
		t.Errorf("the recycled segment has %d bytes, %v", len(b), err)
	}
	if err := w.roll(stamp{noon, time.Hour}); err != nil {
		t.Fatal(err)
	}
	w.mustCommit(t)
	// The removed one leaves a gap, which is told.
	f, err = foldLog(w.dir, testNonce, 0)
	if err != nil || len(f.damage) != 1 || f.damage[0].Missing == 0 {
		t.Errorf("%v, %v", err, f.damage)
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}
