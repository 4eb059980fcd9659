package clickhouse

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sink(t *testing.T, c Config) *Sink {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

var minute = time.Date(2027, 3, 31, 23, 59, 0, 0, time.UTC)

func cell(window time.Time, consumer string, value int64) metering.Cell {
	return metering.Cell{
		Gateway: "g", Epoch: metering.Epoch{Counter: math.MaxUint32, Nonce: math.MaxUint64}, Window: window,
		Series: metering.SeriesKey{Tenant: "acme", Route: "orders", Consumer: consumer}, Meter: "requests", Value: value,
	}
}

func show(t *testing.T, s *Sink, from, to time.Time) string {
	t.Helper()
	text := ""
	for c, err := range s.Cells(t.Context(), from, to) {
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("%s %s %s %s %q %d\n", c.Gateway, c.Epoch, c.Window.Format("01-02T15:04"), c.Series.Tenant, c.Series.Consumer, c.Value)
	}
	return text
}

func TestWrite(t *testing.T) {
	s := sink(t, Config{URL: servertest.ClickHouse(t), Rows: 2})
	odd := "a\"\\\t\n\u2028é<'"
	b := metering.Batch{
		Cells: []metering.Cell{cell(minute, odd, 5), cell(minute.Add(time.Minute), odd, math.MaxInt64), cell(minute, odd, 7), cell(minute, odd, 0), cell(minute, odd, 6)},
		Seals: []metering.Seal{{Gateway: "g", Epoch: metering.Epoch{Counter: 1, Nonce: 2}, Window: minute}},
	}
	for range 3 {
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf("g 4294967295-ffffffffffffffff 03-31T23:59 acme %q 7\n", odd)
	check := func() {
		t.Helper()
		if got := show(t, s, minute, minute.Add(time.Minute)); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	check()
	for _, table := range []string{"metering_cell", "metering_cell_seal"} { // merged, the largest stays
		body, err := s.do(t.Context(), "OPTIMIZE TABLE "+table+" PARTITION 202703 FINAL", nil)
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
	}
	check()
	want += fmt.Sprintf("g 4294967295-ffffffffffffffff 04-01T00:00 acme %q %d\n", odd, int64(math.MaxInt64))
	if got := show(t, s, minute, minute.Add(time.Hour)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		if _, err := New(c); fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	f(Config{}, `clickhouse: "" is not an http or https URL`)
	f(Config{URL: "tcp://x"}, `clickhouse: "tcp://x" is not an http or https URL`)
	f(Config{URL: "http://x", Table: "a; DROP"}, `clickhouse: "a; DROP" is not the name of a table`)
}

func TestFaults(t *testing.T) {
	address := servertest.ClickHouse(t)
	b := metering.Batch{Cells: []metering.Cell{cell(minute, "c", 5)}}
	f := func(c Config, want string) {
		t.Helper()
		err := sink(t, c).Write(t.Context(), b)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	f(Config{URL: "http://" + u.Host + "/?database=nix"}, "clickhouse: make tables: status 404: Code: 81")
	f(Config{URL: address, User: "default", Password: []byte("wrong")}, "make tables: status 401: Code: 193")
	f(Config{URL: "http://127.0.0.1:1/?password=secret"}, "make tables: dial tcp 127.0.0.1:1: connect: connection refused")

	hang := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer slow.Close()
	defer close(hang)
	f(Config{URL: slow.URL, Timeout: 50 * time.Millisecond}, "make tables: ")

	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-ClickHouse-Exception-Code", "241")
		fmt.Fprint(w, "Code: 241. Memory limit", strings.Repeat("!", 1<<20))
	}))
	defer late.Close()
	f(Config{URL: late.URL}, "make tables: status 200: Code: 241. Memory limit!!")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sink(t, Config{URL: address}).Write(ctx, b); err == nil {
		t.Error("a canceled write succeeded")
	}
}
