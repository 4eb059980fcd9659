package metering

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"
	"time"
)

// live is the area in which requests are counted: segments of one size, each
// a mapped file or, where there is none, memory of the process. A segment
// never moves and never grows; when one kind of place runs out there is one
// segment more.
type live struct {
	hangars [hangars]hangar

	// mu guards the fields below. It is taken inside a stripe's mu.
	mu       sync.Mutex
	segments []segment
	free     []*record
	taken    []*record // counting for a window that is not sealed, oldest first
	dict     []byte    // the rest of the last segment's dictionary
	next     uint32    // id of the next series
	// make maps one more segment with its header; nil: in memory only.
	make  func(number int) ([]byte, error)
	bound int   // of mapped segments
	fault error // why a segment is on the heap instead
	told  bool  // that is known
}

// segment is one part of the live area.
//
//	0                header, one page
//	4096             slots of flights, 1/16 of the size
//	4096+1/16        dictionary of series, 1/4 of the size
//	4096+5/16        records, to the end
type segment struct {
	b      []byte
	mapped bool
}

const (
	segmentSize  = 4 << 20
	heapSize     = 64 << 10 // of a segment that is not mapped
	headerSize   = 4096
	liveMagic    = "GHLIVE01"
	liveSegments = 64 // bound of mapped ones by default: 256 MiB
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func slotsOf(size int) (from, to int)   { return headerSize, headerSize + size/16 }
func dictOf(size int) (from, to int)    { return headerSize + size/16, headerSize + size/16 + size/4 }
func recordsOf(size int) (from, to int) { return headerSize + size/16 + size/4, size }

// grow adds a segment; mu is held. Where none can be mapped it is memory of
// the process: what is counted there does not survive a kill, but the rest of
// what it counts with does.
func (l *live) grow() {
	var b []byte
	mapped := false
	if l.make != nil && len(l.segments) < l.bound {
		var err error
		if b, err = l.make(len(l.segments)); err == nil {
			mapped = true
		}
		l.fault = err
	}
	if b == nil {
		b = make([]byte, heapSize)
	}
	number := uint32(len(l.segments))
	l.segments = append(l.segments, segment{b, mapped})
	if !mapped {
		number = noSegment
	} else {
		from, to := dictOf(len(b))
		l.dict = b[from:to]
	}
	from, to := recordsOf(len(b))
	n := (to - from) / recordSize
	records := make([]record, n)
	for i := range records {
		r := &records[n-1-i] // the first is the next to be taken
		r.b = (*[recordSize]byte)(b[from+recordSize*(n-1-i):])
		r.segment, r.index = number, uint32(n-1-i)
		l.free = append(l.free, r)
	}
	from, to = slotsOf(len(b))
	flights := make([]Flight, (to-from)/slotSize)
	for i := range flights {
		f := &flights[i]
		f.b = (*[slotSize]byte)(b[from+slotSize*i:])
		f.hangar = &l.hangars[i%hangars]
		f.hangar.mu.Lock()
		f.hangar.free = append(f.hangar.free, f)
		f.hangar.mu.Unlock()
	}
}

// take returns a record of the window for a stripe, whose mu is held.
func (l *live) take(m *Meter, s *Series, st *stripe) *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) == 0 {
		l.grow()
	}
	r := l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	r.series, r.stripe, r.window = s, st, m.window.Load()
	le.PutUint32(r.b[4:], s.id)
	l.taken = append(l.taken, r)
	s.records = append(s.records, r)
	return r
}

// enter gives a series its id, and writes it into the dictionary first: a
// record is never found without its series.
func (l *live) enter(s *Series) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	s.id = l.next
	if l.make == nil {
		return
	}
	entry := appendEntry(nil, s.id, s.key)
	if len(entry) > len(l.dict) && len(l.segments) < l.bound {
		l.grow()
	}
	if len(entry) > len(l.dict) {
		return // the log names it from the next flush on
	}
	// The length is last: without it there is no entry.
	copy(l.dict[4:], entry[4:])
	copy(l.dict, entry[:4])
	l.dict = l.dict[len(entry):]
}

// spare sees to it that the next minute finds records, and tells if some of
// them are not in the live file.
func (m *Meter) spare() {
	l := &m.live
	l.mu.Lock()
	for len(l.free) < len(l.taken)/2+64 && l.fault == nil && l.make != nil && len(l.segments) < l.bound {
		l.grow()
	}
	fault := l.fault
	if fault == nil && l.make != nil && len(l.segments) > l.bound {
		fault = fmt.Errorf("the live file has come to its bound of %d segments", l.bound)
	}
	news := fault != nil && !l.told
	l.told = fault != nil
	l.mu.Unlock()
	if news {
		m.tell("counts do not survive a kill", fault.Error())
	}
}

// appendEntry appends a series to a dictionary: length and CRC-32C of the
// rest, which is id and names.
func appendEntry(b []byte, id uint32, k SeriesKey) []byte {
	at := len(b)
	b = append(b, make([]byte, 8)...)
	b = binary.AppendUvarint(b, uint64(id))
	b = appendKey(b, k)
	body := b[at+8:]
	le.PutUint32(b[at:], uint32(len(body)))
	le.PutUint32(b[at+4:], crc32.Checksum(body, castagnoli))
	return b
}

// entries reads a dictionary up to the first entry that is not whole.
func entries(b []byte, each func(id uint32, k SeriesKey)) {
	for len(b) >= 8 {
		n := int(le.Uint32(b))
		if n == 0 || n > len(b)-8 || crc32.Checksum(b[8:8+n], castagnoli) != le.Uint32(b[4:]) {
			return
		}
		d := decoder{b: b[8 : 8+n]}
		id := uint32(d.uvarint())
		k := d.key()
		if d.bad {
			return
		}
		each(id, k)
		b = b[8+n:]
	}
}

// putHeader writes the first page of a segment.
func putHeader(page []byte, id identity, number, size int, wall time.Time, mono time.Duration) {
	b := append(page[:0], liveMagic...)
	b = binary.AppendUvarint(b, uint64(number))
	b = binary.AppendUvarint(b, uint64(size))
	b = appendString(b, id.Gateway)
	b = binary.AppendUvarint(b, uint64(id.Epoch.Counter))
	b = le.AppendUint64(b, id.Epoch.Nonce)
	b = appendString(b, id.Boot)
	b = binary.AppendVarint(b, wall.UnixNano())
	b = binary.AppendVarint(b, int64(mono))
	copy(page, b)
	le.PutUint32(page[headerSize-4:], crc32.Checksum(page[:headerSize-4], castagnoli))
}

// headed reports whether page is the first of segment number of id.
func headed(page []byte, id identity, number, size int) bool {
	if len(page) < headerSize || string(page[:8]) != liveMagic ||
		crc32.Checksum(page[:headerSize-4], castagnoli) != le.Uint32(page[headerSize-4:]) {
		return false
	}
	d := decoder{b: page[8:]}
	return int(d.uvarint()) == number && int(d.uvarint()) == size && d.string() == id.Gateway &&
		uint32(d.uvarint()) == id.Epoch.Counter && d.uint64() == id.Epoch.Nonce && d.string() == id.Boot && !d.bad
}
