package http2

import "strconv"

// encoder writes header blocks (RFC 7541). hpack's own takes strings, and so
// costs two allocations for each field. This one remembers what it sent in a
// table as the client does, but only that which the client is sure to have:
// the latest entries that fit. It uses no Huffman code, since what recurs is
// sent once. It is guarded by Conn.mu.
type encoder struct {
	ring  [64]entry // the latest last, ring[(next-1)%64]
	next  int       // how many were ever added
	count int       // how many of them are in the table
	size  int       // of these, as RFC 7541, 4.1 counts
	limit int       // of size

	resized bool // the limit has changed since the last block
	lower   []byte
}

// entry is a field of the table: its name, of n bytes, and its value.
type entry struct {
	b []byte
	n int
}

const (
	entryOverhead = 32
	staticEntries = 61
)

func (e *entry) size() int { return len(e.b) + entryOverhead }

// static is where the names that answers have are in the static table.
var static = map[string]int{
	"accept-ranges": 18, "access-control-allow-origin": 20, "age": 21, "allow": 22, "cache-control": 24,
	"content-disposition": 25, "content-encoding": 26, "content-language": 27, "content-length": 28,
	"content-location": 29, "content-range": 30, "content-type": 31, "date": 33, "etag": 34, "expires": 36,
	"last-modified": 44, "link": 45, "location": 46, "proxy-authenticate": 48, "refresh": 52, "retry-after": 53,
	"server": 54, "set-cookie": 55, "strict-transport-security": 56, "vary": 59, "via": 60, "www-authenticate": 61,
}

// resize changes the limit of the table, as the client asks. The table is
// emptied: the client is told that it was 0 in between, so that it need not
// be told what the smallest was (RFC 7541, 4.2), which some decoders refuse.
func (e *encoder) resize(limit int) {
	if limit != e.limit {
		e.resized, e.limit = true, limit
		e.count, e.size = 0, 0
	}
}

// evict makes room for n bytes.
func (e *encoder) evict(n int) {
	for e.count > 0 && (e.size+n > e.limit || e.count == len(e.ring)) {
		e.size -= e.ring[(e.next-e.count)%len(e.ring)].size()
		e.count--
	}
}

// begin begins a header block on b.
func (e *encoder) begin(b []byte) []byte {
	if e.resized {
		e.resized = false
		const update = 0x20
		b = append(b, update)
		if e.limit > 0 {
			b = appendInt(b, update, 5, e.limit)
		}
	}
	return b
}

// status appends :status.
func (e *encoder) status(b []byte, status int) []byte {
	const name = 8
	switch status {
	case 200:
		return append(b, 0x80|name)
	case 204:
		return append(b, 0x80|9)
	case 206:
		return append(b, 0x80|10)
	case 304:
		return append(b, 0x80|11)
	case 400:
		return append(b, 0x80|12)
	case 404:
		return append(b, 0x80|13)
	case 500:
		return append(b, 0x80|14)
	}
	b = append(b, name, 3)
	return strconv.AppendInt(b, int64(status), 10)
}

// field appends a field, its name in lower case.
func (e *encoder) field(b, name, value []byte) []byte {
	e.lower = appendLower(e.lower[:0], name)
	name = e.lower
	index := static[string(name)]
	how := usual(name)
	if how == neverIndexed {
		return appendLiteral(b, 0x10, 4, index, name, value)
	}
	for i := range e.count {
		x := &e.ring[(e.next-1-i)%len(e.ring)]
		if x.n != len(name) || string(x.b[:x.n]) != string(name) {
			continue
		}
		if string(x.b[x.n:]) == string(value) {
			return appendInt(b, 0x80, 7, staticEntries+1+i)
		}
		if index == 0 {
			index = staticEntries + 1 + i
		}
	}
	// A value that comes once is not worth a place; its name may be.
	size := len(name) + len(value) + entryOverhead
	if how == notIndexed && index != 0 || size > e.limit/4 {
		return appendLiteral(b, 0, 4, index, name, value)
	}
	b = appendLiteral(b, 0x40, 6, index, name, value)
	e.evict(size)
	x := &e.ring[e.next%len(e.ring)]
	x.b, x.n = append(append(x.b[:0], name...), value...), len(name)
	e.next++
	e.count++
	e.size += size
	return b
}

func appendLower(b, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// indexing is whether a field enters the tables of both sides.
type indexing uint8

const (
	indexed      indexing = iota
	notIndexed            // its value hardly comes again
	neverIndexed          // nor may anybody on the way do it: it is a secret
)

func usual(name []byte) indexing {
	switch string(name) {
	case "set-cookie", "cookie", "authorization", "proxy-authorization":
		return neverIndexed
	case "content-length", "content-range", "etag", "last-modified", "location", "age", "expires", "retry-after",
		"x-request-id", "traceparent", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit-remaining",
		"ratelimit-reset", "grpc-message":
		return notIndexed
	}
	return indexed
}

func appendLiteral(b []byte, first byte, bits, index int, name, value []byte) []byte {
	b = appendInt(b, first, bits, index)
	if index == 0 {
		b = append(appendInt(b, 0, 7, len(name)), name...)
	}
	return append(appendInt(b, 0, 7, len(value)), value...)
}

// appendInt appends n in a prefix of bits, below the bits of first (RFC 7541,
// 5.1).
func appendInt(b []byte, first byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
