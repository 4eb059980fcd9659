package metering

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// oldEpoch is one whose process has ended. Its log stays until every sink has
// it, or until it is old where there is none.
type oldEpoch struct {
	meta  epochFile
	lock  *os.File
	ended time.Time // when it was adopted, or the log last written
}

// Adopt makes the meter the owner of its folder and adds the usage of every
// process that has counted there and ended. Counting goes on meanwhile; Usage
// may show a part of what is added. It fails if another process owns the
// folder or something there cannot be read, with nothing added, and may then
// be called again; Health tells until it succeeds. A meter adopts once.
func (m *Meter) Adopt() error {
	fl := &m.flush
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.folder == nil || fl.totals != nil {
		return errors.New("adopt usage: the meter has no folder, or owns it already")
	}
	err := fl.adopt()
	if err != nil && fl.owner != nil {
		err = errors.Join(err, fl.owner.Close())
		fl.owner = nil
	}
	m.mu.Lock()
	m.fault = err
	m.mu.Unlock()
	return err
}

func (fl *flusher) adopt() (err error) {
	f := fl.folder
	owner, held, err := lockPath(filepath.Join(f.path, "lock"))
	if err != nil {
		return fmt.Errorf("own usage folder: %w", err)
	}
	if !held {
		return fmt.Errorf("own usage folder: another process owns %s", f.path)
	}
	fl.owner = owner
	t, err := readTotals(f.path)
	if err != nil {
		return err
	}
	if err := f.adoptSnapshot(filepath.Dir(f.path), t); err != nil {
		return err
	}
	old, sum, recoveries, err := fl.settleOthers(t, nil)
	if err != nil {
		return err
	}
	past := newHistory()
	t.add(past)
	t.add(sum)
	fl.totals, fl.past = t, past
	fl.m.restore(sum)
	fl.keep(old, recoveries)
	return nil
}

// settleOthers settles the epochs whose processes have ended and that are not
// among known, and returns what they come to. On an error none is kept.
func (fl *flusher) settleOthers(t *totals, known []*oldEpoch) (old []*oldEpoch, sum *history, told []Recovery, err error) {
	f := fl.folder
	sum = newHistory()
	defer func() {
		if err != nil {
			for _, o := range old {
				_ = o.lock.Close() // it was not changed
			}
		}
	}()
	list, err := f.list()
	if err != nil {
		return nil, nil, nil, err
	}
	for _, e := range list {
		if e == fl.meta.Epoch || slices.ContainsFunc(known, func(o *oldEpoch) bool { return o.meta.Epoch == e }) {
			continue
		}
		lock, held, err := lockPath(filepath.Join(f.dir(e), "lock"))
		if err != nil {
			return old, nil, nil, fmt.Errorf("adopt epoch %v: %w", e, err)
		}
		if !held {
			continue // its process lives
		}
		meta, err := f.read(e)
		if err != nil {
			return append(old, &oldEpoch{lock: lock}), nil, nil, err
		}
		wall, _ := f.system.clock()
		old = append(old, &oldEpoch{meta: meta, lock: lock, ended: wall})
		through := t.Through[e.String()]
		if through == whole {
			continue // the process ended before it was removed
		}
		log, r, err := f.settle(meta, through)
		if err != nil {
			return old, nil, nil, err
		}
		sum.fold(log)
		told = append(told, r)
	}
	return old, sum, told, nil
}

// restore adds usage of before to the series.
func (m *Meter) restore(h *history) {
	for id, since := range h.since {
		m.mu.Lock()
		m.tenant(id, since)
		m.mu.Unlock()
	}
	for k, v := range h.sums {
		m.mu.Lock()
		t := m.tenant(k.Tenant, time.Now().UTC())
		m.mu.Unlock()
		s := t.restored(k)
		m.past.Lock()
		s.before.add(v)
		m.past.Unlock()
	}
}

// keep has the sinks read the logs, and tells of what was found.
func (fl *flusher) keep(old []*oldEpoch, recoveries []Recovery) {
	m := fl.m
	m.mu.Lock()
	m.old = append(m.old, old...)
	m.recoveries = append(m.recoveries, recoveries...)
	for i := range recoveries {
		m.recovered += recoveries[i].Recovered
		m.cut += int64(len(recoveries[i].Interrupted))
	}
	if n := len(m.recoveries) - maxRecoveries; n > 0 {
		m.recoveries = slices.Delete(m.recoveries, 0, n)
	}
	m.mu.Unlock()
	for _, r := range recoveries {
		for _, d := range r.Damage {
			m.tell("usage log is damaged", d.String())
		}
		if !r.Clean {
			m.tell("counters of a process that was killed are taken over",
				fmt.Sprintf("epoch %v: %d requests from the live file, %d were interrupted, live file read: %t", r.Epoch, r.Recovered, len(r.Interrupted), r.Live))
		}
	}
}

const maxRecoveries = 100

// Recoveries returns what is known of the epochs that were adopted, at most
// the last hundred.
func (m *Meter) Recoveries() []Recovery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.recoveries)
}

// upkeep does once a minute what the folder needs: it adopts epochs whose
// processes have ended since, and drops logs that nobody needs.
func (fl *flusher) upkeep(at stamp) error {
	m := fl.m
	if fl.totals == nil || fl.turned == minute(at.wall) {
		return nil
	}
	fl.turned = minute(at.wall)
	m.alarm()
	m.mu.Lock()
	known := slices.Clone(m.old)
	m.mu.Unlock()
	old, sum, told, err := fl.settleOthers(fl.totals, known)
	if err != nil {
		return err
	}
	if len(old) > 0 {
		m.restore(sum)
		fl.keep(old, told)
	}
	if err := fl.trim(at.wall); err != nil {
		return err
	}
	bytes, err := fl.logBytes()
	if err != nil {
		return err
	}
	if coarse := bytes > m.o.Log/2; coarse != fl.coarse {
		fl.coarse = coarse
		if coarse {
			m.tell("the usage log is more than half full: usage is kept by the hour", fmt.Sprint(bytes, " bytes"))
		}
	}
	if fl.coarse {
		if err := fl.coarsen(at); err != nil {
			return err
		}
		if bytes, err = fl.logBytes(); err != nil {
			return err
		}
	}
	fl.wal.full = bytes+fl.wal.sized(fl.wal.number+1) > m.o.Log
	return nil
}
