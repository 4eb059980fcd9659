package tunnel

import "crypto/rand"

// frames follows the frames of one direction of a WebSocket (RFC 6455, 5.2)
// over bytes cut anywhere. It looks at headers only. Lengths that are not the
// shortest, reserved opcodes and bits are followed: where the next frame
// begins is clear, and the rest is between the sides.
//
// The zero value is at the start of a stream.
type frames struct {
	left   uint64 // of mask and payload, once the header is complete; its length while it is not
	first  byte
	masked bool
	have   uint8 // bytes of the header seen; 0 between frames
	size   uint8 // bytes of the header, without the mask

	message bool // some fragments of a message have passed, not all
	closed  bool // a Close frame has passed
	broken  bool // what passes is not WebSocket; nothing is followed any more
}

const (
	bitFin, bitMask = 0x80, 0x80
	opMask, opClose = 0x0f, 0x08
	opControl       = 0x08 // set in the opcodes of control frames
	maxControl      = 125  // bytes of payload (RFC 6455, 5.5)
)

// between reports whether another frame may be put in here.
func (f *frames) between() bool { return f.have == 0 && !f.broken }

// amid reports whether a message has begun and not ended.
func (f *frames) amid() bool { return (f.have != 0 || f.message) && !f.broken }

// walk follows all of p.
func (f *frames) walk(p []byte) {
	for len(p) > 0 {
		p = p[f.step(p):]
	}
}

// step follows p to the end of a frame or of p, and returns how far it got.
// It takes at least one byte of a p that is not empty.
func (f *frames) step(p []byte) int {
	if f.broken {
		return len(p)
	}
	n := 0
	for f.have < 2 || f.have < f.size {
		if n == len(p) {
			return n
		}
		f.header(p[n])
		n++
		if f.broken {
			return len(p)
		}
	}
	if rest := uint64(len(p) - n); f.left > rest {
		f.left -= rest
		return len(p)
	}
	n += int(f.left)
	f.end()
	return n
}

// header takes one byte of a header.
func (f *frames) header(b byte) {
	f.have++
	switch f.have {
	case 1:
		f.first, f.size = b, 2
	case 2:
		f.masked = b&bitMask != 0
		length := b &^ bitMask
		if f.first&opControl != 0 && (length > maxControl || f.first&bitFin == 0) {
			f.broken = true
			return
		}
		f.left = 0
		switch length {
		case 126:
			f.size = 4
		case 127:
			f.size = 10
		default:
			f.left = uint64(length)
		}
	default:
		f.left = f.left<<8 | uint64(b)
	}
	if f.have < 2 || f.have < f.size {
		return
	}
	if f.left>>63 != 0 {
		f.broken = true
		return
	}
	if f.masked {
		f.left += 4
	}
}

func (f *frames) end() {
	f.left, f.have, f.size = 0, 0, 0
	switch {
	case f.first&opControl == 0:
		f.message = f.first&bitFin == 0
	case f.first&opMask == opClose:
		f.closed = true
	}
}

// goingAway returns a Close frame with 1001 (RFC 6455, 7.4.1). One to a server
// is masked, by a key that nobody can foresee (5.3).
func goingAway(masked bool) []byte {
	const hi, lo = 1001 >> 8, 1001 & 0xff
	if !masked {
		return []byte{bitFin | opClose, 2, hi, lo}
	}
	var key [4]byte
	_, _ = rand.Read(key[:]) // never fails
	return []byte{bitFin | opClose, bitMask | 2, key[0], key[1], key[2], key[3], hi ^ key[0], lo ^ key[1]}
}
