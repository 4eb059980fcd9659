package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

func logFile(t *testing.T, text string) *ClientLog {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return NewClientLog(path, "client")
}

const jsonLog = `{"time":"2027-03-01T10:00:05Z","tenant":"acme","route":"orders","id":"1"}
{"time":"2027-03-01T11:00:59.9+01:00","tenant":"acme","route":"orders"}
{"time":"2027-03-01T10:01:00Z","tenant":"acme","route":"orders","value":"3"}
{"time":"2027-03-01T10:01:00Z","tenant":"bolt"}
{"time":"2027-03-01T10:01:00Z","tenant":"bolt","meter":"bytes_in","value":900}
{"time":"2027-03-02T10:01:00Z","tenant":"later"}
{"time":"2027-03-01T10:01:00Z","ten`

const csvLog = `time,tenant,route,value
2027-03-01T10:00:05Z,acme,orders,2
2027-03-01T10:01:05Z,acme,orders,3
2027-03-01T10:01:05Z,bolt,"",
2027-03-01T10:01:05Z,bolt,"",1`

func TestReconcile(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		write(t, l, []metering.Cell{
			cell("2027-03-01 10:00", "acme", "orders", "requests", 2),
			cell("2027-03-01 10:01", "acme", "orders", "requests", 2),
			cell("2027-03-01 10:01", "core", "", "requests", 9),
			cell("2027-03-01 10:01", "core", "", "bytes_in", 9),
		})
		if _, err := l.Record(t.Context(), []Event{event("1")}); err != nil {
			t.Fatal(err)
		}
		other := open(t, filepath.Join(t.TempDir(), "other.db"))
		write(t, other, []metering.Cell{cell("2027-03-01 10:02", "acme", "orders", "requests", 4)})
		f := func(s Scope, want string, sources ...Source) {
			t.Helper()
			s.Meter, s.From, s.To = "requests", at("2027-03-01 00:00"), at("2027-03-02 00:00")
			r, err := l.Reconcile(t.Context(), s, sources...)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := r.WriteTable(&b); err != nil {
				t.Fatal(err)
			}
			wide := regexp.MustCompile(" +")
			same(t, wide.ReplaceAllString(strings.ReplaceAll(b.String(), " "+l.Name(), " ledger"), " "), wide.ReplaceAllString(want, " "))
			if r.Agree() != (len(r.Differences) == 0) {
				t.Error("agree is wrong")
			}
		}
		for _, log := range []string{jsonLog, csvLog} {
			f(Scope{Step: Minute}, ""+
				"tenant  route   start                 ledger    client\n"+
				"acme    orders  2027-03-01T10:01:00Z  2         3\n"+
				"bolt            2027-03-01T10:01:00Z  0         1\n"+
				"core            2027-03-01T10:01:00Z  9         0\n"+
				"total           requests              13        6\n", logFile(t, log))
		}
		if l.Name() == "postgres" {
			f(Scope{Step: Hour, Tenants: []gatehouse.TenantID{"acme"}}, ""+
				"tenant  route  start  ledger  sqlite\n"+
				"total          requests  4         4\n", other)
		}
		_, err := l.Reconcile(t.Context(), Scope{Step: Day, Meter: "requests"})
		same(t, string(gatehouse.CodeOf(err)), "GH-CP-001")
	})
}

func TestClientLogFaults(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		got := ""
		for _, err := range logFile(t, text).Cells(t.Context(), at("2027-03-01 00:00"), at("2027-03-02 00:00")) {
			if err != nil {
				_, got, _ = strings.Cut(err.Error(), "/log:")
			}
		}
		same(t, got, want)
	}
	f("", "")
	f("{\"time\":\"x\",\"tenant\":\"a\"}\n", "1: a time of RFC 3339 and a tenant are expected")
	f("{\"time\":\"2027-03-01T10:00:05Z\"}\n", "1: a time of RFC 3339 and a tenant are expected")
	f("{\"time\":\"2027-03-01T10:00:05Z\",\"tenant\":\"a\",\"value\":1.5}\n", "1: value is not a whole number")
	f("{}{}\n", "1: invalid character '{' after top-level value")
	f("time,tenant\n2027-03-01T10:00:05Z\n", "2: 1 fields, and 2 are expected")
	f("{"+strings.Repeat(" ", 1<<17), "1: bufio: buffer full")
	for _, err := range NewClientLog("/nowhere", "x").Cells(t.Context(), noon, noon) {
		if err == nil {
			t.Error("a file that is not there was read")
		}
	}
}

func TestFinal(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		f := func(s metering.Seal, want ...metering.Cell) {
			t.Helper()
			cells, err := l.Final(t.Context(), s)
			same(t, fmt.Sprint(cells, err), fmt.Sprint(want, nil))
		}
		one, two := cell("2027-03-01 10:01", "acme", "orders", "requests", 2), cell("2027-03-01 10:02", "acme", "orders", "requests", 3)
		write(t, l, []metering.Cell{one, two, cell("2027-03-01 10:03", "acme", "orders", "requests", 2)})
		_, err := l.Final(t.Context(), seal("2027-03-01 10:02"))
		same(t, fmt.Sprint(err), "read what a seal covers: the minute 2027-03-01T10:02:00Z of g 1-8000000000000005 is not sealed yet")
		write(t, l, nil, seal("2027-03-01 10:02"))
		f(seal("2027-03-01 10:02"), one, two)
		write(t, l, nil, seal("2027-03-01 10:01"))
		f(seal("2027-03-01 10:01"), one)
		f(seal("2027-03-01 10:02"), two)
		write(t, l, nil, metering.Seal{Gateway: "h", Window: at("2027-03-01 10:02")})
		f(metering.Seal{Gateway: "h", Window: at("2027-03-01 10:02")})
	})
}
