package identity

// appendVisible appends s with all but visible ASCII and "%" escaped, so that
// a name can never break out of its header line.
func appendVisible(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '%' {
			dst = append(dst, c)
		} else {
			dst = appendEscaped(dst, c)
		}
	}
	return dst
}

// appendList appends names with commas between them; a comma in a name is
// escaped.
func appendList(dst []byte, names []string) []byte {
	for i, s := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		for i := range len(s) {
			if c := s[i]; c > ' ' && c < 0x7f && c != '%' && c != ',' {
				dst = append(dst, c)
			} else {
				dst = appendEscaped(dst, c)
			}
		}
	}
	return dst
}

// appendPrintable appends what stands in a request line. Control characters
// never do, and would end a line of what is signed: escaped, they make a
// signature that does not hold.
func appendPrintable(dst, s []byte, lower bool) []byte {
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			dst = appendEscaped(dst, c)
			continue
		}
		if lower && 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func appendEscaped(dst []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	return append(dst, '%', hex[c>>4], hex[c&15])
}
