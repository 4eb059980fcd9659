package ingress

import (
	"bytes"

	"github.com/gatehouse-gateway/gatehouse"
)

// emptyLine ends a head, with the line break before it.
var emptyLine = []byte("\r\n\r\n")

// HeadEnd looks for the end of a request head while its bytes arrive. b
// begins with the request line, and what is before from has been looked at by
// an earlier call. It returns the index behind the empty line, or 0 when more
// bytes are needed. It fails as soon as b cannot be the beginning of a valid
// head, so that what speaks another protocol is not waited for: with a byte
// that begins no method (an empty line too: skipping one is up to the caller,
// RFC 9112, 2.2), with a first line that is no request line, and with a bare
// CR, a bare LF or a NUL.
//
// A head that has an end is not yet valid; ParseHead finds out.
func HeadEnd(b []byte, from int) (end int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	if classes[b[0]]&tokenByte == 0 {
		return 0, bad("no request begins with this byte")
	}
	// The last byte of before may be a CR whose LF has come only now.
	start := min(max(from-1, 0), len(b))
	first := start == 0 || bytes.IndexByte(b[:start], '\n') < 0
	for at := start; ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			if cr := bytes.IndexByte(b[at:], '\r'); cr >= 0 && at+cr != len(b)-1 {
				return 0, bad("a CR without LF")
			}
			end = len(b)
			break
		}
		lf := at + n
		if lf == 0 || b[lf-1] != '\r' {
			return 0, bad("a line ends in LF without CR")
		}
		if n > 1 && bytes.IndexByte(b[at:lf-1], '\r') >= 0 {
			return 0, bad("a CR without LF")
		}
		if first {
			first = false
			if _, _, _, ok := cutRequestLine(b[:lf-1]); !ok {
				return 0, bad("malformed request line")
			}
		}
		if at = lf + 1; lf >= 3 && b[lf-2] == '\n' {
			end = at
			break
		}
	}
	if bytes.IndexByte(b[start:end], 0) >= 0 {
		return 0, bad("a NUL in the request head")
	}
	if end >= len(emptyLine) && bytes.HasSuffix(b[:end], emptyLine) {
		return end, nil
	}
	return 0, nil
}

// ParseHead validates a request head from the first byte of its request line
// through its empty line, as HeadEnd found it, and reads it into r, which is
// new or Reset. Errors are as for Parse.
func (r *Request) ParseHead(head []byte) error {
	end := bytes.IndexByte(head, '\n')
	if end < 1 || head[end-1] != '\r' {
		return bad("malformed request line")
	}
	method, target, protocol, ok := cutRequestLine(head[:end-1])
	if !ok {
		return bad("malformed request line")
	}
	return r.Parse(method, target, protocol, head[end+1:])
}

// cutRequestLine splits a request line (RFC 9112, 3) at its two spaces, and
// fails where there are not two, or the last part is no protocol of the
// family. A third space ends up in target, which may hold none.
func cutRequestLine(line []byte) (method, target, protocol []byte, ok bool) {
	a, b := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if a < 1 || b-a < 2 || !bytes.HasPrefix(line[b+1:], httpSlash) {
		return nil, nil, nil, false
	}
	return line[:a:a], line[a+1 : b : b], line[b+1:], true
}

var httpSlash = []byte("HTTP/")

// version reads HTTP-version (RFC 9112, 2.3). HTTP/2 and /3 have no minor
// version in their names (RFC 9113, 2; RFC 9114, 2), and are forgiven that to
// be told what is wrong.
func (r *Request) version(protocol []byte) error {
	const unspoken = "only HTTP/1.1 and HTTP/1.0 are spoken here"
	if len(protocol) < 6 || !bytes.HasPrefix(protocol, httpSlash) || !isDigit(protocol[5]) {
		return bad("malformed HTTP version")
	}
	switch major := protocol[5] - '0'; {
	case len(protocol) == 6 && major > 1:
		return refuse(gatehouse.CodeVersion, unspoken)
	case len(protocol) != 8 || protocol[6] != '.' || !isDigit(protocol[7]):
		return bad("malformed HTTP version")
	case major != 1 || protocol[7] > '1':
		return refuse(gatehouse.CodeVersion, unspoken)
	}
	r.Major, r.Minor = 1, int(protocol[7]-'0')
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
