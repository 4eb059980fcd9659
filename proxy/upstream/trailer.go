package upstream

// maxTrailer bounds a trailer section, in bytes.
const maxTrailer = 16 << 10

var errTrailer = &malformed{"http_response_trailer_section_size", "trailer section too large"}

// trailing is the trailer section of an answer. The body's buffer moves, so
// that the lines are kept apart from it.
type trailing struct {
	lines  []byte // each as received, with its CRLF
	count  int
	fields []Field // of lines, once these are complete
}

// reset returns an empty one that uses the memory of t again.
func (t *trailing) reset() trailing {
	clear(t.fields)
	return trailing{lines: t.lines[:0], fields: t.fields[:0]}
}

// add checks a line and keeps it.
func (t *trailing) add(line []byte) error {
	if len(t.lines)+len(line) > maxTrailer || t.count == maxFields {
		return errTrailer
	}
	if _, err := parseField(line); err != nil {
		return err
	}
	t.count++
	t.lines = append(append(t.lines, line...), "\r\n"...)
	return nil
}

// end makes the fields.
func (t *trailing) end() {
	for rest := t.lines; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		if f, err := parseField(line); err == nil { // as add saw
			t.fields = append(t.fields, f)
		}
	}
}
