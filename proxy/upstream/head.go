package upstream

import (
	"bytes"
)

// The bounds on what a backend may send outside bodies.
const (
	maxHead    = 64 << 10 // bytes of a header section with its status line
	maxFields  = 256
	maxInterim = 8 // 1xx answers before the final one
)

// Field is one header line. Name is as the backend wrote it, Value without
// the white space around it.
type Field struct{ Name, Value []byte }

// head is a parsed header section.
type head struct {
	status  int
	minor   byte // of HTTP/1.x
	fields  []Field
	length  int64 // Content-Length; -1 when absent
	chunked bool
	close   bool // the connection ends with this answer
	upgrade bool // Connection names Upgrade
}

var (
	errStatusLine = &malformed{"http_protocol_error", "malformed status line"}
	errVersion    = &malformed{"http_protocol_error", "the answer is not HTTP/1.0 or HTTP/1.1"}
	errLineEnd    = &malformed{"http_protocol_error", "line does not end in CRLF"}
	errFolded     = &malformed{"http_protocol_error", "folded header line"}
	errFieldName  = &malformed{"http_protocol_error", "malformed field name"}
	errFieldValue = &malformed{"http_protocol_error", "control character in a field value"}
	errFields     = &malformed{"http_response_header_section_size", "too many header lines"}
	errHeadSize   = &malformed{"http_response_header_section_size", "header section too large"}
	errLength     = &malformed{"http_protocol_error", "malformed Content-Length"}
	errLengths    = &malformed{"http_protocol_error", "more than one Content-Length"}
	errCoding     = &malformed{"http_response_transfer_coding", "Transfer-Encoding other than chunked"}
	errFraming    = &malformed{"http_protocol_error", "both Content-Length and Transfer-Encoding"}
	errBodiless   = &malformed{"http_protocol_error", "a body where the status allows none"}
	errSwitching  = &malformed{"http_upgrade_failed", "101 without a request to upgrade"}
	errInterim    = &malformed{"http_protocol_error", "too many interim answers"}
	errTruncated  = &malformed{"http_response_incomplete", "the connection ended inside the header section"}
)

// headEnd returns the length of the header section that b begins with, the
// empty line included, or 0 while that line is not yet there. The first from
// bytes were looked at before. What can no longer become a header section is
// refused without waiting for its end.
func headEnd(b []byte, from int) (int, error) {
	const version = "HTTP/1."
	if n := min(len(b), len(version)); string(b[:n]) != version[:n] {
		return 0, errVersion
	}
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0, nil
		}
		i += from
		if i == 0 || b[i-1] != '\r' {
			return 0, errLineEnd
		}
		if i >= 3 && b[i-2] == '\n' {
			return i + 1, nil
		}
		from = i + 1
	}
}

// parse reads the header section b, as delimited by headEnd, into h. The
// fields are slices of b. RFC 9112, without any of its leniencies.
func (h *head) parse(b []byte) error {
	line, rest := cutLine(b)
	h.fields = h.fields[:0]
	h.length, h.chunked, h.upgrade = -1, false, false
	if err := h.parseStatus(line); err != nil {
		return err
	}
	h.close = h.minor == 0
	for {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		if len(h.fields) == maxFields {
			return errFields
		}
		f, err := parseField(line)
		if err != nil {
			return err
		}
		if err := h.note(f); err != nil {
			return err
		}
		h.fields = append(h.fields, f)
	}
	if h.chunked && h.length >= 0 {
		return errFraming
	}
	if h.chunked && h.minor == 0 {
		return errCoding
	}
	// RFC 9110, section 8.6, and RFC 9112, section 6.1. A length of 0 is
	// forbidden too, yet common, and harmless.
	if (h.status < 200 || h.status == 204) && (h.chunked || h.length > 0) {
		return errBodiless
	}
	return nil
}

// cutLine splits b after its first line. headEnd has seen to it that b is
// whole lines, each ended by CRLF.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	return b[:i-1], b[i+1:]
}

func (h *head) parseStatus(line []byte) error {
	const shortest = len("HTTP/1.1 200")
	if len(line) < shortest || line[8] != ' ' {
		return errStatusLine
	}
	if line[7] != '0' && line[7] != '1' {
		return errVersion
	}
	h.minor = line[7] - '0'
	h.status = 0
	for _, c := range line[9:shortest] {
		if c < '0' || c > '9' {
			return errStatusLine
		}
		h.status = h.status*10 + int(c-'0')
	}
	// The space after the code is required, yet some servers leave it out
	// where the reason is empty; nothing is ambiguous about that.
	if h.status < 100 || len(line) > shortest && line[shortest] != ' ' || !isText(line[shortest:]) {
		return errStatusLine
	}
	return nil
}

func parseField(line []byte) (Field, error) {
	if line[0] == ' ' || line[0] == '\t' {
		return Field{}, errFolded
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return Field{}, errFieldName
	}
	for _, c := range line[:colon] {
		if octets[c]&token == 0 {
			return Field{}, errFieldName
		}
	}
	value := trim(line[colon+1:])
	if !isText(value) {
		return Field{}, errFieldValue
	}
	return Field{line[:colon:colon], value}, nil
}

// note takes from f what frames the message.
func (h *head) note(f Field) error {
	switch len(f.Name) {
	case len("connection"):
		if equalFold(f.Name, "connection") {
			h.noteConnection(f.Value)
		}
	case len("content-length"):
		if equalFold(f.Name, "content-length") {
			if h.length >= 0 {
				return errLengths
			}
			return h.parseLength(f.Value)
		}
	case len("transfer-encoding"):
		if equalFold(f.Name, "transfer-encoding") {
			if h.chunked || !equalFold(f.Value, "chunked") {
				return errCoding
			}
			h.chunked = true
		}
	}
	return nil
}

func (h *head) noteConnection(list []byte) {
	for len(list) > 0 {
		option := list
		if i := bytes.IndexByte(list, ','); i >= 0 {
			option, list = list[:i], list[i+1:]
		} else {
			list = nil
		}
		switch option = trim(option); {
		case equalFold(option, "close"):
			h.close = true
		case equalFold(option, "upgrade"):
			h.upgrade = true
		}
	}
}

func (h *head) parseLength(v []byte) error {
	const mostDigits = 18 // within an int64
	if len(v) == 0 || len(v) > mostDigits {
		return errLength
	}
	h.length = 0
	for _, c := range v {
		if c < '0' || c > '9' {
			return errLength
		}
		h.length = h.length*10 + int64(c-'0')
	}
	return nil
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b[:len(b):len(b)]
}

// isText reports whether b is of HTAB, SP, VCHAR and obs-text alone
// (RFC 9110, section 5.5).
func isText(b []byte) bool {
	for _, c := range b {
		if octets[c]&text == 0 {
			return false
		}
	}
	return true
}

// equalFold reports whether b is lower, which is in lower case, in any case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// The classes of octets; an octet may be of several.
const (
	token = 1 << iota // RFC 9110, section 5.6.2
	text              // may stand in a field value
)

var octets = func() (t [256]byte) {
	for c := range t {
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= text
		}
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			t[c] |= token
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= token
	}
	return t
}()
