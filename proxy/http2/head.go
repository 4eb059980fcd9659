package http2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2/hpack"

	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// headerBlock is one that is being received. It belongs to the goroutine of
// Serve, under Conn.mu where it touches a stream.
type headerBlock struct {
	id     uint32 // 0: there is none
	target target
	s      *Stream // whose head or trailer it is; nil: it is only decoded
	ends   bool    // END_STREAM

	malformed bool // RFC 9113, 8.1.1
	regular   bool // a field that is no pseudo-header field has come
	size      int  // as SETTINGS_MAX_HEADER_LIST_SIZE counts
	bytes     int  // as it came
	parts     int  // HEADERS and CONTINUATION
	met       uint8
}

// target is what becomes of a header block.
type target uint8

const (
	toOpen    target = iota // a new stream
	toTrailer               // the end of a body
	toRefuse                // nothing: there are too many streams
	toLate                  // nothing: the stream is closed
	toEnded                 // nothing: the client has ended the stream
	toNothing               // nothing: the client has been sent away
)

// maxParts is how many frames a header block may come in: a client fills one
// before it begins another, but some write a frame for what they flush.
const maxParts = 16

// maxBlock is the size of a header block as it comes, in bytes. It is more
// than HeaderBytes, so that a client that sends a little too much gets an
// answer.
func (c *Conn) maxBlock() int { return 2 * c.cfg.HeaderBytes }

func (c *Conn) takeHeaders(f *frame) *Error {
	if f.id%2 == 0 {
		return fault(ProtocolError, "HEADERS on a stream that no client opens")
	}
	p, err := f.unpad()
	if err != nil {
		return err
	}
	c.block = headerBlock{id: f.id, ends: f.has(flagEndStream)}
	b := &c.block
	s := c.streams[f.id]
	switch {
	case s != nil && s.theirEnd:
		b.target = toEnded
	case s != nil:
		b.target, b.s = toTrailer, s
	case f.id <= c.last:
		b.target = toLate
		if c.closed.of(f.id) == closedQuietly {
			return fault(ProtocolError, "the numbers of streams do not grow")
		}
	case c.drain == drainFinal:
		b.target = toNothing
	case c.open >= c.cfg.Streams || c.running >= 2*c.cfg.Streams:
		b.target = toRefuse
	default:
		b.target, b.s = toOpen, c.stream(f.id)
	}
	c.last = max(c.last, f.id)
	if f.has(flagPriority) {
		if len(p) < priorityPayloadBytes {
			return fault(FrameSizeError, "HEADERS are too short for their priority")
		}
		if binary.BigEndian.Uint32(p)&maxID == f.id {
			b.malformed = true
		}
		p = p[priorityPayloadBytes:]
	}
	return c.takeFragment(p, f.has(flagEndHeaders))
}

func (c *Conn) takeFragment(p []byte, last bool) *Error {
	b := &c.block
	if b.target == toTrailer && c.streams[b.id] != b.s {
		b.target, b.s = toLate, nil // it has ended between two parts, and may be another's
	}
	b.parts++
	b.bytes += len(p)
	if b.parts > maxParts || b.bytes > c.maxBlock() {
		return fault(EnhanceYourCalm, "a header block is too large, or in too many frames")
	}
	if _, err := c.dec.Write(p); err != nil {
		if errors.Is(err, hpack.ErrStringLength) {
			return fault(EnhanceYourCalm, "a header field is too large")
		}
		return fault(CompressionError, "malformed header block")
	}
	if !last {
		if c.partial == 0 {
			c.partial = c.heard
		}
		return nil
	}
	if c.dec.Close() != nil {
		return fault(CompressionError, "a header block breaks off")
	}
	c.dec.SetEmitEnabled(true)
	c.partial = 0
	done := *b
	c.block = headerBlock{}
	return c.takeBlock(&done)
}

// takeBlock acts on a header block that is whole.
func (c *Conn) takeBlock(b *headerBlock) *Error {
	s := b.s
	switch b.target {
	case toOpen:
		if !b.malformed {
			b.malformed = !b.complete()
		}
		if b.malformed {
			s.recycle()
			return c.refuse(b.id, ProtocolError)
		}
		c.start(s, b.ends)
	case toTrailer:
		if b.malformed || !b.ends || s.declared >= 0 && s.received != s.declared {
			return c.refuse(b.id, ProtocolError)
		}
		s.theirEnd = true
		c.settle(s)
		signal(s.readable)
	case toRefuse:
		return c.refuse(b.id, RefusedStream)
	case toLate:
		return c.late(b.id)
	case toEnded:
		return c.refuse(b.id, StreamClosed)
	case toNothing:
		c.closed.add(b.id, closedByUs)
		return c.churn()
	}
	return nil
}

func (c *Conn) start(s *Stream, ends bool) {
	s.Ended, s.theirEnd = ends, ends
	s.window, s.credit = c.theirInitial, c.initial
	s.counted = true
	c.streams[s.id] = s
	c.open++
	c.running++
	c.voids.give(2)
	c.dispatch(s)
}

// What a header block has had.
const (
	metMethod uint8 = 1 << iota
	metScheme
	metAuthority
	metPath
	metExpect
)

// complete reports whether the pseudo-header fields are those that a request
// must have (RFC 9113, 8.3.1 and 8.5), and the length is not of a body that
// does not come.
func (b *headerBlock) complete() bool {
	s := b.s
	s.awaited = b.met&metExpect != 0 && !b.ends
	if b.ends && s.declared > 0 {
		return false
	}
	if s.TooLarge {
		return true // some of it is missing
	}
	if string(s.Method) == "CONNECT" {
		return b.met&(metScheme|metPath) == 0 && len(s.Authority) > 0
	}
	const all = metMethod | metScheme | metPath
	return b.met&all == all && len(s.Path) > 0
}

// emit takes a field that the decoder has found.
func (c *Conn) emit(f hpack.HeaderField) {
	b := &c.block
	if b.malformed || b.s == nil {
		c.dec.SetEmitEnabled(false)
		return
	}
	s := b.s
	if b.size += int(f.Size()); b.size > c.cfg.HeaderBytes {
		b.tooLarge()
		c.dec.SetEmitEnabled(false)
		return
	}
	if !validValue(f.Value) {
		b.malformed = true
		return
	}
	if f.IsPseudo() {
		b.malformed = b.regular || b.target != toOpen || !b.pseudo(f)
		return
	}
	b.regular = true
	if !validName(f.Name) || !ofRequest(f) {
		b.malformed = true
		return
	}
	if b.target == toTrailer {
		name := s.keep(f.Name)
		switch {
		case len(s.trailer) == ingress.MaxFields:
			b.malformed = true
		case ingress.MayTrail(name):
			s.trailer = append(s.trailer, ingress.Field{Name: name, Value: s.keep(f.Value)})
		}
		return
	}
	switch f.Name {
	case "content-length":
		n := parseLength(f.Value)
		b.malformed = n < 0 || s.declared >= 0 && s.declared != n
		s.declared = n
	case "expect":
		if ingress.EqualFold(f.Value, "100-continue") {
			b.met |= metExpect
		}
	}
	if len(s.Fields) == ingress.MaxFields {
		s.TooLarge = true
		c.dec.SetEmitEnabled(false)
		return
	}
	s.Fields = append(s.Fields, ingress.Field{Name: s.keep(f.Name), Value: s.keep(f.Value)})
}

// tooLarge notes that the block is larger than it may be: a request is answered
// all the same, but a trailer is too late for that.
func (b *headerBlock) tooLarge() {
	if b.target == toTrailer {
		b.malformed = true
	} else {
		b.s.TooLarge = true
	}
}

// pseudo takes a pseudo-header field, and reports whether there may be it.
func (b *headerBlock) pseudo(f hpack.HeaderField) bool {
	var to *[]byte
	var flag uint8
	switch f.Name {
	case ":method":
		to, flag = &b.s.Method, metMethod
	case ":scheme":
		to, flag = &b.s.Scheme, metScheme
	case ":authority":
		to, flag = &b.s.Authority, metAuthority
	case ":path":
		to, flag = &b.s.Path, metPath
	default:
		return false
	}
	if b.met&flag != 0 {
		return false
	}
	b.met |= flag
	*to = b.s.keep(f.Value)
	return true
}

// validName allows tokens without upper case (RFC 9113, 8.2.1).
func validName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', c == '-', '0' <= c && c <= '9':
		case c <= ' ', c >= 0x7f, 'A' <= c && c <= 'Z':
			return false
		default:
			switch c {
			case '"', '(', ')', ',', '/', ':', ';', '<', '=', '>', '?', '@', '[', '\\', ']', '{', '}':
				return false
			}
		}
	}
	return len(name) > 0
}

// validValue allows no control characters but tab, and no white space around.
func validValue(v string) bool {
	if v == "" {
		return true
	}
	if first, last := v[0], v[len(v)-1]; first == ' ' || first == '\t' || last == ' ' || last == '\t' {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// ofRequest is false for the fields of a connection (RFC 9113, 8.2.2).
func ofRequest(f hpack.HeaderField) bool {
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return false
	case "te":
		return ingress.EqualFold(f.Value, "trailers")
	}
	return true
}

// parseLength reads a Content-Length; -1: it is none.
func parseLength(v string) int64 {
	const most = 18 // digits that fit in an int64
	if v == "" || len(v) > most {
		return -1
	}
	n := int64(0)
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return -1
		}
		n = n*10 + int64(v[i]-'0')
	}
	return n
}
