package cloudevents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
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

// receiver notes each request as text and answers with status.
type receiver struct {
	*httptest.Server
	requests []string
	status   int
	header   http.Header
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: 204}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		r.requests = append(r.requests, fmt.Sprintf("%s %s %s %s", q.Method, q.Header.Get("Content-Type"), q.Header.Get("Authorization"), body))
		for k, v := range r.header {
			w.Header()[k] = v
		}
		w.WriteHeader(r.status)
		fmt.Fprint(w, strings.Repeat("no ", 1<<10))
	}))
	t.Cleanup(r.Close)
	return r
}

var minute = time.Date(2027, 3, 31, 23, 59, 0, 0, time.UTC)

func cell(minutes int, tenant gatehouse.TenantID, value int64) metering.Cell {
	return metering.Cell{
		Gateway: "g", Epoch: metering.Epoch{Counter: 1, Nonce: 2}, Window: minute.Add(time.Duration(minutes) * time.Minute),
		Series: metering.SeriesKey{Tenant: tenant, Route: "orders", Consumer: "bob", Plan: "free"}, Meter: "requests", Value: value,
	}
}

func seal() metering.Seal {
	c := cell(0, "", 0)
	return metering.Seal{Gateway: c.Gateway, Epoch: c.Epoch, Window: c.Window}
}

// TestOnlySealed: an event is sent for a cell whose minute is sealed, once,
// with the largest value.
func TestOnlySealed(t *testing.T) {
	r := receive(t)
	s := sink(t, Config{URL: r.URL, Token: gatehouse.Secret("t0ken")})
	write := func(b metering.Batch) {
		t.Helper()
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	write(metering.Batch{Cells: []metering.Cell{cell(0, "acme", 5)}})
	write(metering.Batch{Seals: []metering.Seal{seal()}})
	if len(r.requests) != 0 {
		t.Fatal(r.requests)
	}
	other := seal()
	other.Gateway, other.Window = "h", other.Window.Add(time.Hour)
	write(metering.Batch{Cells: []metering.Cell{cell(0, "acme", 5)}, Seals: []metering.Seal{other}})
	if len(r.requests) != 0 {
		t.Fatal(r.requests)
	}
	write(metering.Batch{Cells: []metering.Cell{cell(0, "acme", 7), cell(0, "acme", 5), cell(1, "acme", 9)}, Seals: []metering.Seal{seal()}})
	want := `POST application/cloudevents-batch+json Bearer t0ken [{"specversion":"1.0","id":"1-0000000000000002.30108959.` +
		`SERIES.requests","source":"gatehouse/g","type":"requests","subject":"acme","time":"2027-03-31T23:59:00Z",` +
		`"datacontenttype":"application/json","data":{"value":"7","route":"orders","consumer":"bob","plan":"free"}}]`
	got := strings.Join(r.requests, "\n")
	if _, id, ok := strings.Cut(got, "30108959."); ok {
		got = strings.ReplaceAll(got, id[:16], "SERIES")
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFinal(t *testing.T) {
	r := receive(t)
	known := errors.New("not sealed yet")
	s := sink(t, Config{URL: r.URL, Final: func(_ context.Context, v metering.Seal) ([]metering.Cell, error) {
		return []metering.Cell{cell(int(v.Window.Sub(minute).Minutes()), "acme", 8)}, known
	}})
	b := metering.Batch{Cells: []metering.Cell{cell(0, "bolt", 5)}, Seals: []metering.Seal{seal()}}
	if err := s.Write(t.Context(), b); !errors.Is(err, known) {
		t.Error(err)
	}
	known = nil
	if err := s.Write(t.Context(), b); err != nil {
		t.Error(err)
	}
	if len(r.requests) != 1 || !strings.Contains(r.requests[0], `"value":"8"`) || strings.Contains(r.requests[0], "bolt") {
		t.Error(r.requests)
	}
}

// TestBounds: no body has more events or bytes than it may.
func TestBounds(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		r := receive(t)
		c.URL = r.URL
		b := metering.Batch{Seals: []metering.Seal{seal()}}
		for i := range 7 {
			b.Cells = append(b.Cells, cell(0, gatehouse.TenantID(fmt.Sprint("t", i)), 1))
		}
		if err := sink(t, c).Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, q := range r.requests {
			var events []Event
			_, body, _ := strings.Cut(q, "[")
			if err := json.Unmarshal([]byte("["+body), &events); err != nil {
				t.Fatal(err)
			}
			if c.Bytes > 1 && len(body)+1 > c.Bytes {
				t.Errorf("a body of %d bytes", len(body)+1)
			}
			for _, e := range events {
				got += string(e.Subject) + " "
			}
			got += "| "
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(Config{}, "t0 t1 t2 t3 t4 t5 t6 | ")
	f(Config{Events: 3}, "t0 t1 t2 | t3 t4 t5 | t6 | ")
	f(Config{Bytes: 700}, "t0 t1 | t2 t3 | t4 t5 | t6 | ")
	f(Config{Bytes: 1}, "t0 | t1 | t2 | t3 | t4 | t5 | t6 | ")
}

func TestAnswers(t *testing.T) {
	b := metering.Batch{Cells: []metering.Cell{cell(0, "acme", 5)}, Seals: []metering.Seal{seal()}}
	f := func(status int, header http.Header, refused bool, asked int) {
		t.Helper()
		r := receive(t)
		r.status, r.header = status, header
		s := sink(t, Config{URL: r.URL})
		err := s.Write(t.Context(), b)
		if err == nil || errors.Is(err, ErrRefused) != refused || len(err.Error()) > 1200 {
			t.Errorf("%d: %v", status, err)
		}
		r.status, r.header = 200, nil
		if err := s.Write(t.Context(), b); (err == nil) != (asked == 2) || len(r.requests) != asked {
			t.Errorf("%d %v: %d requests, then %v", status, header, len(r.requests), err)
		}
	}
	f(500, nil, false, 2)
	f(400, nil, true, 2)
	f(301, http.Header{"Location": {"/elsewhere"}}, false, 2)
	f(429, http.Header{"Retry-After": {"30"}}, false, 1)
	f(503, http.Header{"Retry-After": {time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)}}, false, 1)
	f(503, http.Header{"Retry-After": {"soon"}}, false, 2)
	f(503, http.Header{"Retry-After": {"0"}}, false, 2)

	hang := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer slow.Close()
	defer close(hang)
	if err := sink(t, Config{URL: slow.URL, Timeout: 50 * time.Millisecond}).Write(t.Context(), b); err == nil {
		t.Error("a receiver that does not answer has taken the events")
	}
	now := time.Now()
	if got := retryAfter("999999", now); !got.Equal(now.Add(time.Hour)) {
		t.Error(got)
	}
	if _, err := New(Config{URL: "x"}); err == nil {
		t.Error("x is taken for a URL")
	}
}

// TestIDs: what differs in any part of the identity differs in source or id,
// and no id is too long for those who take 100 bytes.
func TestIDs(t *testing.T) {
	base := cell(0, "acme", 1)
	seen := map[string]bool{}
	for i, change := range []func(*metering.Cell){
		func(*metering.Cell) {},
		func(c *metering.Cell) { c.Gateway = "h" },
		func(c *metering.Cell) { c.Epoch.Counter = 1<<32 - 1 },
		func(c *metering.Cell) { c.Epoch.Nonce = 1<<64 - 1 },
		func(c *metering.Cell) { c.Window = c.Window.Add(time.Minute) },
		func(c *metering.Cell) { c.Series.Tenant, c.Series.Route = "acmeo", "rders" },
		func(c *metering.Cell) { c.Series.Consumer = "" },
		func(c *metering.Cell) { c.Series.Plan = "" },
		func(c *metering.Cell) { c.Meter, c.Epoch.Counter = metering.MeterInterrupted, 1<<32-1 },
	} {
		c := base
		change(&c)
		e := NewEvent(&c)
		if seen[e.Source+e.ID] || len(e.ID) > 100 {
			t.Errorf("%d: %s", i, e.ID)
		}
		seen[e.Source+e.ID] = true
	}
	units := base
	for value, want := range map[int64]string{0: "0", 5: "0.000005", 2_500_000: "2.5", 3_000_000: "3"} {
		units.Meter, units.Value = metering.MeterUnits, value
		if got := NewEvent(&units).Data.Value; got != want {
			t.Errorf("%d millionths are %s, got %s", value, want, got)
		}
	}
	again := base
	again.Value++
	if NewEvent(&again).ID != NewEvent(&base).ID {
		t.Error("the value is in the id")
	}
}
