package metering

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// snapshot is usage.json, which kept the counts before there were epochs.
type snapshot struct {
	Version int              `json:"version"`
	Tenants []tenantSnapshot `json:"tenants"`
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

func decodeSnapshot(b []byte) (*snapshot, error) {
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
			v := t.Series[j].values()
			if slices.Min(v[:]) < 0 {
				return nil, fmt.Errorf("tenant %q has a negative count", t.ID)
			}
		}
	}
	return &snap, nil
}

func (c *Counts) values() values {
	return values{
		atRequests: c.Requests, atIn: c.BytesIn, atOut: c.BytesOut, atCompute: c.Compute, atUnits: c.Units, atDenied: c.Denied,
		atClass1: c.Status.Informational, atClass1 + 1: c.Status.Success, atClass1 + 2: c.Status.Redirection,
		atClass1 + 3: c.Status.ClientError, atClass5: c.Status.ServerError,
	}
}

// adoptSnapshot turns usage.json into an epoch, once: epoch 0, with a nonce
// that is made of the file, so that it comes to the same cells however often
// it is tried. It does not say what was billable: none of it is.
func (f *folder) adoptSnapshot(dir string, t *totals) error {
	path := filepath.Join(dir, "usage.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read usage: %w", err)
	}
	snap, err := decodeSnapshot(b)
	if err != nil {
		return fmt.Errorf("read usage %s: %w", path, err)
	}
	sum := sha256.Sum256(b)
	e := Epoch{Nonce: le.Uint64(sum[:])}
	if _, known := t.Through[e.String()]; !known {
		if err := f.writeSnapshot(e, snap); err != nil {
			return fmt.Errorf("adopt usage %s: %w", path, err)
		}
	}
	if err := os.Rename(path, path+".adopted"); err != nil {
		return fmt.Errorf("adopt usage: %w", err)
	}
	return f.system.disk.SyncDir(dir)
}

func (f *folder) writeSnapshot(e Epoch, snap *snapshot) error {
	wall, _ := f.system.clock()
	meta := epochFile{Version: epochVersion, identity: identity{Gateway: f.gateway, Epoch: e}, Began: wall.UTC()}
	log := newFold()
	id := uint32(0)
	for i := range snap.Tenants {
		t := &snap.Tenants[i]
		if meta.Began.After(t.Since) && t.Since.Unix() > 0 {
			meta.Began = t.Since.UTC()
		}
		for j := range t.Series {
			s := &t.Series[j]
			id++
			k := SeriesKey{Tenant: t.ID, Route: s.Route, Consumer: s.Principal}
			if s.Other {
				k.Consumer = Overflow
			} else if k.Consumer == Overflow {
				k.Consumer = string(hashed([]byte(Overflow)))
			}
			log.keys[id] = k
			v := s.values()
			log.raise(cellID{id, max(minute(t.Since), 1)}, &v)
		}
	}
	var lock *os.File
	var err error
	if _, e := os.Stat(f.dir(e)); e == nil {
		var held bool
		if lock, held, err = lockPath(filepath.Join(f.dir(meta.Epoch), "lock")); err == nil && !held {
			err = errors.New("another process adopts it")
		}
	} else {
		lock, err = f.place(meta)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	done, err := foldLog(f.dir(e), e.Nonce, 0)
	if err != nil || done.final {
		return err
	}
	log.seq, log.number = done.seq, done.number
	return f.seal(meta, log)
}
