package ledger

import "encoding/json"

// slots are the days, hours and minutes of UTC that make up spans, each with
// the index of its span.
type slots struct{ days, hours, minutes [][2]int64 }

const (
	minutesPerHour = 60
	minutesPerDay  = 1440
)

// add divides span i into the largest parts that lie in it.
func (s *slots) add(i int64, w span) {
	for at := w.start; at < w.end; {
		switch {
		case at%minutesPerDay == 0 && at+minutesPerDay <= w.end:
			s.days = append(s.days, [2]int64{at / minutesPerDay, i})
			at += minutesPerDay
		case at%minutesPerHour == 0 && at+minutesPerHour <= w.end:
			s.hours = append(s.hours, [2]int64{at / minutesPerHour, i})
			at += minutesPerHour
		default:
			s.minutes = append(s.minutes, [2]int64{at, i})
			at++
		}
	}
}

func (s *slots) len() int { return len(s.days) + len(s.hours) + len(s.minutes) }

func array(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("ledger: " + err.Error()) // numbers and strings always marshal
	}
	return string(b)
}
