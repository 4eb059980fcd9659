package billing

import "time"

// Aggregation makes one quantity of many samples.
type Aggregation string

// The aggregations. Of cells, Value is the count of one minute at one gateway.
const (
	// Total is the sum of the values. The default.
	Total Aggregation = "sum"
	// Count is the number of samples.
	Count Aggregation = "count"
	// Max is the largest value; samples of one instant from several sources
	// are the parts of one value and are added first.
	Max Aggregation = "max"
	// Min is the smallest value, of instants as in Max.
	Min Aggregation = "min"
	// Mean is the sum of the values over their number.
	Mean Aggregation = "avg"
	// Latest is the value of the last instant.
	Latest Aggregation = "latest"
	// Unique is the number of distinct keys; for cells, of consumers.
	Unique Aggregation = "unique"
	// Weighted takes the values as changes of a level, and averages the level
	// over the period by time.
	Weighted Aggregation = "weighted_sum"
)

// Sample is a metered value at an instant.
type Sample struct {
	Time  time.Time
	Value Decimal
	// Key is what Unique counts.
	Key string
	// Order breaks ties of Time for Latest: the larger wins.
	Order string
}

// after reports whether s is the later of two; equals are in the order told.
func (s *Sample) after(t *Sample) bool {
	if s.Time.Equal(t.Time) {
		return s.Order >= t.Order
	}
	return s.Time.After(t.Time)
}

// Period is a span of time: from Start, up to but not including End.
type Period struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Has reports whether t lies within the period.
func (p Period) Has(t time.Time) bool { return !t.Before(p.Start) && t.Before(p.End) }

// Empty reports whether no instant lies within the period.
func (p Period) Empty() bool { return !p.Start.Before(p.End) }

// Cut returns the part of p that lies within q.
func (p Period) Cut(q Period) Period {
	if q.Start.After(p.Start) {
		p.Start = q.Start
	}
	if q.End.Before(p.End) {
		p.End = q.End
	}
	return p
}

// utc writes the period in UTC, so that equal periods have equal bytes.
func (p Period) utc() Period { return Period{p.Start.UTC(), p.End.UTC()} }

func (p Period) seconds() Decimal { return Fraction(int64(p.End.Sub(p.Start)), int64(time.Second)) }

// Aggregate makes the quantity of the samples that lie within the period, in
// any order. Level is where Weighted begins; the other aggregations ignore it.
// Nothing at all aggregates to 0.
func Aggregate(a Aggregation, samples []Sample, within Period, level Decimal) Decimal {
	switch a {
	case Count:
		n := int64(0)
		for _, s := range samples {
			if within.Has(s.Time) {
				n++
			}
		}
		return Int(n)
	case Unique:
		keys := map[string]bool{}
		for _, s := range samples {
			if within.Has(s.Time) {
				keys[s.Key] = true
			}
		}
		return Int(int64(len(keys)))
	case Max:
		return extreme(samples, within, 1)
	case Min:
		return extreme(samples, within, -1)
	case Mean:
		n := Aggregate(Count, samples, within, level)
		if n.Sign() == 0 {
			return n
		}
		return Aggregate(Total, samples, within, level).Div(n)
	case Latest:
		var last *Sample
		for i, s := range samples {
			if within.Has(s.Time) && (last == nil || s.after(last)) {
				last = &samples[i]
			}
		}
		if last == nil {
			return Decimal{}
		}
		return last.Value
	case Weighted:
		return weighted(samples, within, level)
	}
	total := Decimal{}
	for _, s := range samples {
		if within.Has(s.Time) {
			total = total.Add(s.Value)
		}
	}
	return total
}

// extreme is the largest value, or with the sign -1 the smallest.
func extreme(samples []Sample, within Period, sign int) Decimal {
	at := map[int64]Decimal{}
	for _, s := range samples {
		if within.Has(s.Time) {
			at[s.Time.UnixNano()] = at[s.Time.UnixNano()].Add(s.Value)
		}
	}
	var most *Decimal
	for _, v := range at {
		if most == nil || v.Cmp(*most) == sign {
			most = &v
		}
	}
	if most == nil {
		return Decimal{}
	}
	return *most
}

// weighted is level at the start plus, for each change, the change times the
// part of the period that is left: the same as the mean level over time.
func weighted(samples []Sample, within Period, level Decimal) Decimal {
	whole := within.seconds()
	total := level
	for _, s := range samples {
		if within.Has(s.Time) {
			left := Period{Start: s.Time, End: within.End}.seconds()
			total = total.Add(s.Value.Mul(left).Div(whole))
		}
	}
	return total
}
