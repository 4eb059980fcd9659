package gatehouse_test

import (
	"encoding"
	"encoding/json"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"pgregory.net/rapid"
)

// text is a value that is written as text, and its pointer.
type text[T any] interface {
	*T
	encoding.TextUnmarshaler
}

// roundTrip checks that what a value writes reads as the value.
func roundTrip[T comparable, P text[T]](t *testing.T, values *rapid.Generator[T]) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		v := values.Draw(t, "value")
		b, err := any(v).(encoding.TextMarshaler).MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got T
		if err := P(&got).UnmarshalText(b); err != nil || got != v {
			t.Fatalf("%s reads as %v, not %v: %v", b, got, v, err)
		}
	})
}

// form checks what is read, written as want, and that want reads as the same.
func form[T comparable, P text[T]](t *testing.T, in, want string) {
	t.Helper()
	var v, again T
	if err := P(&v).UnmarshalText([]byte(in)); err != nil {
		t.Errorf("%q: %v", in, err)
		return
	}
	b, err := any(v).(encoding.TextMarshaler).MarshalText()
	if err != nil || string(b) != want {
		t.Errorf("%q is written as %q, not %q: %v", in, b, want, err)
	}
	if err := P(&again).UnmarshalText(b); err != nil || again != v {
		t.Errorf("%q and %q are not the same value", in, b)
	}
}

// refused checks that none of the texts is read, and that the value keeps.
func refused[T comparable, P text[T]](t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		var v, zero T
		if err := P(&v).UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q reads as %v", s, v)
		} else if v != zero {
			t.Errorf("%q is refused but leaves %v", s, v)
		}
	}
}

func TestDuration(t *testing.T) {
	roundTrip(t, rapid.Map(rapid.Int64Min(1), func(n int64) gatehouse.Duration { return gatehouse.Duration(n) }))
	f := form[gatehouse.Duration]
	f(t, "250ms", "250ms")
	f(t, "90s", "1m30s")
	f(t, "60m", "1h")
	f(t, "1h30m0s", "1h30m")
	f(t, "10m", "10m")
	f(t, "24h", "24h")
	f(t, "1.5s", "1.5s")
	refused[gatehouse.Duration](t, "", "5", "0s", "0", "-1s", "1d", "1 s", "s", "5m 3s", "9999999999h", "5s\n")

	const def = 3 * time.Second
	if got := gatehouse.Duration(0).Or(def); got != def {
		t.Errorf("absent: %v", got)
	}
	if got := gatehouse.Duration(time.Hour).Or(def); got != time.Hour {
		t.Errorf("present: %v", got)
	}
}

func TestByteSize(t *testing.T) {
	roundTrip(t, rapid.Map(rapid.Int64Min(0), func(n int64) gatehouse.ByteSize { return gatehouse.ByteSize(n) }))
	f := form[gatehouse.ByteSize]
	f(t, "0", "0")
	f(t, "512", "512")
	f(t, "512B", "512")
	f(t, "4096", "4KiB")
	f(t, "1kB", "1000")
	f(t, "10MiB", "10MiB")
	f(t, "2048MiB", "2GiB")
	f(t, "1MB", "1000000")
	f(t, "1GB", "1000000000")
	f(t, "9223372036854775807", "9223372036854775807")
	refused[gatehouse.ByteSize](t, "", "B", "KiB", "-1", "1.5MiB", "1 MiB", "1mib", "1TiB", "1KB", "1k", "0x10",
		"9223372036854775808", "8589934592GiB", "1e3")
}

func TestPercent(t *testing.T) {
	roundTrip(t, rapid.Map(rapid.Int32Range(0, 10_000), func(n int32) gatehouse.Percent { return gatehouse.Percent(n) }))
	f := form[gatehouse.Percent]
	f(t, "0%", "0%")
	f(t, "2.5%", "2.5%")
	f(t, "33.33%", "33.33%")
	f(t, "100%", "100%")
	f(t, "20.00%", "20%")
	refused[gatehouse.Percent](t, "", "%", "20", "0.2", "-1%", "100.01%", "0.125%", "NaN%", "Inf%", "20 %", "20%%", "x%")

	of := func(p gatehouse.Percent, n, want int64) {
		t.Helper()
		if got := p.Of(n); got != want {
			t.Errorf("%d hundredths of a percent of %d is %d, want %d", p, n, got, want)
		}
	}
	of(2000, 10, 2)
	of(2000, 14, 2)
	of(1, 9999, 0)
	of(1, 10_000, 1)
	of(10_000, 7, 7)
	of(0, 1_000_000, 0)
}

func TestRate(t *testing.T) {
	roundTrip(t, rapid.Custom(func(t *rapid.T) gatehouse.Rate {
		return gatehouse.Rate{
			Count: rapid.Int64Range(1, gatehouse.MaxUnits).Draw(t, "count"),
			Per:   time.Duration(rapid.Int64Min(1).Draw(t, "per")),
		}
	}))
	f := form[gatehouse.Rate]
	f(t, "500/s", "500/s")
	f(t, "500/second", "500/s")
	f(t, "500/1s", "500/s")
	f(t, "20/m", "20/min")
	f(t, "20/60s", "20/min")
	f(t, "1000/hour", "1000/h")
	f(t, "5/day", "5/d")
	f(t, "5/24h", "5/d")
	f(t, "3/10s", "3/10s")
	f(t, "3/90m", "3/1h30m")
	f(t, "9007199254740992/s", "9007199254740992/s")
	refused[gatehouse.Rate](t, "", "5", "5/", "/s", "0/s", "-5/s", "1.5/s", "5/week", "5/0s", "5/-1s", "5 / s", "5/s/s", "x/s",
		"9007199254740993/s", "99999999999999999999/s")

	if got := (gatehouse.Rate{Count: 30, Per: time.Minute}).PerSecond(); got != 0.5 {
		t.Errorf("30/min is %v a second", got)
	}
}

func TestWindow(t *testing.T) {
	roundTrip(t, rapid.OneOf(
		rapid.Map(rapid.SampledFrom([]string{"second", "minute", "hour", "day", "week", "month"}),
			func(u string) gatehouse.Window { return gatehouse.Window{Unit: u} }),
		rapid.Map(rapid.Int64Min(int64(time.Second)), func(n int64) gatehouse.Window { return gatehouse.Window{Length: time.Duration(n)} }),
	))
	f := form[gatehouse.Window]
	f(t, "month", "month")
	f(t, "90s", "1m30s")
	f(t, "1h", "1h") // of its own, not the hour of the clock
	refused[gatehouse.Window](t, "", "year", "Month", "months", "999ms", "0s", "-1h", "30d", "5")
}

func TestSelector(t *testing.T) {
	token := rapid.StringMatching("[-!#$%&'*+.^_`|~0-9A-Za-z]{1,20}")
	roundTrip(t, rapid.OneOf(
		rapid.Map(rapid.SampledFrom([]string{"principal", "key", "address"}), func(k string) gatehouse.Selector { return gatehouse.Selector{Kind: k} }),
		rapid.Map(token, func(n string) gatehouse.Selector { return gatehouse.Selector{Kind: "cookie", Name: n} }),
		rapid.Map(rapid.StringN(1, 20, -1), func(n string) gatehouse.Selector { return gatehouse.Selector{Kind: "claim", Name: n} }),
	))
	// Any spelling of a header's name is one selector.
	rapid.Check(t, func(t *rapid.T) {
		in := "header:" + token.Draw(t, "name")
		var once, twice gatehouse.Selector
		if err := once.UnmarshalText([]byte(in)); err != nil {
			t.Fatal(err)
		}
		b, _ := once.MarshalText()
		if err := twice.UnmarshalText(b); err != nil || once != twice {
			t.Fatalf("%s: %v, then %v: %v", in, once, twice, err)
		}
	})
	f := form[gatehouse.Selector]
	f(t, "header:x-user", "header:X-User")
	f(t, "header:X-USER", "header:X-User")
	f(t, "cookie:sid", "cookie:sid")
	f(t, "claim:https://a.test/x y", "claim:https://a.test/x y")
	refused[gatehouse.Selector](t, "", "user", "Principal", "principal:", "principal:x", "key:x", "address:1", "header", "header:",
		"header:X Y", "cookie:", "cookie:a=b", "claim:", "claim", ":x", "header:X\r\n")
}

func TestKeyHash(t *testing.T) {
	roundTrip(t, rapid.Map(rapid.SliceOfN(rapid.Byte(), 32, 32), func(b []byte) gatehouse.KeyHash { return gatehouse.KeyHash(b) }))
	const digits = "78a062b9590c85ec4076a9838733c4374ce1db357007f4a2e30710bff790e3d1"
	form[gatehouse.KeyHash](t, "sha256:"+digits, "sha256:"+digits)
	form[gatehouse.KeyHash](t, "sha256:78A062B9590C85EC4076A9838733C4374CE1DB357007F4A2E30710BFF790E3D1", "sha256:"+digits)
	refused[gatehouse.KeyHash](t, "", "sha256:", digits, "sha512:"+digits, "SHA256:"+digits, "sha256:"+digits[1:], "sha256:"+digits+"00",
		"sha256: "+digits, "sha256:"+digits[:63]+"g")
}

func TestTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const last = 253402300799 // the last second that has four digits of year
		v := gatehouse.Time{Time: time.Unix(rapid.Int64Range(0, last).Draw(t, "s"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC()}
		b, err := v.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got gatehouse.Time
		if err := got.UnmarshalText(b); err != nil || !got.Equal(v.Time) || got.Location() != time.UTC {
			t.Fatalf("%s reads as %v: %v", b, got, err)
		}
	})
	f := form[gatehouse.Time]
	f(t, "2027-01-31T00:00:00Z", "2027-01-31T00:00:00Z")
	f(t, "2027-01-31T02:30:00.5+02:00", "2027-01-31T00:30:00.5Z")
	refused[gatehouse.Time](t, "", "2027-01-31", "2027-01-31 00:00:00Z", "2027-01-31T00:00:00", "2027-02-30T00:00:00Z", "1767225600")
}

// Features are a list or a map, in JSON as in YAML.
func TestFeatures(t *testing.T) {
	f := func(in string, on ...string) {
		t.Helper()
		var got gatehouse.Features
		if err := json.Unmarshal([]byte(in), &got); err != nil {
			t.Errorf("%s: %v", in, err)
			return
		}
		b, err := json.Marshal(got.On())
		want, _ := json.Marshal(on)
		if err != nil || string(b) != string(want) {
			t.Errorf("%s: on are %s, want %s", in, b, want)
		}
	}
	f(`[]`)
	f(`{}`)
	f(`null`)
	f(` ["b", "a", "b"]`, "a", "b")
	f(`{"b": true, "a": true, "c": false}`, "a", "b")
	for _, in := range []string{`"a"`, `[1]`, `{"a": 1}`, `[["a"]]`, `true`} {
		var got gatehouse.Features
		if err := json.Unmarshal([]byte(in), &got); err == nil {
			t.Errorf("%s reads as %v", in, got)
		}
	}
}
