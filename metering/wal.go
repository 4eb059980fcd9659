package metering

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// identity is whose counts they are.
type identity struct {
	Gateway string `json:"gateway"`
	Epoch   Epoch  `json:"epoch"`
	// Boot is of the machine when the epoch began.
	Boot string `json:"boot"`
}

// wal is the log of one epoch while it is written. Frames go into segments of
// a fixed size, which are filled with zeros before their first frame, so that
// a disk that is full later does not matter to them. One goroutine uses it.
//
// A segment can be read by itself: it names each series before its first
// count.
type wal struct {
	disk  disk
	dir   string
	id    identity
	small int64 // size of the first segment
	large int64 // bound of the size

	framer        // what is not written yet
	f      file   // nil: the next write opens a segment
	number uint64 // of the segment
	size   int64  // of it
	at     int64  // end of what is in it
	spare  int64  // size of the spare segment, 0: none
	full   bool   // there may be no more segments
	unsure uint64 // the first sequence number of a write that failed, 0: none
}

const (
	smallSegment = 1 << 20
	largeSegment = 64 << 20
	frameRoom    = 32 << 10 // a segment with less room is full
)

var errLogFull = errors.New("the usage log is full, because sinks are away")

func (w *wal) path(number uint64) string { return segmentPath(w.dir, number) }
func (w *wal) sparePath() string         { return filepath.Join(w.dir, "spare") }

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("wal-%08d", number))
}

// sized returns the size of a segment by its number: a newcomer's disk does
// not lose 64 MiB at once.
func (w *wal) sized(number uint64) int64 {
	size := w.small
	for range min(number-1, 16) {
		size = min(size*4, w.large)
	}
	return size
}

// room sees to it that frames can be added, and returns how large a body may
// become. It may write what has been added so far.
func (w *wal) room(at stamp) (int, error) {
	left := w.size - w.at - int64(len(w.b))
	if w.f != nil && left >= frameRoom {
		return int(min(left-frameRoom/2, fullFrame)), nil
	}
	if err := w.commit(); err != nil {
		return 0, err
	}
	if err := w.roll(at); err != nil {
		return 0, err
	}
	return int(min(w.size-w.at-int64(len(w.b))-frameRoom/2, fullFrame)), nil
}

// commit writes what has been added, and returns when it is on the disk. A
// disk that has failed to sync may say that all is well the next time; so the
// segment then takes no more, and who has added must do so again.
func (w *wal) commit() error {
	if len(w.b) == 0 {
		return nil
	}
	_, err := w.f.WriteAt(w.b, w.at)
	if err == nil {
		err = w.f.Sync()
	}
	if err != nil {
		w.drop()
		return fmt.Errorf("write usage log: %w", err)
	}
	w.at += int64(len(w.b))
	w.b, w.unsure = w.b[:0], 0
	return nil
}

// drop forgets what has been added, and ends the segment.
func (w *wal) drop() {
	if w.unsure == 0 && len(w.b) > 0 {
		w.unsure = firstSeq(w.b)
	}
	w.b = w.b[:0]
	if w.f != nil {
		_ = w.f.Close() // it is given up
		w.f = nil
	}
}

// firstSeq returns the number of the first frame in b.
func firstSeq(b []byte) uint64 {
	d := decoder{b: b[frameHead+1:]}
	return d.uvarint()
}

// roll ends the segment and begins the next.
func (w *wal) roll(at stamp) error {
	if w.f != nil {
		_ = w.f.Close() // all of it is synced
		w.f = nil
	}
	if w.full {
		return errLogFull
	}
	number := w.number + 1
	size := w.spare
	if size == 0 {
		size = w.sized(number)
		if err := w.fill(size); err != nil {
			return err
		}
	}
	if err := w.disk.Rename(w.sparePath(), w.path(number)); err != nil {
		return fmt.Errorf("begin usage log %d: %w", number, err)
	}
	w.spare = 0
	if err := w.disk.SyncDir(w.dir); err != nil {
		return fmt.Errorf("begin usage log %d: %w", number, err)
	}
	f, err := w.disk.Open(w.path(number))
	if err != nil {
		return fmt.Errorf("begin usage log %d: %w", number, err)
	}
	w.f, w.number, w.size, w.at = f, number, size, 0
	w.begin(frameSegment, at)
	covers := w.seq
	if w.unsure != 0 {
		covers = w.unsure
	}
	w.head(&w.framer, number, covers, 0)
	w.end()
	return nil
}

// head adds what the first frame of a segment says.
func (w *wal) head(f *framer, number, covers, generation uint64) {
	f.b = appendString(f.b, w.id.Gateway)
	f.b = binary.AppendUvarint(f.b, uint64(w.id.Epoch.Counter))
	f.b = le.AppendUint64(f.b, w.id.Epoch.Nonce)
	f.b = binary.AppendUvarint(f.b, number)
	f.b = binary.AppendUvarint(f.b, covers)
	f.b = binary.AppendUvarint(f.b, generation)
}

// segmentHead is what a reader needs of the first frame of a segment.
type segmentHead struct {
	covers     uint64 // the first sequence number that the segment makes up for
	generation uint64 // how often it was compacted
}

func readSegment(f frame) segmentHead {
	d := f.rest
	_, _, _, _ = d.string(), d.uvarint(), d.uint64(), d.uvarint()
	return segmentHead{d.uvarint(), d.uvarint()}
}

// fill makes the spare segment.
func (w *wal) fill(size int64) error {
	temp := w.sparePath() + ".tmp"
	if err := w.disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make usage log: %w", err)
	}
	err := write(w.disk, temp, nil, size)
	if err == nil {
		err = w.disk.Rename(temp, w.sparePath())
	}
	if err != nil {
		return fmt.Errorf("make usage log: %w", err)
	}
	w.spare = size
	return nil
}

// prepare makes the next segment while there is still room in this one.
func (w *wal) prepare() error {
	if w.f == nil || w.full || w.spare != 0 || w.at < w.size/2 {
		return nil
	}
	return w.fill(w.sized(w.number + 1))
}

// clear removes what a writer before has left unused.
func (w *wal) clear() error {
	for _, path := range []string{w.sparePath(), w.sparePath() + ".tmp"} {
		if err := w.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear usage log: %w", err)
		}
	}
	return nil
}

// close ends the log; the spare segment is given back.
func (w *wal) close() error {
	w.drop()
	if w.spare == 0 {
		return nil
	}
	w.spare = 0
	return w.disk.Remove(w.sparePath())
}

// emitter adds cells and other entries to frames of fitting size.
type emitter struct {
	w     *wal
	at    stamp
	kind  frameKind // of the open frame, 0: none
	limit int
}

// frame sees to it that a frame of this kind is open.
func (e *emitter) frame(kind frameKind) error {
	if e.kind == kind && e.w.framer.size() < e.limit {
		return nil
	}
	e.close()
	var err error
	if e.limit, err = e.w.room(e.at); err != nil {
		return err
	}
	e.w.begin(kind, e.at)
	e.kind = kind
	return nil
}

func (e *emitter) close() {
	if e.kind != 0 {
		e.w.end()
		e.kind = 0
	}
}
