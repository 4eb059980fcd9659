package metering

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Damage is a part of a log that cannot be read. What follows it is used.
type Damage struct {
	// Path and Offset tell where it begins, Bytes how long it is.
	Path   string
	Offset int64
	Bytes  int64
	// Tail is set if nothing whole follows in the segment: a write that was
	// cut short, unless the disk is at fault.
	Tail bool
	// Missing frames, by the numbers around it.
	Missing uint64
}

func (d Damage) String() string {
	what := "damaged"
	if d.Tail {
		what = "cut short"
	}
	return fmt.Sprintf("usage log %s is %s at %d for %d bytes; %d frames are missing", d.Path, what, d.Offset, d.Bytes, d.Missing)
}

// place is a place in the log of an epoch.
type place struct {
	Segment uint64 `json:"segment"`
	Offset  int64  `json:"offset"`
}

func (p place) before(o place) bool {
	return p.Segment < o.Segment || p.Segment == o.Segment && p.Offset < o.Offset
}

// walReader reads the segments of one epoch in their order. It holds one
// buffer, of at most twice the largest frame.
type walReader struct {
	dir   string
	nonce uint64
	// limit is what is not read beyond, for a log that is being written; nil:
	// the end.
	limit *place

	f      *os.File
	number uint64 // of the open segment
	buf    []byte // a part of it
	lo     int    // the next frame in buf
	base   int64  // of buf in the segment

	last   uint64 // sequence number
	faults []Damage
}

// segments returns the numbers of the segments in dir, in order.
func segments(dir string) ([]uint64, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range list {
		if text, ok := strings.CutPrefix(e.Name(), "wal-"); ok {
			if n, err := strconv.ParseUint(text, 10, 64); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// at returns the place of the next frame.
func (r *walReader) at() place { return place{r.number, r.base + int64(r.lo)} }

// next returns the next frame, whose bytes hold until the call after; io.EOF
// after the last one.
func (r *walReader) next() (frame, error) {
	for {
		if r.f == nil {
			if err := r.open(); err != nil {
				return frame{}, err
			}
		}
		if r.limit != nil && !r.at().before(*r.limit) {
			return frame{}, io.EOF
		}
		f, n, err := r.frame()
		if err == nil && n == 0 {
			f, n, err = r.resync()
		}
		if err != nil {
			return frame{}, err
		}
		if n == 0 {
			r.close()
			continue
		}
		r.lo += n
		r.last = max(r.last, f.seq)
		return f, nil
	}
}

// frame reads the frame that begins here; n is 0 if there is none.
func (r *walReader) frame() (f frame, n int, err error) {
	if err := r.need(frameHead); err != nil || len(r.buf)-r.lo < frameHead || le.Uint32(r.buf[r.lo:]) != frameMagic {
		return f, 0, err
	}
	size := int(le.Uint32(r.buf[r.lo+4:]))
	if size > maxFrame {
		return f, 0, nil
	}
	if err := r.need(frameHead + size); err != nil {
		return f, 0, err
	}
	if f, n = readFrame(r.buf[r.lo:], r.nonce); n == 0 {
		return f, 0, nil
	}
	covers := f.seq
	if f.kind == frameSegment {
		covers = readSegment(f).covers
	}
	if r.last != 0 && covers > r.last+1 {
		r.faults = append(r.faults, Damage{Path: r.f.Name(), Offset: r.at().Offset, Missing: covers - r.last - 1})
	}
	return f, n, nil
}

// resync finds the next whole frame behind something else; n is 0 if there is
// none in the segment. Zeros up to its end are no damage.
func (r *walReader) resync() (f frame, n int, err error) {
	from, dirty := r.at().Offset, int64(-1) // the last byte that is not zero
	var magic [4]byte
	le.PutUint32(magic[:], frameMagic)
	for {
		if err := r.need(frameHead); err != nil {
			return f, 0, err
		}
		rest := r.buf[r.lo:]
		if len(rest) == 0 {
			break
		}
		if i := bytes.LastIndexFunc(rest, func(c rune) bool { return c != 0 }); i >= 0 {
			dirty = r.at().Offset + int64(i)
		}
		i := bytes.Index(rest, magic[:])
		if i < 0 {
			r.lo += max(len(rest)-len(magic)+1, 1)
			continue
		}
		r.lo += i
		was := r.last
		r.last = 0 // it is told here
		f, n, err = r.frame()
		r.last = was
		if err != nil {
			return f, 0, err
		}
		if n > 0 && f.seq >= was {
			d := Damage{Path: r.f.Name(), Offset: from, Bytes: r.at().Offset - from}
			if was != 0 && f.seq > was {
				d.Missing = f.seq - was - 1
			}
			r.faults = append(r.faults, d)
			return f, n, nil
		}
		r.lo++
	}
	if dirty >= 0 {
		r.faults = append(r.faults, Damage{Path: r.f.Name(), Offset: from, Bytes: dirty + 1 - from, Tail: true})
	}
	return f, 0, nil
}

// need reads until n bytes are in buf, unless the segment ends.
func (r *walReader) need(n int) error {
	if len(r.buf)-r.lo >= n {
		return nil
	}
	r.base += int64(r.lo)
	r.buf = r.buf[:copy(r.buf, r.buf[r.lo:])]
	r.lo = 0
	for len(r.buf) < n {
		part := int64(64 << 10)
		if r.limit != nil && r.limit.Segment == r.number {
			// What is behind will be written over.
			if part = min(part, r.limit.Offset-r.base-int64(len(r.buf))); part <= 0 {
				return nil
			}
		}
		r.buf = slices.Grow(r.buf, int(part))
		got, err := r.f.ReadAt(r.buf[len(r.buf):len(r.buf)+int(part)], r.base+int64(len(r.buf)))
		r.buf = r.buf[:len(r.buf)+got]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read usage log %s: %w", r.f.Name(), err)
		}
	}
	return nil
}

// open opens the segment after the last one.
func (r *walReader) open() error {
	numbers, err := segments(r.dir)
	if err != nil {
		return err
	}
	i, _ := slices.BinarySearch(numbers, r.number+1)
	if i == len(numbers) || r.limit != nil && numbers[i] > r.limit.Segment {
		return io.EOF
	}
	return r.seek(place{numbers[i], 0})
}

// seek goes to a place, which must be the beginning of a frame.
func (r *walReader) seek(p place) error {
	r.close()
	f, err := os.Open(segmentPath(r.dir, p.Segment))
	if err != nil {
		return err
	}
	r.f, r.number, r.base, r.lo, r.buf = f, p.Segment, p.Offset, 0, r.buf[:0]
	return nil
}

func (r *walReader) close() {
	if r.f != nil {
		_ = r.f.Close() // it was read
		r.f = nil
	}
}
