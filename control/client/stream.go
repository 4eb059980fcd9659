package client

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gatehouse-gateway/gatehouse"
)

// maxLine bounds a record of the stream, in bytes. The control plane cuts what
// is larger into parts.
const maxLine = 512 << 20

// stream reads the records of updates, one JSON value a line.
type stream struct {
	lines *bufio.Reader
	whole *gatehouse.Update // parts of a full update so far
}

func newStream(r io.Reader) *stream { return &stream{lines: bufio.NewReaderSize(r, 64<<10)} }

// record is one line. It is what control/api writes.
type record struct {
	Update    *gatehouse.Update `json:"update"`
	Last      bool              `json:"last"`
	Heartbeat *uint64           `json:"heartbeat"`
	Ask       *Question         `json:"ask"`
}

// next returns the next whole update, nil for anything else. heard is called as
// soon as something has come, and asked with a question.
func (s *stream) next(heard func(), asked func(*Question)) (*gatehouse.Update, error) {
	line, err := s.line(heard)
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("a record is not understood: %w", err)
	}
	if r.Ask != nil {
		asked(r.Ask)
	}
	u := r.Update
	switch {
	case u == nil:
		return nil, nil //nolint:nilnil // a heartbeat, or what a later version says
	case s.whole == nil:
		s.whole = u
	case s.whole.Revision != u.Revision || !u.Full:
		return nil, errors.New("an update was not finished")
	default:
		s.whole.Plans = append(s.whole.Plans, u.Plans...)
		s.whole.Tenants = append(s.whole.Tenants, u.Tenants...)
		s.whole.Keys = append(s.whole.Keys, u.Keys...)
	}
	if !r.Last {
		return nil, nil //nolint:nilnil // a part
	}
	u, s.whole = s.whole, nil
	return u, nil
}

// line returns the next line. It holds until the next call.
func (s *stream) line(heard func()) ([]byte, error) {
	var long []byte
	for {
		piece, err := s.lines.ReadSlice('\n')
		if len(piece) > 0 {
			heard()
		}
		switch {
		case err == nil && long == nil:
			return piece, nil
		case err == nil:
			return append(long, piece...), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if errors.Is(err, io.EOF) && len(long)+len(piece) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		case len(long) > maxLine:
			return nil, errors.New("a record is too long")
		}
		long = append(long, piece...)
	}
}
