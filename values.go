package gatehouse

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time written as 250ms, 5s, 2m or 1h30m.
type Duration time.Duration

// UnmarshalText parses the form of time.ParseDuration; the value is positive.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v <= 0 {
		return errors.New("a positive duration such as 250ms, 5s or 1h30m is expected")
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String returns the duration without trailing zero units.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Or returns d, or def when d is absent.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// Time is an instant written as RFC 3339. The zero value is "absent".
type Time struct{ time.Time }

// UnmarshalText parses RFC 3339.
func (t *Time) UnmarshalText(b []byte) error {
	v, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return errors.New("an RFC 3339 time such as 2027-01-31T00:00:00Z is expected")
	}
	t.Time = v.UTC()
	return nil
}

// MarshalText writes RFC 3339 in UTC.
func (t Time) MarshalText() ([]byte, error) {
	return t.UTC().AppendFormat(nil, time.RFC3339Nano), nil
}

// ByteSize is a number of bytes written as 4096, 16KiB, 10MiB or 1GiB.
type ByteSize int64

var byteUnits = []struct {
	suffix string
	size   int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

// UnmarshalText parses a non-negative whole number and a unit.
func (s *ByteSize) UnmarshalText(b []byte) error {
	text := string(b)
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.size {
			break
		}
		*s = ByteSize(n * u.size)
		return nil
	}
	return errors.New("a size such as 512, 16KiB or 10MiB is expected")
}

// MarshalText writes what UnmarshalText reads, in the largest whole unit.
func (s ByteSize) MarshalText() ([]byte, error) {
	for _, u := range []int{2, 1, 0} {
		if unit := byteUnits[u]; s != 0 && int64(s)%unit.size == 0 {
			return []byte(strconv.FormatInt(int64(s)/unit.size, 10) + unit.suffix), nil
		}
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// Percent is a share in hundredths of a percent, written as 20% or 2.5%.
type Percent int32

const percentUnit = 100

// UnmarshalText parses 0% to 100% with at most two decimals.
func (p *Percent) UnmarshalText(b []byte) error {
	digits, ok := strings.CutSuffix(string(b), "%")
	v, err := strconv.ParseFloat(digits, 64)
	scaled := math.Round(v * percentUnit)
	if !ok || err != nil || !(v >= 0 && v <= 100) || math.Abs(scaled-v*percentUnit) > 1e-6 {
		return errors.New("a share from 0% to 100% such as 20% is expected")
	}
	*p = Percent(scaled)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (p Percent) MarshalText() ([]byte, error) {
	return append(strconv.AppendFloat(nil, float64(p)/percentUnit, 'f', -1, 64), '%'), nil
}

// Of returns the share of n, rounded down.
func (p Percent) Of(n int64) int64 { return n * int64(p) / (100 * percentUnit) }

// MaxUnits is the largest count that limits and quotas take: 2^53, so that
// every reader of JSON sees the number exactly.
const MaxUnits = 1 << 53

// Rate is a number of units per span of time, written as 500/s, 20/min,
// 1000/h, 5/d or 3/10s.
type Rate struct {
	Count int64
	Per   time.Duration
}

var rateUnits = map[string]time.Duration{
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hour": time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour,
}

// UnmarshalText parses COUNT/UNIT or COUNT/DURATION, both positive.
func (r *Rate) UnmarshalText(b []byte) error {
	count, per, ok := strings.Cut(string(b), "/")
	n, err := strconv.ParseInt(count, 10, 64)
	unit, known := rateUnits[per]
	if !known {
		var durErr error
		unit, durErr = time.ParseDuration(per)
		known = durErr == nil && unit > 0
	}
	if !ok || err != nil || !known {
		return errors.New("a rate such as 500/s, 20/min, 1000/h or 3/10s is expected")
	}
	if n <= 0 || n > MaxUnits {
		return errors.New("a rate is at least 1 and at most 2^53 units")
	}
	*r = Rate{n, unit}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) {
	if r.Per == 0 {
		return nil, nil
	}
	per := Duration(r.Per).String()
	switch r.Per {
	case time.Second:
		per = "s"
	case time.Minute:
		per = "min"
	case time.Hour:
		per = "h"
	case 24 * time.Hour:
		per = "d"
	}
	return fmt.Appendf(nil, "%d/%s", r.Count, per), nil
}

// PerSecond returns the rate in units per second.
func (r Rate) PerSecond() float64 { return float64(r.Count) / r.Per.Seconds() }

// Window is the period of a quota: a calendar Unit, or else a Length.
type Window struct {
	Unit   string // second, minute, hour, day, week or month; "" for Length
	Length time.Duration
}

// UnmarshalText parses a calendar unit or a duration.
func (w *Window) UnmarshalText(b []byte) error {
	switch s := string(b); s {
	case "second", "minute", "hour", "day", "week", "month":
		*w = Window{Unit: s}
		return nil
	}
	d, err := time.ParseDuration(string(b))
	if err != nil || d < time.Second {
		return errors.New("a window is second, minute, hour, day, week, month or a duration of at least 1s")
	}
	*w = Window{Length: d}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (w Window) MarshalText() ([]byte, error) {
	if w.Unit != "" || w.Length == 0 {
		return []byte(w.Unit), nil
	}
	return []byte(Duration(w.Length).String()), nil
}

// Selector picks a value of a request: principal, key, address,
// header:NAME, cookie:NAME or claim:NAME.
type Selector struct {
	Kind string
	Name string
}

// UnmarshalText parses the forms above. Header names become canonical.
func (s *Selector) UnmarshalText(b []byte) error {
	kind, name, named := strings.Cut(string(b), ":")
	switch kind {
	case "principal", "key", "address":
		if !named {
			*s = Selector{Kind: kind}
			return nil
		}
	case "header", "cookie", "claim":
		if name != "" && (kind == "claim" || isToken(name)) {
			if kind == "header" {
				name = textproto.CanonicalMIMEHeaderKey(name)
			}
			*s = Selector{kind, name}
			return nil
		}
	}
	return errors.New("principal, key, address, header:NAME, cookie:NAME or claim:NAME is expected")
}

// MarshalText writes what UnmarshalText reads.
func (s Selector) MarshalText() ([]byte, error) {
	if s.Name == "" {
		return []byte(s.Kind), nil
	}
	return []byte(s.Kind + ":" + s.Name), nil
}

// Prefix is an IP address, or a range of them such as 192.0.2.0/24 or
// 2001:db8::/32, written without bits beyond its length.
type Prefix struct{ netip.Prefix }

// UnmarshalText reads both forms.
func (p *Prefix) UnmarshalText(b []byte) error {
	if a, err := netip.ParseAddr(string(b)); err == nil && a.Zone() == "" {
		a = a.Unmap()
		p.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	r, err := netip.ParsePrefix(string(b))
	if err != nil || r.Addr().Is4In6() {
		return fmt.Errorf("%q is neither an IP address nor a prefix such as 192.0.2.0/24", clip(string(b)))
	}
	if r.Masked() != r {
		return fmt.Errorf("prefix %q has bits beyond its length: it is %s", clip(string(b)), r.Masked())
	}
	p.Prefix = r
	return nil
}

// MarshalText writes a single address without its length.
func (p Prefix) MarshalText() ([]byte, error) {
	if p.IsSingleIP() {
		return []byte(p.Addr().String()), nil
	}
	return p.Prefix.MarshalText()
}

// Secret is a value that is never printed.
type Secret []byte

const redacted = "[redacted]"

// Format hides the value whatever the verb: %d would show it past String.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String hides the value.
func (Secret) String() string { return redacted }

// GoString hides the value.
func (Secret) GoString() string { return redacted }

// MarshalText hides the value.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the value.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
