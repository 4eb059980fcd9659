package metering

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// flusher writes the counts of its meter into the log of the meter's epoch.
type flusher struct {
	m *Meter

	// mu is held by a tick, by Adopt and by the end. It guards the fields
	// below but written.
	mu     sync.Mutex
	clock  *clock
	folder *folder // nil: counts are in memory only
	meta   epochFile
	lock   *os.File // of the epoch
	owner  *os.File // of the folder; nil before Adopt
	wal    *wal
	sealed uint32   // the last window whose seal is in the log
	sealAt place    // where that is
	past   *history // usage in the totals, but for this epoch's
	totals *totals  // nil before Adopt
	turned uint32   // the minute of the last upkeep
	coarse bool     // the log is more than half full
	// inTime is when minutes were last sealed in time, by the monotonic clock.
	inTime time.Duration
	ended  bool
	list   []*Series // dirty ones; its memory is used again
	cells  []*record

	// written is the end of what is in the log for good.
	written atomic.Pointer[place]
}

// tick is one flush.
func (m *Meter) tick() {
	fl := &m.flush
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.ended {
		return
	}
	at, step := fl.clock.tick()
	if step != 0 {
		m.tell("the wall clock was set", step.String())
	}
	// While minutes cannot be sealed the window stays: usage takes no more
	// memory, and only its time is less exact.
	// While sinks are away and the log fills up it is an hour.
	if now, w := minute(at.wall), m.window.Load(); now > w && w-fl.sealed <= holdAfter && (!fl.coarse || now/60 > w/60) {
		m.window.Store(now)
	}
	w := m.window.Load()
	upTo := fl.sealed
	if at.wall.Sub(windowTime(w)) >= sealDelay {
		upTo = w - 1
	}
	err := fl.write(at, int64(step), upTo)
	m.spare()
	if err == nil {
		err = fl.wal.prepare()
	}
	err = errors.Join(err, fl.upkeep(at))
	if late := m.window.Load() - fl.sealed; late <= holdAfter {
		fl.inTime = at.mono
	} else if err == nil && at.mono-fl.inTime > missingAfter {
		err = fmt.Errorf("usage of %d minutes has not been sealed", late)
	}
	m.note(err)
}

// write writes the cells that have changed, and seals the windows up to upTo.
func (fl *flusher) write(at stamp, step int64, upTo uint32) (err error) {
	m, w := fl.m, fl.wal
	fl.list = m.dirty.swap(fl.list)
	defer func() {
		if err != nil {
			w.drop()
			m.dirty.again(fl.list)
		}
	}()
	e := emitter{w: w, at: at}
	if step != 0 {
		if err := e.frame(frameStep); err != nil {
			return err
		}
		w.b = binary.AppendVarint(w.b, step)
		e.close()
	}
	for _, s := range fl.list {
		s.dirty.Store(false)
		fl.cells = m.live.of(s, fl.cells[:0])
		if err := fl.cellsOf(&e, fl.cells, false); err != nil {
			return err
		}
	}
	var sealing []*record
	if upTo > fl.sealed {
		// With what a thread has counted that was held up since the minute's
		// end: it is in the record before the lock of the stripe is free.
		sealing = m.live.until(upTo)
		for i, j := 0, 0; i < len(sealing); i = j {
			for j = i; j < len(sealing) && sealing[j].series == sealing[i].series; j++ {
			}
			if err := fl.cellsOf(&e, sealing[i:j], true); err != nil {
				return err
			}
		}
		if err := e.frame(frameSeal); err != nil {
			return err
		}
		w.b = append(binary.AppendUvarint(w.b, uint64(upTo)), 0)
	}
	e.close()
	if err := w.commit(); err != nil {
		return err
	}
	at2 := place{w.number, w.at}
	fl.written.Store(&at2)
	if upTo > fl.sealed {
		m.release(sealing)
		fl.sealed, fl.sealAt = upTo, at2
	}
	return nil
}

// cellsOf writes the cells of records of one series, which are in the order
// of their windows. With named set the series is named again: what is sealed
// needs no other frame.
func (fl *flusher) cellsOf(e *emitter, records []*record, named bool) error {
	for i := 0; i < len(records); {
		s, window := records[i].series, records[i].window
		var sum values
		for ; i < len(records) && records[i].window == window; i++ {
			r := records[i]
			r.stripe.mu.Lock()
			got := r.read()
			r.stripe.mu.Unlock()
			if got.window == window { // else nothing is counted yet
				sum.add(&got.values)
			}
		}
		if err := e.frame(frameCells); err != nil {
			return err
		}
		entry := cellEntry{id: s.id, window: window, values: sum}
		if named || s.defined != e.w.number {
			s.defined = e.w.number
			entry.key = &s.key
		}
		e.w.cell(&entry)
	}
	return nil
}

// of returns the records that count for s, in the order of their windows.
func (l *live) of(s *Series, list []*record) []*record {
	l.mu.Lock()
	list = append(list, s.records...)
	l.mu.Unlock()
	slices.SortStableFunc(list, func(a, b *record) int { return int(a.window) - int(b.window) })
	return list
}

// until returns the records of windows up to w, by series and window.
func (l *live) until(w uint32) []*record {
	l.mu.Lock()
	var list []*record
	for _, r := range l.taken {
		if r.window <= w {
			list = append(list, r)
		}
	}
	l.mu.Unlock()
	slices.SortFunc(list, func(a, b *record) int {
		if a.series != b.series {
			return int(a.series.id) - int(b.series.id)
		}
		return int(a.window) - int(b.window)
	})
	return list
}

// release gives back records whose counts are in the log for good.
func (m *Meter) release(list []*record) {
	m.past.Lock()
	defer m.past.Unlock()
	for _, r := range list {
		st := r.stripe
		st.mu.Lock()
		got := r.read()
		if got.window == r.window {
			r.series.sealed.add(&got.values)
		}
		if st.rec == r {
			st.rec = nil
		}
		r.free()
		st.mu.Unlock()
	}
	l := &m.live
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range list {
		s := r.series
		s.records = slices.DeleteFunc(s.records, func(o *record) bool { return o == r })
		r.series, r.stripe = nil, nil
	}
	l.taken = slices.DeleteFunc(l.taken, func(r *record) bool { return r.series == nil })
	l.free = append(l.free, list...)
}

// again puts series back whose cells could not be written. Some may then be
// in the list twice, which does no harm.
func (d *dirty) again(list []*Series) {
	for _, s := range list {
		s.dirty.Store(true)
	}
	d.add(list...)
}

// end writes what there is, lists the requests that are still in flight, and
// ends the epoch.
func (fl *flusher) end() error {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.ended = true
	at, step := fl.clock.tick()
	if err := fl.write(at, int64(step), fl.sealed); err != nil {
		return err
	}
	w, e := fl.wal, emitter{w: fl.wal, at: at}
	cuts, cut := fl.m.interrupted()
	window := fl.m.window.Load()
	for s, n := range cut {
		if err := e.frame(frameCells); err != nil {
			return err
		}
		entry := cellEntry{id: s.id, window: window, values: values{atInterrupted: n}}
		if s.defined != w.number {
			s.defined = w.number
			entry.key = &s.key
		}
		w.cell(&entry)
	}
	for i := range cuts {
		if err := e.frame(frameCut); err != nil {
			return err
		}
		w.cut(&cuts[i])
	}
	if err := e.frame(frameSeal); err != nil {
		return err
	}
	w.b = append(binary.AppendUvarint(w.b, uint64(window)), 1)
	e.close()
	if err := w.commit(); err != nil {
		return err
	}
	fl.written.Store(&place{w.number, w.at})
	var err error
	if fl.meta.Live != "" {
		err = os.RemoveAll(fl.meta.Live)
	}
	return errors.Join(err, w.close())
}

// interrupted lists the flights that have not ended, and counts the billable
// ones of each series.
func (m *Meter) interrupted() ([]Interrupted, map[*Series]int64) {
	var list []Interrupted
	cut := map[*Series]int64{}
	byID := map[uint32]*Series{}
	for _, s := range m.all() {
		byID[s.id] = s
	}
	m.live.mu.Lock()
	defer m.live.mu.Unlock()
	for _, seg := range m.live.segments {
		from, to := slotsOf(len(seg.b))
		for at := from; at < to; at += slotSize {
			f := readSlot((*[slotSize]byte)(seg.b[at:]))
			s := byID[f.series]
			if f.state == slotFree || s == nil {
				continue
			}
			i := Interrupted{
				Series: s.key, Start: f.start, Counted: f.state != slotOpen, Written: f.state == slotWritten, Bytes: f.bytes,
			}
			if i.Billable = i.Counted && f.billable; i.Billable {
				cut[s]++
			}
			list = append(list, i)
		}
	}
	slices.SortStableFunc(list, func(a, b Interrupted) int { return a.Start.Compare(b.Start) })
	return list, cut
}

// all returns every series.
func (m *Meter) all() []*Series {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []*Series
	for _, t := range m.tenants {
		list = append(list, t.all()...)
	}
	return list
}

// unlock gives the epochs and the folder back.
func (fl *flusher) unlock() error {
	var err error
	locks := []*os.File{fl.lock, fl.owner}
	fl.m.mu.Lock()
	for _, o := range fl.m.old {
		locks = append(locks, o.lock)
	}
	fl.m.old = nil
	fl.m.mu.Unlock()
	for _, f := range locks {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	fl.lock, fl.owner = nil, nil
	return err
}
