package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
)

// payloadOf decodes the middle segment of a token into buf, which holds
// maxToken*3/4 bytes, and reports whether there is one.
func payloadOf(token, buf []byte) ([]byte, bool) {
	if len(token) > maxToken {
		return nil, false
	}
	_, rest, _ := bytes.Cut(token, []byte{'.'})
	payload, _, ok := bytes.Cut(rest, []byte{'.'})
	if !ok {
		return nil, false
	}
	n, err := base64.RawURLEncoding.Decode(buf, payload)
	return buf[:n], err == nil
}

// peek returns the text of a top-level member of a JSON object, if it is a
// string. The object need not be valid: what is found in a broken one is
// refused later, by the verifier. The first of several is taken, and names
// written with escapes are not recognised.
func peek(object []byte, name string) ([]byte, bool) {
	i := skipSpace(object, 0)
	if i >= len(object) || object[i] != '{' {
		return nil, false
	}
	for i++; ; i++ {
		start := skipSpace(object, i)
		end := skipString(object, start)
		if end < 0 {
			return nil, false
		}
		found := string(object[start+1:end-1]) == name
		if i = skipSpace(object, end); i >= len(object) || object[i] != ':' {
			return nil, false
		}
		start = skipSpace(object, i+1)
		if found {
			return stringAt(object, start)
		}
		if i = skipSpace(object, skipValue(object, start)); i >= len(object) || object[i] != ',' {
			return nil, false
		}
	}
}

// stringAt returns the string that begins at i.
func stringAt(b []byte, i int) ([]byte, bool) {
	end := skipString(b, i)
	if end < 0 {
		return nil, false
	}
	text := b[i+1 : end-1]
	if bytes.IndexByte(text, '\\') < 0 {
		return text, true
	}
	var s string
	// The copy keeps the caller's buffer on its stack.
	err := json.Unmarshal(bytes.Clone(b[i:end]), &s)
	return []byte(s), err == nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the index after the string that begins at i, -1 when
// there is none.
func skipString(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// skipValue returns the index after the value that begins at i, at most
// len(b).
func skipValue(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return len(b)
			}
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				if depth < 0 {
					return i
				}
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}
