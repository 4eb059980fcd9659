package metering

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// Recovery tells of an epoch that has been adopted.
type Recovery struct {
	Epoch Epoch
	// Clean is set if the process had ended its epoch itself.
	Clean bool
	// Live is set if the live file was read. Without it the counts are those
	// of the log: what was counted after its last frame is lost.
	Live bool
	// Recovered requests were in the live file and not in the log.
	Recovered int64
	// Interrupted requests, in the order of their start.
	Interrupted []Interrupted
	// Damage of the log, and the requests of series whose names were in it.
	Damage   []Damage
	Nameless int64
}

// settle ends the epoch of a process that has ended, and returns what its log
// comes to. The epoch's lock is held. It may be cut short at any point and
// done again: it comes to the same.
func (f *folder) settle(meta epochFile, through uint32) (*fold, Recovery, error) {
	rec := Recovery{Epoch: meta.Epoch}
	dir := f.dir(meta.Epoch)
	fail := func(err error) (*fold, Recovery, error) {
		return nil, rec, fmt.Errorf("adopt epoch %v: %w", meta.Epoch, err)
	}
	log, err := foldLog(dir, meta.Epoch.Nonce, through)
	if err != nil {
		return fail(err)
	}
	rec.Damage = log.damage
	if rec.Clean = log.final; !rec.Clean {
		if rec.Live, rec.Recovered, err = f.recall(meta, log); err != nil {
			return fail(err)
		}
		if err := f.seal(meta, log); err != nil {
			return fail(err)
		}
	}
	rec.Interrupted, rec.Nameless = log.cuts, log.nameless
	if meta.Live != "" {
		if err := os.RemoveAll(meta.Live); err != nil {
			return fail(err)
		}
	}
	return log, rec, nil
}

// recall adds what the live file has to log. The file is read, not mapped: a
// bad disk is then an error and not a signal. It is believed only if the
// machine has not started since; a kernel that stops writes pages in any
// order, or not at all.
func (f *folder) recall(meta epochFile, log *fold) (believed bool, recovered int64, err error) {
	if meta.Live == "" || meta.Boot == "" || meta.Boot != f.system.boot() {
		return false, 0, nil
	}
	segments, err := readLive(meta)
	if err != nil || len(segments) == 0 {
		return false, 0, err
	}
	for _, b := range segments {
		from, to := dictOf(len(b))
		entries(b[from:to], func(id uint32, k SeriesKey) { log.keys[id] = k })
	}
	cells := map[cellID]*values{}
	for _, b := range segments {
		for i := range recordCount(len(b)) {
			r := readRecord(recordAt(b, i))
			if r.window <= log.sealed {
				continue // free, or in the log
			}
			id := cellID{r.series, r.window}
			if cells[id] == nil {
				cells[id] = new(values)
			}
			cells[id].add(&r.values)
		}
	}
	for id, v := range cells {
		had := int64(0)
		if c := log.open[id]; c != nil {
			had = c[atRequests]
		}
		log.raise(id, v)
		recovered += log.open[id][atRequests] - had
	}
	log.told = slices.Clone(log.cuts)
	window := log.last(minute(meta.Began))
	cut := map[uint32]int64{}
	for _, b := range segments {
		from, to := slotsOf(len(b))
		for at := from; at < to; at += slotSize {
			s := readSlot((*[slotSize]byte)(b[at:]))
			if s.state == slotFree {
				continue
			}
			if i := log.interrupt(&s, segments); i.Billable {
				cut[s.series]++
			}
		}
	}
	for id, n := range cut {
		log.raise(cellID{id, window}, &values{atInterrupted: n})
	}
	slices.SortStableFunc(log.cuts, func(a, b Interrupted) int { return a.Start.Compare(b.Start) })
	return true, recovered, nil
}

// interrupt lists a flight that did not end. A kill may have come after it
// was counted and before its state said so: then the record tells.
func (f *fold) interrupt(s *flown, segments [][]byte) Interrupted {
	counted := s.state != slotOpen
	if !counted && int(s.segment) < len(segments) && int(s.index) < recordCount(len(segments[s.segment])) {
		r := readRecord(recordAt(segments[s.segment], int(s.index)))
		counted = r.series == s.series && r.window == s.window && r.seq >= s.seq
	}
	i := Interrupted{
		Series: f.keys[s.series], Start: s.start, Counted: counted, Billable: counted && s.billable,
		Written: s.state == slotWritten, Bytes: s.bytes,
	}
	if !slices.Contains(f.told, i) { // by an adoption that was cut short
		f.cuts = append(f.cuts, i)
	}
	return i
}

func recordCount(size int) int {
	from, to := recordsOf(size)
	return (to - from) / recordSize
}

func recordAt(b []byte, i int) *[recordSize]byte {
	from, _ := recordsOf(len(b))
	return (*[recordSize]byte)(b[from+recordSize*i:])
}

// readLive reads the segments of a live file; none if one of them is not what
// it was made as.
func readLive(meta epochFile) ([][]byte, error) {
	var list [][]byte
	for {
		b, err := os.ReadFile(livePath(meta.Live, len(list)))
		if errors.Is(err, fs.ErrNotExist) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		if len(b) != meta.Size || !headed(b, meta.identity, len(list), meta.Size) {
			return nil, nil // it is not what it was made as
		}
		list = append(list, b)
	}
}

// seal writes what log has and its log has not, and that the epoch is over,
// into one more segment.
func (f *folder) seal(meta epochFile, log *fold) error {
	w := &wal{disk: f.system.disk, dir: f.dir(meta.Epoch), id: meta.identity, small: 2 * frameRoom, large: smallSegment}
	w.nonce, w.seq, w.number = meta.Epoch.Nonce, log.seq, log.number
	wall, mono := f.system.clock()
	at := stamp{wall, mono}
	if err := w.clear(); err != nil {
		return err
	}
	window := log.last(minute(meta.Began))
	e := emitter{w: w, at: at}
	named := map[uint32]uint64{}
	for _, id := range slices.SortedFunc(maps.Keys(log.open), cellID.compare) {
		k, ok := log.keys[id.series]
		if !ok {
			continue
		}
		if err := e.frame(frameCells); err != nil {
			return err
		}
		entry := cellEntry{id: id.series, window: id.window, values: *log.open[id]}
		if named[id.series] != w.number {
			named[id.series] = w.number
			entry.key = &k
		}
		w.cell(&entry)
	}
	for i := range log.cuts {
		if err := e.frame(frameCut); err != nil {
			return err
		}
		w.cut(&log.cuts[i])
	}
	if err := e.frame(frameSeal); err != nil {
		return err
	}
	w.b = append(binary.AppendUvarint(w.b, uint64(window)), 1)
	e.close()
	if err := errors.Join(w.commit(), w.close()); err != nil {
		return err
	}
	log.seal(window, true)
	return nil
}

func (id cellID) compare(o cellID) int {
	if id.window != o.window {
		return int(id.window) - int(o.window)
	}
	return int(id.series) - int(o.series)
}
