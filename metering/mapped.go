package metering

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// system is the machine as the meter sees it.
type system struct {
	disk  disk
	boot  func() string
	clock func() (wall time.Time, mono time.Duration)
	maps  bool // files can be mapped
	// segment is the size of those of the live file; small and large are the
	// bounds of the size of those of the log.
	segment      int
	small, large int64
}

func hostSystem() *system {
	start := time.Now()
	return &system{disk: osDisk{}, boot: bootID, maps: canMap, segment: segmentSize, small: smallSegment, large: largeSegment, clock: func() (time.Time, time.Duration) {
		now := time.Now()
		return now.Round(0), now.Sub(start)
	}}
}

// liveFolder returns the folder of the live files: the one that was asked
// for, else memory where that outlives the process, else "", the epoch's own.
// A container's memory ends with its first process, so there it is not.
func liveFolder(asked string) string {
	if asked != "" || sharedMemory == "" || !inMemory(sharedMemory) || contained() {
		return asked
	}
	probe, err := os.MkdirTemp(sharedMemory, "gatehouse-probe-")
	if err != nil {
		return ""
	}
	if os.Remove(probe) != nil {
		return ""
	}
	return sharedMemory
}

// mapper makes the mapped segments of an epoch.
type mapper struct {
	meta   epochFile
	system *system
	mapped [][]byte
}

func livePath(folder string, number int) string {
	return filepath.Join(folder, fmt.Sprintf("live-%04d", number))
}

// make makes one more. The file has every byte on the disk, and its header,
// before it gets its name, and its name before it is mapped: a store into it
// cannot meet a full disk.
func (m *mapper) make(number int) (b []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make live file in %s: %w", m.meta.Live, err)
		}
	}()
	if number == 0 {
		// It must be new: others may write into the folder above.
		if err := os.Mkdir(m.meta.Live, 0o700); err != nil {
			return nil, err
		}
	}
	page := make([]byte, headerSize)
	wall, mono := m.system.clock()
	putHeader(page, m.meta.identity, number, m.meta.Size, wall, mono)
	path := livePath(m.meta.Live, number)
	d := m.system.disk
	if err := write(d, path+".tmp", page, int64(m.meta.Size)); err != nil {
		return nil, err
	}
	if err := errors.Join(d.Rename(path+".tmp", path), d.SyncDir(m.meta.Live)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	b, err = mapFile(f, m.meta.Size)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	m.mapped = append(m.mapped, b)
	return b, nil
}
