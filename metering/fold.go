package metering

import (
	"errors"
	"io"

	"github.com/gatehouse-gateway/gatehouse"
)

// fold is what the log of an epoch comes to: of each cell the largest count.
// It is the same for frames that come twice or out of order, except that
// nothing is added to a window after its seal.
type fold struct {
	keys   map[uint32]SeriesKey
	open   map[cellID]*values    // cells of windows that are not sealed
	sums   map[SeriesKey]*values // of the cells of sealed windows
	kept   map[cellID]*values    // cells of sealed windows; nil: they are not kept
	since  map[gatehouse.TenantID]uint32
	sealed uint32 // the last sealed window, 0: none
	final  bool   // the epoch is over
	cuts   []Interrupted
	told   []Interrupted // those of cuts that the log has
	damage []Damage
	// nameless are requests of series whose names cannot be read.
	nameless int64

	seq    uint64 // of the last frame
	number uint64 // of the last segment
}

type cellID struct {
	series uint32
	window uint32
}

func newFold() *fold {
	return &fold{
		keys: map[uint32]SeriesKey{}, open: map[cellID]*values{}, sums: map[SeriesKey]*values{},
		since: map[gatehouse.TenantID]uint32{},
	}
}

// foldLog reads the log in dir. Windows up to through are known already: they
// are in no sum.
func foldLog(dir string, nonce uint64, through uint32) (*fold, error) {
	f := newFold()
	return f, f.read(dir, nonce, through)
}

func (f *fold) read(dir string, nonce uint64, through uint32) error {
	f.sealed = through
	r := walReader{dir: dir, nonce: nonce}
	defer r.close()
	for {
		fr, err := r.next()
		if errors.Is(err, io.EOF) {
			f.seq, f.number, f.damage = r.last, r.number, r.faults
			return nil
		}
		if err != nil {
			return err
		}
		f.frame(fr)
	}
}

func (f *fold) frame(fr frame) {
	d := fr.rest
	switch fr.kind {
	case frameCells:
		for len(d.b) > 0 {
			e := d.cell()
			if d.bad {
				return // a frame whose sum is right was written so
			}
			f.cell(&e)
		}
	case frameSeal:
		f.seal(uint32(d.uvarint()), d.byte() == 1)
	case frameCut:
		for len(d.b) > 0 {
			if i := d.cut(); !d.bad {
				f.cuts = append(f.cuts, i)
			}
		}
	}
}

func (f *fold) cell(e *cellEntry) {
	if e.key != nil {
		f.keys[e.id] = *e.key
	}
	if e.window <= f.sealed {
		return
	}
	f.raise(cellID{e.id, e.window}, &e.values)
}

func (f *fold) raise(id cellID, v *values) {
	if k, ok := f.keys[id.series]; ok {
		if w, ok := f.since[k.Tenant]; !ok || id.window < w {
			f.since[k.Tenant] = id.window
		}
	}
	if c := f.open[id]; c != nil {
		c.raise(v)
		return
	}
	c := *v
	f.open[id] = &c
}

func (f *fold) seal(window uint32, final bool) {
	f.final = f.final || final
	if window <= f.sealed {
		return
	}
	f.sealed = window
	for id, v := range f.open {
		if id.window > window {
			continue
		}
		delete(f.open, id)
		if f.kept != nil {
			f.kept[id] = v
		}
		k, ok := f.keys[id.series]
		if !ok { // its name was in a part that cannot be read
			f.nameless += v[atRequests]
			continue
		}
		if f.sums[k] == nil {
			f.sums[k] = new(values)
		}
		f.sums[k].add(v)
	}
}

// last returns the window that the end of the epoch falls into: one that is
// not sealed.
func (f *fold) last(began uint32) uint32 {
	w := max(f.sealed+1, began)
	for id := range f.open {
		w = max(w, id.window)
	}
	return w
}
