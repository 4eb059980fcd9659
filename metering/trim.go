package metering

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// trim drops logs that every sink has, or that are old where there is none.
// Their usage is in the totals first.
func (fl *flusher) trim(now time.Time) error {
	m := fl.m
	m.mu.Lock()
	known := slices.Clone(m.old)
	m.mu.Unlock()
	left, err := fl.logBytes()
	if err != nil {
		return err
	}
	var gone []*oldEpoch
	for _, o := range known {
		if fl.totals.Through[o.meta.Epoch.String()] == whole || fl.needless(o, now, left) {
			gone = append(gone, o)
			left -= folderBytes(fl.folder.dir(o.meta.Epoch))
		}
	}
	upTo, err := fl.needlessSegments(now, left)
	if err != nil || len(gone) == 0 && upTo == 0 {
		return err
	}
	if err := fl.saveTotals(gone); err != nil {
		return err
	}
	for _, o := range gone {
		if err := errors.Join(o.lock.Close(), os.RemoveAll(fl.folder.dir(o.meta.Epoch))); err != nil {
			return fmt.Errorf("drop epoch %v: %w", o.meta.Epoch, err)
		}
		m.mu.Lock()
		m.old = slices.DeleteFunc(m.old, func(x *oldEpoch) bool { return x == o })
		m.mu.Unlock()
		for _, s := range m.ships {
			s.forget(o.meta.Epoch)
		}
	}
	return fl.dropSegments(upTo)
}

// needless reports whether nobody needs the log of an old epoch.
func (fl *flusher) needless(o *oldEpoch, now time.Time, bytes int64) bool {
	if len(fl.m.ships) == 0 {
		return now.Sub(o.ended) > fl.m.o.Retain || bytes > fl.m.o.Log/2
	}
	for _, s := range fl.m.ships {
		if !s.has(o.meta.Epoch) {
			return false
		}
	}
	return true
}

// needlessSegments returns the last segment of the epoch's own log that nobody
// needs, 0 for none: one whose windows are sealed, and the seal is in another.
func (fl *flusher) needlessSegments(now time.Time, bytes int64) (uint64, error) {
	numbers, err := segments(fl.wal.dir)
	if err != nil {
		return 0, fmt.Errorf("list usage log: %w", err)
	}
	upTo := fl.sealAt.Segment
	for _, s := range fl.m.ships {
		upTo = min(upTo, s.at(fl.meta.Epoch).Segment)
	}
	var last uint64
	for _, n := range numbers {
		if n >= upTo {
			break
		}
		if len(fl.m.ships) == 0 {
			info, err := os.Stat(fl.wal.path(n))
			if err != nil {
				return 0, fmt.Errorf("list usage log: %w", err)
			}
			if now.Sub(info.ModTime()) <= fl.m.o.Retain && bytes <= fl.m.o.Log/2 {
				break
			}
			bytes -= info.Size()
		}
		last = n
	}
	return last, nil
}

// saveTotals writes the totals: those of before, of the epochs in gone, and of
// this epoch's sealed windows.
func (fl *flusher) saveTotals(gone []*oldEpoch) error {
	through := maps.Clone(fl.totals.Through)
	// Of epochs that are removed by now nothing is said. The file of an older
	// version could come back from a backup, so of that it is.
	list, err := fl.folder.list()
	if err != nil {
		return err
	}
	maps.DeleteFunc(through, func(name string, _ uint32) bool {
		e, ok := parseEpoch(name)
		return ok && e.Counter != 0 && !slices.Contains(list, e)
	})
	past := fl.past.clone()
	for _, o := range gone {
		name := o.meta.Epoch.String()
		if through[name] == whole {
			continue
		}
		log, err := foldLog(fl.folder.dir(o.meta.Epoch), o.meta.Epoch.Nonce, through[name])
		if err != nil {
			return fmt.Errorf("drop epoch %v: %w", o.meta.Epoch, err)
		}
		past.fold(log)
		through[name] = whole
	}
	sum := past.clone()
	m := fl.m
	for _, s := range m.all() {
		m.past.RLock()
		v := s.sealed
		m.past.RUnlock()
		if v != (values{}) {
			sum.add(s.key, &v)
			sum.begin(s.key.Tenant, m.since(s.key.Tenant))
		}
	}
	through[fl.meta.Epoch.String()] = fl.sealed
	t := &totals{Version: totalsVersion, Counter: fl.meta.Epoch.Counter, Through: through}
	t.Counter = max(t.Counter, fl.totals.Counter)
	t.set(sum)
	if err := t.write(fl.m.system.disk, fl.folder.path); err != nil {
		return err
	}
	t.Tenants = nil // in past
	fl.totals, fl.past = t, past
	return nil
}

// dropSegments removes segments of the epoch's own log. The last one becomes
// the spare one where there is none: the disk has room for it.
func (fl *flusher) dropSegments(upTo uint64) error {
	if upTo == 0 {
		return nil
	}
	w := fl.wal
	numbers, err := segments(w.dir)
	if err != nil {
		return fmt.Errorf("drop usage log: %w", err)
	}
	for _, n := range numbers {
		if n > upTo {
			break
		}
		if err := w.recycle(n); err != nil {
			return fmt.Errorf("drop usage log %d: %w", n, err)
		}
	}
	return nil
}

// recycle removes a segment, or makes it the spare one.
func (w *wal) recycle(number uint64) error {
	path := w.path(number)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if w.spare != 0 || info.Size() != w.sized(w.number+1) {
		return w.disk.Remove(path)
	}
	temp := w.sparePath() + ".tmp"
	if err := w.disk.Rename(path, temp); err != nil {
		return err
	}
	if err := zero(w.disk, temp, info.Size()); err != nil {
		return err
	}
	if err := w.disk.Rename(temp, w.sparePath()); err != nil {
		return err
	}
	w.spare = info.Size()
	return nil
}

// logBytes returns what the logs of all epochs take on the disk.
func (fl *flusher) logBytes() (int64, error) {
	list, err := fl.folder.list()
	if err != nil {
		return 0, err
	}
	var n int64
	for _, e := range list {
		n += folderBytes(fl.folder.dir(e))
	}
	return n, nil
}

// folderBytes returns the size of the logs in dir; what cannot be read is 0.
func folderBytes(dir string) (n int64) {
	files, err := filepath.Glob(filepath.Join(dir, "wal-*"))
	if err != nil {
		return 0
	}
	for _, path := range files {
		if info, err := os.Stat(path); err == nil {
			n += info.Size()
		}
	}
	return n
}
