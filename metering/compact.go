package metering

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// compact replaces segments that are full, from the first up to and with last,
// by one that holds of each cell the largest count. That is what they come to
// anyway: no sink and no adoption can tell, but that it is read sooner. It
// returns what could not be read.
func (w *wal) compact(numbers []uint64, at stamp) ([]Damage, error) {
	last := numbers[len(numbers)-1]
	c, err := w.condense(numbers)
	if err != nil {
		return nil, fmt.Errorf("compact usage log %d: %w", last, err)
	}
	temp := w.path(last) + ".tmp"
	if err := w.disk.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("compact usage log %d: %w", last, err)
	}
	b := c.encode(w, last, at)
	err = write(w.disk, temp, b, int64(len(b)))
	if err == nil {
		err = w.disk.Rename(temp, w.path(last))
	}
	if err == nil {
		err = w.disk.SyncDir(w.dir)
	}
	// The latest goes first: what is left, should this be cut short, is whole
	// up to where it ends.
	for _, n := range slices.Backward(numbers[:len(numbers)-1]) {
		if err == nil {
			err = w.disk.Remove(w.path(n))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("compact usage log %d: %w", last, err)
	}
	return c.damage, nil
}

// condensed is what some segments hold.
type condensed struct {
	keys        map[uint32]SeriesKey
	cells       map[cellID]*values
	sealed      uint32
	steps, cuts [][]byte // bodies of their frames
	first, last uint64   // sequence numbers
	generation  uint64
	damage      []Damage
}

func (w *wal) condense(numbers []uint64) (*condensed, error) {
	c := &condensed{keys: map[uint32]SeriesKey{}, cells: map[cellID]*values{}}
	for _, n := range numbers {
		r := walReader{dir: w.dir, nonce: w.nonce, limit: &place{n + 1, 0}}
		if err := r.seek(place{n, 0}); err != nil {
			return nil, err
		}
		for {
			fr, err := r.next()
			if errors.Is(err, io.EOF) || err == nil && r.number != n {
				break
			}
			if err != nil {
				r.close()
				return nil, err
			}
			c.take(fr)
		}
		r.close()
		c.damage = append(c.damage, r.faults...)
	}
	return c, nil
}

func (c *condensed) take(fr frame) {
	if c.first == 0 {
		c.first = fr.seq
	}
	c.last = fr.seq
	d := fr.rest
	switch fr.kind {
	case frameSegment:
		h := readSegment(fr)
		c.first = min(c.first, h.covers)
		c.generation = max(c.generation, h.generation)
	case frameCells:
		for len(d.b) > 0 && !d.bad {
			e := d.cell()
			if e.key != nil {
				c.keys[e.id] = *e.key
			}
			id := cellID{e.id, e.window}
			if v := c.cells[id]; v != nil {
				v.raise(&e.values)
			} else {
				v := e.values
				c.cells[id] = &v
			}
		}
	case frameSeal:
		c.sealed = max(c.sealed, uint32(d.uvarint()))
	case frameStep:
		c.steps = append(c.steps, slices.Clone(d.b))
	case frameCut:
		c.cuts = append(c.cuts, slices.Clone(d.b))
	}
}

// encode returns the segment, all of whose frames have the number of the last
// one that they stand for.
func (c *condensed) encode(w *wal, number uint64, at stamp) []byte {
	f := &framer{nonce: w.nonce}
	begin := func(kind frameKind) {
		f.seq = c.last - 1
		f.begin(kind, at)
	}
	begin(frameSegment)
	w.head(f, number, c.first, c.generation+1)
	f.end()
	for _, body := range c.steps {
		begin(frameStep)
		f.b = append(f.b, body...)
		f.end()
	}
	named := map[uint32]bool{}
	open := false
	for _, id := range slices.SortedFunc(maps.Keys(c.cells), cellID.compare) {
		if open && f.size() >= fullFrame {
			f.end()
			open = false
		}
		if !open {
			begin(frameCells)
			open = true
		}
		e := cellEntry{id: id.series, window: id.window, values: *c.cells[id]}
		if k, ok := c.keys[id.series]; ok && !named[id.series] {
			named[id.series] = true
			e.key = &k
		}
		f.cell(&e)
	}
	if open {
		f.end()
	}
	for _, body := range c.cuts {
		begin(frameCut)
		f.b = append(f.b, body...)
		f.end()
	}
	if c.sealed > 0 {
		begin(frameSeal)
		f.b = append(binary.AppendUvarint(f.b, uint64(c.sealed)), 0)
		f.end()
	}
	return f.b
}

// coarsen compacts the oldest segments that are full, as far as fits into
// memory at once.
func (fl *flusher) coarsen(at stamp) error {
	w := fl.wal
	numbers, err := segments(w.dir)
	if err != nil {
		return fmt.Errorf("compact usage log: %w", err)
	}
	var run []uint64
	var size int64
	for _, n := range numbers {
		info, err := os.Stat(w.path(n))
		if err != nil {
			return fmt.Errorf("compact usage log: %w", err)
		}
		if n >= w.number {
			break
		}
		if size += info.Size(); size > 2*w.large {
			if len(run) > 1 {
				break
			}
			run, size = run[:0], info.Size() // what is before is as small as it gets
		}
		run = append(run, n)
	}
	if len(run) < 2 {
		return nil
	}
	damage, err := w.compact(run, at)
	for _, d := range damage {
		fl.m.tell("usage log is damaged", d.String())
	}
	return err
}
