package ingress

import "encoding/binary"

// What a byte may be part of.
const (
	tokenByte      = 1 << iota // a token (RFC 9110, 5.6.2)
	upperByte                  // A to Z
	underscoreByte             // "_"
	pathByte                   // a path segment, as it is: neither "%" nor a separator
	labelByte                  // a label of a host name
)

var classes = func() (t [256]uint8) {
	for c := byte(' ') + 1; c < 0x7f; c++ {
		switch c {
		case '#', '?', '/', '\\', '%':
		default:
			t[c] |= pathByte
		}
	}
	for c := '0'; c <= '9'; c++ {
		t[c] |= tokenByte | labelByte
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c] |= tokenByte | labelByte
		t[c-'a'+'A'] |= tokenByte | labelByte | upperByte
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= tokenByte
	}
	t['_'] |= underscoreByte | labelByte
	t['-'] |= labelByte
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if classes[c]&tokenByte == 0 {
			return false
		}
	}
	return len(b) > 0
}

// Every byte of a word.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// isFieldValue allows visible characters, space, tab and obs-text. Eight
// bytes are looked at together, the last eight perhaps twice, and one by one
// only where there may be a control character among them.
func isFieldValue(b []byte) bool {
	if len(b) < 8 {
		return isFieldText(b)
	}
	for i := 0; ; i += 8 {
		i = min(i, len(b)-8)
		w := binary.LittleEndian.Uint64(b[i:])
		del := w ^ ones*0x7f
		if ((w-ones*' ')&^w|(del-ones)&^del)&highs != 0 && !isFieldText(b[i:i+8]) {
			return false
		}
		if i == len(b)-8 {
			return true
		}
	}
}

func isFieldText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trim removes optional white space (space and tab) at both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for n := len(b); n > 0 && (b[n-1] == ' ' || b[n-1] == '\t'); n = len(b) {
		b = b[:n-1]
	}
	return b
}

// EqualFold compares ASCII without regard to case and allocates nothing.
func EqualFold[A, B string | []byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

const upperHex = "0123456789ABCDEF"

// Unhex returns the value of a hexadecimal digit, -1 for any other character.
func Unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// isUnreserved is RFC 3986, 2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
