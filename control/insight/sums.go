package insight

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/gatehouse-gateway/gatehouse/control"
)

// sums are what requests came to.
type sums struct {
	requests, denied, limited, in, out int64
	times                              times
}

func (s *sums) add(o *sums) {
	s.requests += o.requests
	s.denied += o.denied
	s.limited += o.limited
	s.in += o.in
	s.out += o.out
	if s.times == nil {
		s.times = times{}
	}
	for bound, n := range o.times {
		s.times[bound] += n
	}
}

// scanner is *sql.Row or *sql.Rows.
type scanner interface{ Scan(dst ...any) error }

// scanSums reads the columns of sums, after those of before.
func scanSums(row scanner, before ...any) (s sums, err error) {
	var text []byte
	if err := row.Scan(append(before, &s.requests, &s.denied, &s.limited, &s.in, &s.out, &text)...); err != nil {
		return s, err
	}
	s.times, err = decodeTimes(text)
	return s, err
}

// times are counts by the upper bound of a bucket in microseconds.
type times map[int64]int64

func timesOf(list []control.TimeCount) times {
	t := times{}
	for _, b := range list {
		t[b.Micros] += b.Count
	}
	return t
}

// encode writes pairs of varints, ascending: the step from the bound before,
// and the count.
func (t times) encode() []byte {
	b := []byte{} // not NULL
	last := int64(0)
	for _, bound := range slices.Sorted(maps.Keys(t)) {
		b = binary.AppendUvarint(b, uint64(bound-last))
		b = binary.AppendUvarint(b, uint64(t[bound]))
		last = bound
	}
	return b
}

var errTimes = errors.New("a histogram of times cannot be read")

func decodeTimes(b []byte) (times, error) {
	t := times{}
	bound := int64(0)
	for len(b) > 0 {
		step, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errTimes
		}
		count, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return nil, errTimes
		}
		bound += int64(step)
		t[bound] += int64(count)
		b = b[n+m:]
	}
	return t, nil
}

// load is the sums as the API has them; errors of them were answered 5xx.
func (s *sums) load(errors int64) control.Load {
	q := func(share float64) float64 { return s.times.quantile(share) }
	return control.Load{
		Requests: s.requests, Errors: errors, Denied: s.denied, Limited: s.limited, BytesIn: s.in, BytesOut: s.out,
		P50: q(0.5), P90: q(0.9), P99: q(0.99),
	}
}

// quantile returns the bound, in milliseconds, within which a share of the
// requests ended; 0 of none. It is above the true figure by at most a quarter.
func (t times) quantile(share float64) float64 {
	var total int64
	for _, n := range t {
		total += n
	}
	rank := max(int64(math.Ceil(share*float64(total))), 1)
	for _, bound := range slices.Sorted(maps.Keys(t)) {
		if rank -= t[bound]; rank <= 0 {
			return float64(bound) / 1000
		}
	}
	return 0
}
