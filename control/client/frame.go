package client

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A file of state is a head and frames. Each frame is a length, 4 bytes
// big-endian, and a sealed entry. Sealed is: followed by a checksum, or, with
// a key, encrypted; either way in its own place of its own file only.
//
//	head:  "GHS1" | "c" checksums or "e" encrypted | 32 random bytes
//	entry: kind | length of id, 2 bytes | id | body
type entry struct {
	kind kind
	id   string
	body []byte
}

// kind says what an entry is about.
type kind byte

const (
	kindPlan   kind = 'P' // body: the plan
	kindTenant kind = 'T' // body: stored
	kindKey    kind = 'K' // id: tenant/key; body: the key
	noPlan     kind = 'p'
	noTenant   kind = 't' // its keys go with it
	noKey      kind = 'k'
	// kindCommit ends what belongs together; body: position. What stands
	// behind the last of them does not count.
	kindCommit kind = 'C'
)

const (
	magic     = "GHS1"
	headSize  = len(magic) + 1 + 32
	maxFrame  = 128 << 20
	maxID     = 1<<16 - 1
	frameHead = 4
)

// fault is what is wrong with a file of state.
type fault struct {
	at     int64 // byte
	reason string
}

func (f *fault) Error() string { return fmt.Sprintf("%s at byte %d", f.reason, f.at) }

// sealer seals and opens the entries of one file.
type sealer struct {
	salt []byte
	aead cipher.AEAD // nil: checksums
}

// newSealer returns the head of a new file and its sealer. A nil key stands
// for checksums.
func newSealer(key []byte) ([]byte, *sealer, error) {
	salt := make([]byte, 32)
	if _, err := rand.Read(salt); err != nil {
		return nil, nil, err
	}
	s, err := sealerOf(salt, key)
	if err != nil {
		return nil, nil, err
	}
	form := byte('c')
	if key != nil {
		form = 'e'
	}
	return append(append([]byte(magic), form), salt...), s, nil
}

func sealerOf(salt, key []byte) (*sealer, error) {
	s := &sealer{salt: salt}
	if key == nil {
		return s, nil
	}
	derived, err := hkdf.Key(sha256.New, key, salt, "gatehouse state of a data plane", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	s.aead, err = cipher.NewGCMWithRandomNonce(block)
	return s, err
}

// place is what binds a frame to its place: the file's salt and the number of
// the frame.
func (s *sealer) place(number uint64) []byte {
	return binary.BigEndian.AppendUint64(s.salt[:len(s.salt):len(s.salt)], number)
}

// seal appends a frame to b.
func (s *sealer) seal(b []byte, number uint64, e *entry) ([]byte, error) {
	if len(e.id) > maxID || len(e.body) > maxFrame-maxID-64 {
		return b, fmt.Errorf("%c %.40s is too large to be kept", e.kind, e.id)
	}
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	plain := make([]byte, 0, 3+len(e.id)+len(e.body)+4)
	plain = append(plain, byte(e.kind))
	plain = binary.BigEndian.AppendUint16(plain, uint16(len(e.id)))
	plain = append(plain, e.id...)
	plain = append(plain, e.body...)
	if s.aead != nil {
		b = s.aead.Seal(b, nil, plain, s.place(number))
	} else {
		b = binary.BigEndian.AppendUint32(append(b, plain...), s.sum(number, plain))
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-frameHead))
	return b, nil
}

func (s *sealer) sum(number uint64, plain []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(s.place(number), table), table, plain)
}

// open reads what seal wrote behind the length. It keeps parts of b.
func (s *sealer) open(number uint64, b []byte) (entry, error) {
	var e entry
	if s.aead != nil {
		plain, err := s.aead.Open(b[:0], nil, b, s.place(number))
		if err != nil {
			return e, errors.New("an entry was changed, or the key is another one")
		}
		b = plain
	} else {
		if len(b) < 4 {
			return e, errors.New("an entry is too short")
		}
		var told uint32
		b, told = b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
		if s.sum(number, b) != told {
			return e, errors.New("an entry was changed: its checksum differs")
		}
	}
	if len(b) < 3 || len(b) < 3+int(binary.BigEndian.Uint16(b[1:])) {
		return e, errors.New("an entry is too short")
	}
	split := 3 + int(binary.BigEndian.Uint16(b[1:]))
	return entry{kind(b[0]), string(b[3:split]), b[split:]}, nil
}

// reader reads the frames of a file.
type reader struct {
	from   *bufio.Reader
	sealer *sealer
	at     int64  // bytes read
	number uint64 // frames read
}

// openReader reads the head. A nil key can read checksummed files only, and a
// key encrypted ones only: a file in clear is not a state that was trusted.
func openReader(from io.Reader, key []byte) (*reader, error) {
	r := &reader{from: bufio.NewReaderSize(from, 256<<10)}
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r.from, head); err != nil {
		return nil, &fault{0, "the file is too short"}
	}
	switch form := string(head[:len(magic)+1]); {
	case form == magic+"c" && key != nil:
		return nil, &fault{0, "the file is not encrypted, and a key is configured"}
	case form == magic+"e" && key == nil:
		return nil, &fault{0, "the file is encrypted, and no key is configured"}
	case form != magic+"c" && form != magic+"e":
		return nil, &fault{0, "this is no file of state"}
	}
	var err error
	r.at = int64(headSize)
	r.sealer, err = sealerOf(head[len(magic)+1:], key)
	return r, err
}

// next returns the next entry; io.EOF at a clean end, *fault for what cannot
// be read. The body is the caller's.
func (r *reader) next() (entry, error) {
	var length [frameHead]byte
	switch _, err := io.ReadFull(r.from, length[:]); {
	case errors.Is(err, io.EOF):
		return entry{}, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return entry{}, &fault{r.at, "the file ends within an entry"}
	case err != nil:
		return entry{}, err
	}
	n := int64(binary.BigEndian.Uint32(length[:]))
	if n > maxFrame {
		return entry{}, &fault{r.at, "an entry has an impossible length"}
	}
	// A damaged length must not cost the memory that it names.
	var b []byte
	var err error
	if n <= 1<<20 {
		b = make([]byte, n)
		_, err = io.ReadFull(r.from, b)
	} else if b, err = io.ReadAll(io.LimitReader(r.from, n)); err == nil && int64(len(b)) < n {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return entry{}, &fault{r.at, "the file ends within an entry"}
	}
	if err != nil {
		return entry{}, err
	}
	e, err := r.sealer.open(r.number, b)
	if err != nil {
		return e, &fault{r.at, err.Error()}
	}
	r.at += frameHead + n
	r.number++
	return e, nil
}
