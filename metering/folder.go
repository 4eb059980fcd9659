package metering

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// folder is where counts are kept:
//
//	gateway                    the gateway's name, made once
//	lock                       held by the process that owns the folder
//	totals.json                usage whose cells have been dropped
//	epochs/COUNTER-NONCE/      one for each process that has counted here:
//	    epoch.json             who and where
//	    lock                   held as long as the process lives
//	    wal-NUMBER, spare      its log
//	    sink-NAME.json         how far a sink has it
type folder struct {
	path    string
	gateway string
	system  *system
}

// epochFile is epoch.json.
type epochFile struct {
	Version int `json:"version"`
	identity
	Began time.Time `json:"began"`
	// Live is the folder of the live file, "live" for one in the epoch's own;
	// empty: there is none.
	Live string `json:"live,omitempty"`
	// Size is that of its segments.
	Size int `json:"size,omitempty"`
}

const epochVersion = 1

// openFolder opens the folder below dir, and makes it where it is missing.
func openFolder(dir string, network bool, sys *system) (*folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("make usage folder: %w", err)
	}
	f := &folder{path: filepath.Join(dir, "metering"), system: sys}
	if err := os.MkdirAll(filepath.Join(f.path, "epochs"), 0o700); err != nil {
		return nil, fmt.Errorf("make usage folder: %w", err)
	}
	if !network {
		if err := local(f.path); err != nil {
			return nil, fmt.Errorf("use usage folder: %w", err)
		}
	}
	name := filepath.Join(f.path, "gateway")
	for {
		b, err := os.ReadFile(name)
		if err == nil {
			if f.gateway = strings.TrimSpace(string(b)); f.gateway == "" || len(f.gateway) > 64 {
				return nil, fmt.Errorf("read %s: it does not hold a name", name)
			}
			return f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read gateway's name: %w", err)
		}
		var id [8]byte
		_, _ = rand.Read(id[:]) // it never fails
		temp := name + "." + hex.EncodeToString(id[:])
		if err := write(f.system.disk, temp, []byte("gw-"+hex.EncodeToString(id[:])+"\n"), 0); err != nil {
			return nil, fmt.Errorf("name gateway: %w", err)
		}
		// Of two processes that begin at once, one names it.
		err = os.Link(temp, name)
		if e := os.Remove(temp); err == nil || errors.Is(err, fs.ErrExist) {
			err = e
		}
		if err == nil {
			err = f.system.disk.SyncDir(f.path)
		}
		if err != nil {
			return nil, fmt.Errorf("name gateway: %w", err)
		}
	}
}

func (f *folder) epochs() string { return filepath.Join(f.path, "epochs") }

// list returns the epochs of the folder, in their order.
func (f *folder) list() ([]Epoch, error) {
	entries, err := os.ReadDir(f.epochs())
	if err != nil {
		return nil, fmt.Errorf("list epochs: %w", err)
	}
	var list []Epoch
	for _, e := range entries {
		if epoch, ok := parseEpoch(e.Name()); ok {
			list = append(list, epoch)
		}
	}
	slices.SortFunc(list, Epoch.compare)
	return list, nil
}

func (e Epoch) compare(o Epoch) int {
	switch {
	case e == o:
		return 0
	case e.Counter < o.Counter || e.Counter == o.Counter && e.Nonce < o.Nonce:
		return -1
	}
	return 1
}

// parseEpoch undoes Epoch.String.
func parseEpoch(s string) (Epoch, bool) {
	counter, nonce, ok := strings.Cut(s, "-")
	c, err := strconv.ParseUint(counter, 10, 32)
	n, err2 := strconv.ParseUint(nonce, 16, 64)
	e := Epoch{uint32(c), n}
	return e, ok && err == nil && err2 == nil && e.String() == s
}

func (f *folder) dir(e Epoch) string { return filepath.Join(f.epochs(), e.String()) }

// begin makes the folder of a new epoch, which its process holds by the lock
// that comes back. live is the folder of its live file, "" for the epoch's
// own; without maps it has none. The folder has its name only when it is locked: otherwise
// another process could take it for one that was left.
func (f *folder) begin(live string, maps bool) (epochFile, *os.File, error) {
	id := identity{Gateway: f.gateway, Boot: f.system.boot()}
	list, err := f.list()
	if err != nil {
		return epochFile{}, nil, err
	}
	totals, err := readTotals(f.path)
	if err != nil {
		return epochFile{}, nil, err
	}
	id.Epoch.Counter = totals.Counter + 1
	if n := len(list); n > 0 {
		id.Epoch.Counter = max(id.Epoch.Counter, list[n-1].Counter+1)
	}
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	id.Epoch.Nonce = le.Uint64(nonce[:])
	wall, _ := f.system.clock()
	meta := epochFile{Version: epochVersion, identity: id, Began: wall.UTC().Truncate(time.Millisecond)}
	if maps {
		meta.Live, meta.Size = "live", f.system.segment
		if live != "" {
			meta.Live = filepath.Join(live, "gatehouse-"+f.gateway+"-"+id.Epoch.String())
		}
	}
	lock, err := f.place(meta)
	if err != nil {
		return meta, nil, fmt.Errorf("begin epoch %v: %w", id.Epoch, err)
	}
	return f.resolved(meta), lock, nil
}

// resolved completes the name of an epoch's own live folder: the folder may be
// mounted elsewhere the next time.
func (f *folder) resolved(meta epochFile) epochFile {
	if meta.Live == "live" {
		meta.Live = filepath.Join(f.dir(meta.Epoch), meta.Live)
	}
	return meta
}

// place makes the folder of an epoch.
func (f *folder) place(meta epochFile) (*os.File, error) {
	temp := filepath.Join(f.epochs(), "new-"+meta.Epoch.String())
	if err := os.RemoveAll(temp); err != nil {
		return nil, err
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return nil, err
	}
	at := temp
	if !canLock {
		at = f.dir(meta.Epoch) // a folder with an open file may not be renamed
	}
	lock, err := takeLock(temp, at)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(meta)
	if err == nil {
		err = write(f.system.disk, filepath.Join(temp, "epoch.json"), append(b, '\n'), 0)
	}
	if err == nil {
		err = f.system.disk.SyncDir(temp)
	}
	if err == nil {
		err = os.Rename(temp, f.dir(meta.Epoch))
	}
	if err == nil {
		err = f.system.disk.SyncDir(f.epochs())
	}
	if err == nil && lock == nil {
		lock, err = takeLock(at, at)
	}
	if err != nil {
		if lock != nil {
			_ = lock.Close() // nothing was written
		}
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	return lock, nil
}

// takeLock locks a folder that nobody else can know, if it is the one where
// that is to be done.
func takeLock(folder, at string) (*os.File, error) {
	if folder != at {
		return nil, nil
	}
	lock, held, err := lockPath(filepath.Join(folder, "lock"))
	if err == nil && !held {
		err = errors.New("it is locked")
	}
	return lock, err
}

func (f *folder) read(e Epoch) (epochFile, error) {
	path := filepath.Join(f.dir(e), "epoch.json")
	var meta epochFile
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &meta)
	}
	if err == nil && (meta.Version != epochVersion || meta.Epoch != e || meta.Gateway != f.gateway) {
		err = errors.New("it is of another gateway, epoch or version")
	}
	if err != nil {
		return meta, fmt.Errorf("read epoch %s: %w", path, err)
	}
	return f.resolved(meta), nil
}

// lockPath opens and locks a file, and reports whether it could.
func lockPath(path string) (*os.File, bool, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, err
	}
	held, err := lockFile(f)
	if err != nil || !held {
		return nil, false, errors.Join(err, f.Close())
	}
	return f, true, nil
}
