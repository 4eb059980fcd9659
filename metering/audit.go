package metering

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Audit is what a folder holds, read without changing it.
type Audit struct {
	Gateway string
	// Cells of every log, with what the live files add to those of processes
	// that were killed; by epoch, window and series. Of a process that counts
	// meanwhile they are from about the same time.
	Cells []Cell
	// Dropped is usage whose cells are in no log any more: Value sums them up.
	Dropped []Dropped
	// Interrupted requests of the processes that have ended.
	Interrupted []Interrupted
	Damage      []Damage
}

// Dropped is the usage of one series and meter.
type Dropped struct {
	Series SeriesKey
	Meter  string
	Value  int64
}

// Sum adds up a meter.
func (a *Audit) Sum(meter string) (n int64) {
	for i := range a.Cells {
		if a.Cells[i].Meter == meter {
			n = plus(n, a.Cells[i].Value)
		}
	}
	for i := range a.Dropped {
		if a.Dropped[i].Meter == meter {
			n = plus(n, a.Dropped[i].Value)
		}
	}
	return n
}

// Read returns what is kept in dir. The processes that count there may run.
func Read(dir string) (*Audit, error) {
	if _, err := os.Stat(filepath.Join(dir, "metering", "gateway")); err != nil {
		return nil, err
	}
	f, err := openFolder(dir, true, hostSystem())
	if err != nil {
		return nil, err
	}
	t, err := readTotals(f.path)
	if err != nil {
		return nil, err
	}
	a := &Audit{Gateway: f.gateway}
	for i := range t.Tenants {
		for j := range t.Tenants[i].Series {
			s := &t.Tenants[i].Series[j]
			for at, n := range s.Values {
				if n != 0 && shipped[at] != "" {
					k, meter := s.key(t.Tenants[i].ID).meter(at)
					a.Dropped = append(a.Dropped, Dropped{k, meter, n})
				}
			}
		}
	}
	list, err := f.list()
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if err := a.epoch(f, e, t.Through[e.String()]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err // but one may have been dropped meanwhile
		}
	}
	return a, nil
}

func (a *Audit) epoch(f *folder, e Epoch, through uint32) error {
	meta, err := f.read(e)
	if err != nil {
		return err
	}
	log := newFold()
	log.kept = map[cellID]*values{}
	if err := log.read(f.dir(e), e.Nonce, through); err != nil {
		return err
	}
	if !log.final {
		if _, _, err := f.recall(meta, log); err != nil {
			return err
		}
		lock, ended, err := lockPath(filepath.Join(f.dir(e), "lock"))
		if err != nil {
			return err
		}
		if ended {
			_ = lock.Close() // nothing was changed
		} else {
			log.cuts = nil // they are in flight
			for _, v := range log.open {
				v[atInterrupted] = 0
			}
		}
	}
	a.Damage = append(a.Damage, log.damage...)
	a.Interrupted = append(a.Interrupted, log.cuts...)
	for id, v := range log.open {
		log.kept[id] = v
	}
	for _, id := range slices.SortedFunc(maps.Keys(log.kept), cellID.compare) {
		if _, ok := log.keys[id.series]; !ok {
			continue
		}
		a.Cells = appendCells(a.Cells, meta.identity, id, log.keys[id.series], log.kept[id])
	}
	return nil
}

// meter returns how a cell names the series, and its meter at an index.
func (k SeriesKey) meter(at int) (SeriesKey, string) {
	name := shipped[at]
	if k.unit != "" {
		name, k.unit = k.unit, ""
	}
	return k, name
}

// appendCells appends the cells of one series and window.
func appendCells(list []Cell, id identity, at cellID, k SeriesKey, v *values) []Cell {
	for i, n := range v {
		if n != 0 && shipped[i] != "" {
			series, meter := k.meter(i)
			list = append(list, Cell{
				Gateway: id.Gateway, Epoch: id.Epoch, Window: windowTime(at.window), Series: series, Meter: meter, Value: n,
			})
		}
	}
	return list
}
