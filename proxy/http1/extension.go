package http1

// areExtensions reads chunk-ext (RFC 9112, 7.1.1), semicolon first and without
// control characters. White space in front of the first semicolon and behind
// the last extension is not taken: parsers differ on it.
func areExtensions(b []byte) bool {
	for len(b) > 0 {
		if b[0] != ';' {
			return false
		}
		n := tokenLength(blanks(b[1:]))
		if n == 0 {
			return false
		}
		b = blanks(b[1:])[n:]
		if after := blanks(b); len(after) > 0 && after[0] == '=' {
			if after = blanks(after[1:]); len(after) > 0 && after[0] == '"' {
				n = quotedLength(after)
			} else {
				n = tokenLength(after)
			}
			if n == 0 {
				return false
			}
			b = after[n:]
		}
		if after := blanks(b); len(after) > 0 {
			b = after
		}
	}
	return true
}

// blanks cuts spaces and tabs off the front.
func blanks(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// tokenLength is that of the token (RFC 9110, 5.6.2) which b begins with.
func tokenLength(b []byte) int {
	for i, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '!', '#' <= c && c <= '\'', c == '*', c == '+', c == '-', c == '.', c == '^', c == '_', c == '`', c == '|', c == '~':
		default:
			return i
		}
	}
	return len(b)
}

// quotedLength is that of the quoted-string (RFC 9110, 5.6.4) which b begins
// with, 0 where it does not end.
func quotedLength(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return 0
}
