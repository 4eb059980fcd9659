package upstream

import "bytes"

// stage is what comes next in a chunked body.
type stage uint8

const (
	chunkSize stage = iota
	chunkData
	chunkEnd
	trailer
)

// The bounds on what surrounds the data of a chunked body.
const (
	maxLine     = 1 << 10  // of a chunk's size with its extensions, or of a trailer field
	maxOverhead = 16 << 10 // of lines, beyond 16 bytes and twice the data for each chunk
)

var (
	errChunkSize  = &malformed{"http_response_transfer_coding", "malformed chunk size"}
	errChunkEnd   = &malformed{"http_response_transfer_coding", "chunk longer than its size"}
	errChunkLine  = &malformed{"http_response_transfer_coding", "chunk line too long"}
	errChunkWaste = &malformed{"http_response_transfer_coding", "chunks of little but extensions"}
)

// readChunks reads data of a chunked body; none at its end. Extensions are
// ignored, but must be well-formed.
func (r *Response) readChunks(p []byte) (int, error) {
	for {
		switch r.stage {
		case chunkSize:
			if err := r.beginChunk(); err != nil {
				return 0, err
			}
		case chunkData:
			n, err := r.some(p)
			if r.left == 0 {
				r.stage = chunkEnd
			}
			return n, err
		case chunkEnd:
			if err := r.endChunk(); err != nil {
				return 0, err
			}
		case trailer:
			line, err := r.line()
			if err != nil {
				return 0, err
			}
			if len(line) == 0 {
				r.trailing.end()
				r.ended = true
				return 0, nil
			}
			if err := r.trailing.add(line); err != nil {
				return 0, err
			}
		}
	}
}

func (r *Response) beginChunk() error {
	line, err := r.line()
	if err != nil {
		return err
	}
	if r.left, err = parseChunkSize(line); err != nil {
		return err
	}
	if r.left == 0 {
		r.stage = trailer
		return nil
	}
	r.stage = chunkData
	r.overhead = max(r.overhead+int64(len(line))-16-2*min(r.left, maxOverhead), 0)
	if r.overhead > maxOverhead {
		return errChunkWaste
	}
	return nil
}

func (r *Response) endChunk() error {
	c := r.conn
	for {
		b := c.in.b[c.r:min(c.w, c.r+2)]
		if string(b) != "\r\n"[:len(b)] {
			return errChunkEnd
		}
		if len(b) == 2 {
			c.r += 2
			r.stage = chunkSize
			return nil
		}
		if err := c.fill(r.backend.idle); err != nil {
			return err
		}
	}
}

// parseChunkSize parses a line of RFC 9112, section 7.1, without its CRLF.
func parseChunkSize(line []byte) (int64, error) {
	const mostDigits = 15 // within an int64
	var size int64
	i := 0
	for ; i < len(line); i++ {
		digit := bytes.IndexByte([]byte("0123456789abcdef"), line[i]|0x20)
		// Setting the bit that makes letters lower case makes digits of some
		// control characters.
		if digit < 0 || line[i] < '0' {
			break
		}
		size = size<<4 | int64(digit)
	}
	if i == 0 || i > mostDigits {
		return 0, errChunkSize
	}
	if extension := trim(line[i:]); i < len(line) && (len(extension) == 0 || extension[0] != ';' || !isText(extension)) {
		return 0, errChunkSize
	}
	return size, nil
}

// line returns the next line without its CRLF, valid until the next fill.
func (r *Response) line() ([]byte, error) {
	c := r.conn
	for seen := 0; ; {
		b := c.in.b[c.r:c.w]
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			i += seen
			if i == 0 || b[i-1] != '\r' {
				return nil, errLineEnd
			}
			if i > maxLine {
				return nil, errChunkLine
			}
			c.r += i + 1
			return b[:i-1], nil
		}
		if seen = len(b); seen > maxLine {
			return nil, errChunkLine
		}
		if err := c.fill(r.backend.idle); err != nil {
			return nil, err
		}
	}
}
