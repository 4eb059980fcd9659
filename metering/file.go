package metering

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// snapshot is usage.json.
type snapshot struct {
	Version int              `json:"version"`
	Tenants []tenantSnapshot `json:"tenants"`
	mark    int64            // grows with every count; not stored
}

type tenantSnapshot struct {
	ID     gatehouse.TenantID `json:"id"`
	Since  time.Time          `json:"since"`
	Series []seriesSnapshot   `json:"series"`
}

type seriesSnapshot struct {
	Route     gatehouse.RouteID `json:"route,omitempty"`
	Principal string            `json:"principal,omitempty"`
	Other     bool              `json:"other,omitempty"`
	Counts
}

const snapshotVersion = 1

// file is the directory that counts are kept in. Only one goroutine uses it.
type file struct {
	dir  string
	mark int64 // of the snapshot on disk
}

func (f *file) path() string { return filepath.Join(f.dir, "usage.json") }
func (f *file) temp() string { return filepath.Join(f.dir, "usage.json.tmp") }

func openFile(dir string) (*file, *snapshot, error) {
	f := &file{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make usage directory: %w", err)
	}
	// A temporary file of a flush that was cut short is overwritten.
	probe, err := os.OpenFile(f.temp(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("write usage directory: %w", err)
	}
	if err := errors.Join(probe.Close(), os.Remove(f.temp())); err != nil {
		return nil, nil, fmt.Errorf("write usage directory: %w", err)
	}
	b, err := os.ReadFile(f.path())
	if errors.Is(err, fs.ErrNotExist) {
		return f, &snapshot{}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read usage: %w", err)
	}
	snap, err := decode(b)
	if err != nil {
		return nil, nil, fmt.Errorf("read usage %s: %w", f.path(), err)
	}
	f.mark = snap.mark
	return f, snap, nil
}

func decode(b []byte) (*snapshot, error) {
	var snap snapshot
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&snap); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the end")
	}
	if snap.Version != snapshotVersion {
		return nil, fmt.Errorf("version %d is not known", snap.Version)
	}
	seen := map[gatehouse.TenantID]bool{}
	for i := range snap.Tenants {
		t := &snap.Tenants[i]
		if t.ID == "" || seen[t.ID] {
			return nil, fmt.Errorf("tenant %q is unnamed or there twice", t.ID)
		}
		seen[t.ID] = true
		for j := range t.Series {
			c := &t.Series[j].Counts
			if slices.Min(c.all()) < 0 {
				return nil, fmt.Errorf("tenant %q has a negative count", t.ID)
			}
			snap.mark += c.mark()
		}
	}
	return &snap, nil
}

// all returns every count.
func (c *Counts) all() []int64 {
	s := c.Status.byClass()
	return append(s[:], c.Requests, c.Denied, c.BytesIn, c.BytesOut, c.Compute, c.Units)
}

// mark returns a number that grows whenever a count does.
func (c *Counts) mark() int64 {
	var n int64
	for _, v := range c.all() {
		n += v
	}
	return n
}

// save replaces usage.json with snap unless that is there already. The file
// is the old or the new one at every instant, also when the machine stops:
// the new one is on disk before it takes the name, and the name is on disk
// before save returns.
func (f *file) save(snap *snapshot) error {
	if snap.mark == f.mark {
		return nil
	}
	b, err := json.Marshal(snap)
	if err != nil {
		return fmt.Errorf("encode usage: %w", err)
	}
	if err := writeSync(f.temp(), b); err != nil {
		return fmt.Errorf("write usage: %w", err)
	}
	if err := os.Rename(f.temp(), f.path()); err != nil {
		return fmt.Errorf("write usage: %w", err)
	}
	if err := syncDir(f.dir); err != nil {
		return fmt.Errorf("write usage: %w", err)
	}
	f.mark = snap.mark
	return nil
}

func writeSync(path string, b []byte) error {
	w, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// snapshot reads every counter.
func (m *Meter) snapshot() *snapshot {
	snap := &snapshot{Version: snapshotVersion}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, t := range m.tenants {
		ts := tenantSnapshot{ID: id, Since: t.since}
		for _, s := range t.all() {
			c := s.counts()
			if n := c.mark(); n != 0 {
				snap.mark += n
				ts.Series = append(ts.Series, seriesSnapshot{s.route, s.principal, s.other, c})
			}
		}
		if ts.Series != nil {
			snap.Tenants = append(snap.Tenants, ts)
		}
	}
	slices.SortFunc(snap.Tenants, func(a, b tenantSnapshot) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return snap
}

// restore adds snap to the counters; m.mu is held. A tenant counts from the
// earlier of its two beginnings.
func (m *Meter) restore(snap *snapshot) {
	for i := range snap.Tenants {
		ts := &snap.Tenants[i]
		t := m.tenants[ts.ID]
		if t == nil {
			t = newTenant(ts.Since)
			m.tenants[ts.ID] = t
		}
		if ts.Since.Before(t.since) {
			t.since = ts.Since
		}
		for j := range ts.Series {
			t.restore(&ts.Series[j])
		}
	}
}
