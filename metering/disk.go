package metering

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// disk is what the log needs of a file system to write. Its second
// implementation is one that fails, which the tests have.
type disk interface {
	// Create makes an empty file that must not exist yet.
	Create(path string) (file, error)
	// Open opens a file to write into it.
	Open(path string) (file, error)
	// Rename is atomic; SyncDir makes it last.
	Rename(from, to string) error
	SyncDir(path string) error
	Remove(path string) error
}

type file interface {
	io.WriterAt
	io.Closer
	// Sync returns when what was written is on the disk.
	Sync() error
}

type osDisk struct{}

func (osDisk) Create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) Remove(path string) error     { return os.Remove(path) }

func (osDisk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return datasync(f.File) }

// replace puts a file with this content in the place of path: the old or the
// new one is there at every instant, also when the machine stops.
func replace(d disk, path string, content []byte) error {
	temp := path + ".tmp"
	if err := d.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := write(d, temp, content, int64(len(content))); err != nil {
		return err
	}
	if err := d.Rename(temp, path); err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}

// write makes a synced file of size bytes that begins with content; the rest
// is written zeros, so that the disk has room for all of it.
func write(d disk, path string, content []byte, size int64) (err error) {
	f, err := d.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = d.Remove(path) // half a file takes room and is of no use
		}
	}()
	if _, err = f.WriteAt(content, 0); err != nil {
		return err
	}
	if err = fill(f, int64(len(content)), size); err != nil {
		return err
	}
	return f.Sync()
}

// fill writes zeros from one place up to another.
func fill(f file, at, size int64) error {
	zeros := make([]byte, 256<<10)
	for at < size {
		n := min(size-at, int64(len(zeros)))
		if _, err := f.WriteAt(zeros[:n], at); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		at += n
	}
	return nil
}

// zero writes zeros over a whole file, and syncs it.
func zero(d disk, path string, size int64) error {
	f, err := d.Open(path)
	if err != nil {
		return err
	}
	if err = fill(f, 0, size); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
