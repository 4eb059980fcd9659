package metering

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// A frame is one entry of the log:
//
//	0 magic, 4 length of the body, 8 CRC-32C of epoch nonce and body, 12 body
//
// The body begins with its kind, sequence number (from 1, without a gap
// within an epoch; in a compacted segment that of the last), wall clock and monotonic clock. The nonce in the checksum
// keeps a frame from being taken for one of another epoch.
const (
	frameMagic = 0x31464847 // GHF1
	frameHead  = 12
	// maxFrame bounds a body. A frame is closed when it comes to fullFrame.
	maxFrame  = 1 << 20
	fullFrame = 256 << 10
)

type frameKind byte

const (
	// frameSegment opens each segment: gateway, epoch, number, the first
	// sequence number that the segment makes up for (its own, or that of a
	// write that failed), and how often it was compacted.
	frameSegment frameKind = iota + 1
	// frameCells are counts so far: series, window, values.
	frameCells
	// frameSeal says that a window, and every one before it, is complete.
	frameSeal
	// frameStep is a step of the wall clock, in ns.
	frameStep
	// frameCut lists requests that the end of the process interrupted.
	frameCut
)

type frame struct {
	kind frameKind
	seq  uint64
	wall time.Time
	mono time.Duration
	rest decoder // of the body
}

// stamp is when a frame is written.
type stamp struct {
	wall time.Time
	mono time.Duration
}

// framer writes frames into a buffer, in front of their disk writes.
type framer struct {
	b     []byte
	nonce uint64
	seq   uint64
	at    int // of the open frame
}

func (f *framer) begin(kind frameKind, at stamp) {
	f.at = len(f.b)
	f.seq++
	f.b = append(f.b, make([]byte, frameHead)...)
	f.b = append(f.b, byte(kind))
	f.b = binary.AppendUvarint(f.b, f.seq)
	f.b = binary.AppendVarint(f.b, at.wall.UnixNano())
	f.b = binary.AppendVarint(f.b, int64(at.mono))
}

func (f *framer) end() {
	head, body := f.b[f.at:], f.b[f.at+frameHead:]
	le.PutUint32(head, frameMagic)
	le.PutUint32(head[4:], uint32(len(body)))
	le.PutUint32(head[8:], frameSum(f.nonce, body))
}

func (f *framer) size() int { return len(f.b) - f.at }

func frameSum(nonce uint64, body []byte) uint32 {
	var n [8]byte
	le.PutUint64(n[:], nonce)
	return crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, body)
}

// readFrame reads the frame at the beginning of b, and returns its length on
// disk, 0 if there is no whole one.
func readFrame(b []byte, nonce uint64) (f frame, size int) {
	if len(b) < frameHead || le.Uint32(b) != frameMagic {
		return f, 0
	}
	n := int(le.Uint32(b[4:]))
	if n > maxFrame || n > len(b)-frameHead {
		return f, 0
	}
	body := b[frameHead : frameHead+n]
	if frameSum(nonce, body) != le.Uint32(b[8:]) {
		return f, 0
	}
	d := decoder{b: body}
	f.kind = frameKind(d.byte())
	f.seq = d.uvarint()
	f.wall = time.Unix(0, d.varint()).UTC()
	f.mono = time.Duration(d.varint())
	f.rest = d
	if d.bad {
		return f, 0
	}
	return f, frameHead + n
}

// cellEntry is one entry of frameCells.
type cellEntry struct {
	id     uint32
	window uint32
	values values
	// key is set where the segment names the series for the first time.
	key *SeriesKey
}

func (f *framer) cell(e *cellEntry) {
	tag := uint64(e.id) << 1
	if e.key != nil {
		tag |= 1
	}
	f.b = binary.AppendUvarint(f.b, tag)
	if e.key != nil {
		f.b = appendKey(f.b, *e.key)
	}
	f.b = binary.AppendUvarint(f.b, uint64(e.window))
	f.b = appendValues(f.b, &e.values)
}

func (d *decoder) cell() (e cellEntry) {
	tag := d.uvarint()
	e.id = uint32(tag >> 1)
	if tag&1 == 1 {
		k := d.key()
		e.key = &k
	}
	e.window = uint32(d.uvarint())
	e.values = d.values()
	return e
}

// Interrupted is a request that the end of its process cut, or may have cut.
type Interrupted struct {
	Series SeriesKey
	Start  time.Time
	// Counted requests are in the usage; their answers had begun, or were
	// about to. The others are not, and have had no answer.
	Counted bool
	// Billable is set for those that requests_billable and
	// requests_interrupted count, so that the plan can waive them.
	Billable bool
	// Written is set if the last byte had been handed to the kernel.
	Written bool
	// Bytes of the answer's body had been counted.
	Bytes int64
}

func (f *framer) cut(i *Interrupted) {
	var flags byte
	for bit, is := range []bool{i.Counted, i.Billable, i.Written} {
		if is {
			flags |= 1 << bit
		}
	}
	f.b = appendKey(f.b, i.Series)
	f.b = binary.AppendVarint(append(f.b, flags), i.Start.UnixNano())
	f.b = binary.AppendUvarint(f.b, uint64(i.Bytes))
}

func (d *decoder) cut() (i Interrupted) {
	i.Series = d.key()
	flags := d.byte()
	i.Counted, i.Billable, i.Written = flags&1 != 0, flags&2 != 0, flags&4 != 0
	i.Start = time.Unix(0, d.varint()).UTC()
	i.Bytes = int64(d.uvarint())
	return i
}
