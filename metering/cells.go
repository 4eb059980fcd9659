package metering

import "math"

// index is a meter's place in records and frames.
type index int

const (
	atRequests index = iota
	atBillable
	atIn
	atOut
	atCompute
	atUnits
	atDenied
	atClass1 // to atClass5, the status classes
	_
	_
	_
	atClass5
	inRecord      // how many a record holds
	atInterrupted = inRecord
	atAll         = inRecord + 1 // how many a frame may name
)

// values are counts by index. The zero value is no usage.
type values [atAll]int64

// shipped are the meters that become cells; the others are for Usage alone.
var shipped = [atAll]string{
	atRequests: MeterRequests, atBillable: MeterBillable, atIn: MeterBytesIn, atOut: MeterBytesOut,
	atCompute: MeterCompute, atUnits: MeterUnits, atInterrupted: MeterInterrupted,
}

// add adds o; a sum stays at the end of int64 when it comes there.
func (v *values) add(o *values) {
	for i := range v {
		v[i] = plus(v[i], o[i])
	}
}

// raise makes each value the larger of both.
func (v *values) raise(o *values) {
	for i := range v {
		v[i] = max(v[i], o[i])
	}
}

func (v *values) counts() Counts {
	return Counts{
		Requests: v[atRequests], Denied: v[atDenied], BytesIn: v[atIn], BytesOut: v[atOut],
		Compute: v[atCompute], Units: v[atUnits],
		Status: Status{v[atClass1], v[atClass1+1], v[atClass1+2], v[atClass1+3], v[atClass5]},
	}
}

// plus adds amounts that are not negative. A sum beyond int64 stays at its
// end: a backend that reports absurd units must not make the count negative.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
