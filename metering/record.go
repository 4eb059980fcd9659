package metering

import "encoding/binary"

// A record is the count of one stripe of a series within one window, in 256
// bytes of the live file. It holds two copies; a byte says which is in force.
// An update writes the other copy and then that byte: whoever reads the file
// after a kill finds the last whole update of each record. A kill stops a
// thread between two instructions, and what it has stored until then is in
// the file, so that the order of the stores in the program is all it takes.
//
//	0      the copy in force, 0 or 1
//	4      series
//	8, 12  window of each copy, in minutes; 0: the record is free
//	16, 24 sequence number of each copy; it never goes back
//	64     copy 0, 12 counts
//	160    copy 1
type record struct {
	b *[recordSize]byte

	// These belong to the live area: they change under its mu and, while the
	// record is taken, with the stripe's mu held as well.
	series  *Series
	stripe  *stripe
	window  uint32
	segment uint32 // where the record is; noSegment: on the heap
	index   uint32
}

const (
	recordSize = 256
	copyAt     = 64
	copySize   = 96
	noSegment  = ^uint32(0)
)

var le = binary.LittleEndian

// prepare writes the copy that is not in force: the counts so far and d. It
// returns the sequence number that publish gives it. The stripe's mu is held.
func (r *record) prepare(d *values) (seq uint64) {
	b := r.b
	from := int(b[0] & 1)
	to := from ^ 1
	src := (*[copySize]byte)(b[copyAt+copySize*from:])
	dst := (*[copySize]byte)(b[copyAt+copySize*to:])
	if le.Uint32(b[8+4*from:]) == r.window {
		for i := range inRecord {
			le.PutUint64(dst[8*i:], uint64(plus(int64(le.Uint64(src[8*i:])), d[i])))
		}
	} else { // the first of its window
		for i := range inRecord {
			le.PutUint64(dst[8*i:], uint64(d[i]))
		}
	}
	le.PutUint32(b[8+4*to:], r.window)
	seq = le.Uint64(b[16+8*from:]) + 1
	le.PutUint64(b[16+8*to:], seq)
	return seq
}

// publish puts the copy in force that prepare has written, by one store.
func (r *record) publish() { r.b[0] ^= 1 }

// free publishes that the record counts for nothing.
func (r *record) free() {
	r.window = 0
	r.prepare(&values{})
	r.publish()
}

// recorded is what a record says, read from a file or in place.
type recorded struct {
	series, window uint32
	seq            uint64
	values         values
}

// read returns what is in force.
func (r *record) read() recorded { return readRecord(r.b) }

func readRecord(b *[recordSize]byte) recorded {
	at := int(b[0] & 1)
	rec := recorded{series: le.Uint32(b[4:]), window: le.Uint32(b[8+4*at:]), seq: le.Uint64(b[16+8*at:])}
	src := b[copyAt+copySize*at:]
	for i := range inRecord {
		rec.values[i] = int64(le.Uint64(src[8*i:]))
	}
	return rec
}
