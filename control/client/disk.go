package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// disk keeps the state of a data plane in a folder. A file is a snapshot and
// then the changes since, so that a change costs no more than itself. When the
// changes have grown larger than the snapshot, both are folded into the next
// file; the file before stays as the one to fall back to. It belongs to one
// goroutine.
type disk struct {
	folder string
	shared bool   // another process may write: files are read only
	key    []byte // of encryption; nil: none
	least  int64  // bytes of changes that are kept however small the snapshot is

	file       *os.File // the newest; nil: there is none to append to
	sealer     *sealer
	generation uint64
	number     uint64          // frames in file
	size       int64           // of file, up to its last commit
	snapshot   int64           // bytes of the snapshot in file
	broken     map[uint64]bool // generations of no use
}

const (
	statePrefix = "state-"
	// foldAfter is disk.least of a Follower.
	foldAfter = 4 << 20
)

func (d *disk) name(generation uint64) string {
	return filepath.Join(d.folder, fmt.Sprintf("%s%010d", statePrefix, generation))
}

// generations returns the files that there are, newest first.
func (d *disk) generations() ([]uint64, error) {
	found, err := os.ReadDir(d.folder)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, f := range found {
		digits, ok := strings.CutPrefix(f.Name(), statePrefix)
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && len(digits) == 10 {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all, nil
}

// load returns the newest state that can be read, and makes its file the one
// to append to. Revision 0 says that there is none. notes say what is wrong
// with newer ones; where files are there and none can be used, that is the
// error.
func (d *disk) load() (u gatehouse.Update, notes []error, err error) {
	all, err := d.generations()
	if errors.Is(err, os.ErrNotExist) {
		return u, nil, nil
	}
	if err != nil {
		return u, nil, err
	}
	if len(all) > 0 {
		d.generation = all[0]
	}
	for i, generation := range all {
		read, damage, err := d.read(generation)
		if err != nil {
			notes = append(notes, fmt.Errorf("%s: %w", d.name(generation), err))
			d.mark(generation)
			continue
		}
		if damage != nil {
			notes = append(notes, fmt.Errorf("%s: %w; what comes before is used", d.name(generation), damage))
		}
		u, err = update(read.fold, read.at)
		if err != nil {
			notes = append(notes, fmt.Errorf("%s: %w", d.name(generation), err))
			d.mark(generation)
			continue
		}
		if i == 0 && !d.shared {
			err = d.resume(generation, read)
		}
		return u, notes, err
	}
	if len(notes) > 0 {
		return gatehouse.Update{}, nil, fmt.Errorf("no snapshot can be used: %w", errors.Join(notes...))
	}
	return gatehouse.Update{}, nil, nil
}

// readState is what a file holds.
type readState struct {
	fold     *fold[[]byte]
	at       position
	sealer   *sealer
	size     int64 // up to the last commit
	number   uint64
	snapshot int64
}

// read folds a file up to its last commit. damage is what follows it and
// cannot be read, an interrupted write among it; err means that the file is of
// no use.
func (d *disk) read(generation uint64) (s *readState, damage, err error) {
	s = &readState{fold: newFold[[]byte]()}
	f, err := os.Open(d.name(generation))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	r, err := openReader(f, d.key)
	if err != nil {
		return nil, nil, err
	}
	s.sealer = r.sealer
	var waiting []entry // since the last commit
	for {
		e, err := r.next()
		if err == nil && e.kind == kindCommit {
			err = s.commit(waiting, e.body, r)
			waiting = waiting[:0]
		} else if err == nil {
			waiting = append(waiting, e)
		}
		switch {
		case err == nil:
			continue
		case s.number == 0 && errors.Is(err, io.EOF):
			return nil, nil, &fault{r.at, "the snapshot was not finished"}
		case s.number == 0:
			return nil, nil, err
		case errors.Is(err, io.EOF):
			return s, nil, nil
		}
		return s, err, nil
	}
}

func (s *readState) commit(waiting []entry, body []byte, r *reader) error {
	at, err := decodePosition(body)
	if err != nil {
		return &fault{r.at, "a commit is not understood"}
	}
	for i := range waiting {
		s.fold.take(&waiting[i], waiting[i].body)
	}
	if s.number == 0 {
		s.snapshot = r.at
	}
	s.at, s.size, s.number = at, r.at, r.number
	return nil
}

// resume makes a file that was read the one to append to, without what stands
// behind its last commit.
func (d *disk) resume(generation uint64, s *readState) error {
	f, err := os.OpenFile(d.name(generation), os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(s.size); err != nil {
		return errors.Join(err, f.Close())
	}
	if _, err := f.Seek(s.size, io.SeekStart); err != nil {
		return errors.Join(err, f.Close())
	}
	d.file, d.sealer, d.number, d.size, d.snapshot = f, s.sealer, s.number, s.size, s.snapshot
	return nil
}

// keep writes updates that were applied, in their order, with the tenants that
// each refused. When it returns nil they are on the disk. After an error the
// folder is as good as before, and the next update must be a full one.
func (d *disk) keep(applied []applied) error {
	for len(applied) > 0 {
		// What came before a full update does not matter any more.
		full := -1
		for i := range applied {
			if applied[i].update.Full {
				full = i
			}
		}
		if full >= 0 {
			if err := d.replace(&applied[full]); err != nil {
				return d.abandon(err)
			}
			applied = applied[full+1:]
			continue
		}
		if d.file == nil {
			return errNoBase
		}
		if err := d.append(applied); err != nil {
			return d.abandon(err)
		}
		break
	}
	if d.file != nil && d.size-d.snapshot > max(d.snapshot, d.least) {
		if err := d.compact(); err != nil {
			return d.abandon(err)
		}
	}
	return nil
}

// errNoBase says that there is no snapshot that a change could follow.
var errNoBase = errors.New("there is no snapshot to append to")

func (d *disk) abandon(err error) error {
	d.close()
	return err
}

func (d *disk) close() {
	if d.file != nil {
		_ = d.file.Close() // what counts was synced
		d.file = nil
	}
}

func (d *disk) append(applied []applied) error {
	var b []byte
	number := d.number
	for i := range applied {
		err := entries(&applied[i].update, applied[i].refused, func(e *entry) (err error) {
			b, err = d.sealer.seal(b, number, e)
			number++
			return err
		})
		if err != nil {
			return err
		}
	}
	if _, err := d.file.Write(b); err != nil {
		return fmt.Errorf("append to %s: %w", d.file.Name(), err)
	}
	if err := d.file.Sync(); err != nil { // else an answered revision could be behind the next start
		return fmt.Errorf("sync %s: %w", d.file.Name(), err)
	}
	d.number, d.size = number, d.size+int64(len(b))
	return nil
}

// replace begins a new file with a full update. Tenants that it refused are
// kept as they run.
func (d *disk) replace(a *applied) error {
	kept := map[string][]byte{}
	if len(a.refused) > 0 && d.file != nil {
		was, _, err := d.read(d.generation)
		if err == nil {
			for id := range a.refused {
				if body, ok := was.fold.tenants[string(id)]; ok {
					kept[string(id)] = body
				}
			}
		}
	}
	return d.write(func(add func(*entry) error) error {
		for id, body := range kept {
			if err := add(&entry{kindTenant, id, body}); err != nil {
				return err
			}
		}
		return entries(&a.update, a.refused, add)
	})
}

// compact folds the newest file into the next. It reads the file twice, and
// holds the names and places of things, not the things.
func (d *disk) compact() error {
	last := newFold[uint64]() // number of the frame
	var at []byte
	var unfinished []struct {
		entry
		number uint64
	}
	err := d.scan(func(e entry, number uint64) error {
		if e.kind != kindCommit {
			unfinished = append(unfinished, struct {
				entry
				number uint64
			}{entry{kind: e.kind, id: e.id}, number})
			return nil
		}
		for i := range unfinished {
			last.take(&unfinished[i].entry, unfinished[i].number)
		}
		unfinished, at = unfinished[:0], e.body
		return nil
	})
	if err != nil {
		return err
	}
	return d.write(func(add func(*entry) error) error {
		err := d.scan(func(e entry, number uint64) error {
			if !last.is(&e, number) {
				return nil
			}
			return add(&e)
		})
		if err != nil {
			return err
		}
		return add(&entry{kind: kindCommit, body: at})
	})
}

// is reports whether the entry with this number is the last of its thing.
func (f *fold[V]) is(e *entry, number uint64) bool {
	var v any
	tenant, key, _ := strings.Cut(e.id, "/")
	switch e.kind {
	case kindPlan:
		v = f.plans[e.id]
	case kindTenant:
		v = f.tenants[e.id]
	case kindKey:
		v = f.keys[tenant][key]
	}
	n, ok := v.(uint64)
	return ok && n == number && n > 0
}

// scan goes through the frames of the newest file up to its last commit.
// Numbers count from 1.
func (d *disk) scan(f func(e entry, number uint64) error) error {
	file, err := os.Open(d.name(d.generation))
	if err != nil {
		return err
	}
	defer file.Close()
	r, err := openReader(io.LimitReader(file, d.size), d.key)
	if err != nil {
		return err
	}
	for {
		e, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(e, r.number)
		}
		if err != nil {
			return err
		}
	}
}

// write makes the next file with a snapshot, and puts it in force: whole or
// not at all.
func (d *disk) write(snapshot func(add func(*entry) error) error) (err error) {
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return err
	}
	all, err := d.generations()
	if err != nil {
		return err
	}
	if len(all) > 0 { // another process may have been here
		d.generation = max(d.generation, all[0])
	}
	next := d.generation + 1
	temporary := d.name(next) + ".new"
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // it is not used
			_ = os.Remove(temporary)
		}
	}()
	head, seal, err := newSealer(d.key)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = w.Write(head)
	if err != nil {
		return err
	}
	size, number := int64(len(head)), uint64(0)
	var b []byte
	if err = snapshot(func(e *entry) error {
		var err error
		if b, err = seal.seal(b[:0], number, e); err != nil {
			return err
		}
		number++
		size += int64(len(b))
		_, err = w.Write(b)
		return err
	}); err != nil {
		return err
	}
	if err = errors.Join(w.Flush(), f.Sync()); err != nil {
		return fmt.Errorf("write %s: %w", temporary, err)
	}
	if err = os.Rename(temporary, d.name(next)); err != nil {
		return err
	}
	if err = syncFolder(d.folder); err != nil { // else the name may be lost
		return err
	}
	d.close()
	d.file, d.sealer, d.generation, d.number, d.size, d.snapshot = f, seal, next, number, size, size
	d.forget()
	return nil
}

// mark notes a file that is of no use.
func (d *disk) mark(generation uint64) {
	if d.broken == nil {
		d.broken = map[uint64]bool{}
	}
	d.broken[generation] = true
}

// forget removes all files but the two newest good ones.
func (d *disk) forget() {
	all, err := d.generations()
	if err != nil {
		return // they are removed the next time
	}
	good := 0
	for _, generation := range all {
		if good < 2 && !d.broken[generation] {
			good++
			continue
		}
		_ = os.Remove(d.name(generation)) // the next time
	}
}
