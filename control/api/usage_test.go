package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// newLedger returns a ledger with the usage of two days of March, and of
// another tenant.
func newLedger(t testing.TB) Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "metering.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	epoch := metering.Epoch{Counter: 1, Nonce: 7}
	cell := func(tenant gatehouse.TenantID, at, route, consumer string, value int64) metering.Cell {
		window, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		return metering.Cell{
			Gateway: "gw", Epoch: epoch, Window: window, Meter: metering.MeterRequests, Value: value,
			Series: metering.SeriesKey{Tenant: tenant, Route: gatehouse.RouteID(route), Consumer: consumer},
		}
	}
	if err := l.Write(t.Context(), metering.Batch{
		Cells: []metering.Cell{
			cell("own", "2026-03-01T10:00:00Z", "a", "ann", 1), cell("own", "2026-03-01T22:59:00Z", "a", "ann", 2),
			cell("own", "2026-03-01T23:00:00Z", "b", "bob", 4), cell("own", "2026-03-02T10:00:00Z", "b", "ann", 8),
			cell("other", "2026-03-01T10:00:00Z", "a", "ann", 100),
		},
		Seals: []metering.Seal{{Gateway: "gw", Epoch: epoch, Window: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)}},
	}); err != nil {
		t.Fatal(err)
	}
	return func(context.Context) (*ledger.Ledger, error) { return l, nil }
}

const march = "from=2026-03-01&to=2026-03-03"

// Usage of the ledger, in each form, and what is wrong with a question.
func TestLedgerUsage(t *testing.T) {
	s := startWith(t, "", func(r *REST) { given(r); r.Ledger = newLedger(t) })
	s.made("POST /api/v1/tenants\n\n" + `{"id": "own"}`)
	s.made("POST /api/v1/tenants\n\n" + `{"id": "none"}`)
	const usage = "GET /api/v1/tenants/own/usage/?meter=requests&"
	f := func(request string, status int, want ...string) {
		t.Helper()
		w := s.ask(request)
		text := w.Header().Get("Content-Type") + " " + w.Header().Get("Link") + "\n" + w.Body.String()
		for _, part := range want {
			if w.Code != status || !strings.Contains(text, part) {
				t.Errorf("%s: %d %s\nwant %d with %s", request, w.Code, text, status, part)
			}
		}
	}
	f(usage+march, 200, "application/json", `"total":"15"`, `"sealed_until":"2026-03-02T10:01:00Z"`, `"complete":false`, `"as_of":`, `"items":[]`)
	f(usage+"from=2026-03-01&to=2026-03-02", 200, `"total":"7"`, `"complete":true`)
	f(usage+march+"&window=DAY&tz=Europe/Rome", 200,
		`{"start":"2026-02-28T23:00:00Z","end":"2026-03-01T23:00:00Z","value":"3"}`, `{"start":"2026-03-01T23:00:00Z","end":"2026-03-02T23:00:00Z","value":"12"}`)
	f(usage+march+"&group_by=route&group_by=consumer&filter[consumer]=ann&filter[consumer]=nobody", 200,
		`"value":"3","group":{"consumer":"ann","route":"a"}`, `"value":"8","group":{"consumer":"ann","route":"b"}`, `"total":"11"`)
	f(usage+march+"&filter[route]=a", 200, `"total":"3"`)
	f(usage+march+"&filter[plan]=gold", 200, `"total":"0"`)
	f(usage+march+"&window=DAY&limit=1", 200, `rel="next"`, `"next":"`)
	f(usage+march+"&window=DAY\nAccept: text/csv", 200, "text/csv", "requests,requests,2026-03-01T00:00:00Z,2026-03-02T00:00:00Z,7")
	f(usage+march+"&window=DAY\nAccept: application/x-ndjson;q=1, */*", 200, "application/x-ndjson", `"value":"7"`, `"value":"8"`)
	f(usage+march+"&window=DAY\nAccept: application/cloudevents-batch+json", 200, eventsType, `"subject":"own"`, `"value":"7"`)
	f("GET /api/v1/tenants/none/usage?meter=requests&"+march, 200, `"total":"0"`)
	f("GET /api/v1/tenants/unknown/usage?meter=requests&"+march, 404, "GH-CP-002")
	f("GET /api/v1/tenants/own/usage?"+march, 422, "name a meter")
	f("GET /api/v1/tenants/own/usage", 200, `"tenant":"own"`)
	f(usage+"from=2026-03-02&to=2026-03-01", 422, "GH-CP-001")
	f(usage+"from=yesterday", 422, "from is no time")
	f(usage+"tz=Mars/Olympus", 422, "tz is no time zone")
	f(usage+"window=YEAR", 422, "/query/window")
	f(usage+"group_by=colour&"+march, 422, "colour")
	f(usage+"meter=bytes_in", 400, "GH-AD-001")
	f(usage+"colour=red", 422, "GH-CP-001")
	// The pages of a query join to the whole.
	link := s.ask(usage + march + "&window=DAY&limit=1").Header().Get("Link")
	next, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	f("GET "+next, 200, `"items":[{"start":"2026-03-02T00:00:00Z","end":"2026-03-03T00:00:00Z","value":"8"}]`)
	// A token for another tenant does not see it.
	f(usage+march+"\nAuthorization: Bearer "+s.token(control.Viewer, "none"), 403, "GH-CP-007")
}

// Where there is no ledger, and where it cannot be used.
func TestNoLedger(t *testing.T) {
	for _, c := range []struct {
		ledger Ledger
		status int
	}{
		{nil, http.StatusNotImplemented},
		{func(context.Context) (*ledger.Ledger, error) { return nil, context.DeadlineExceeded }, http.StatusServiceUnavailable},
	} {
		s := startWith(t, "", func(r *REST) { given(r); r.Ledger = c.ledger })
		s.made("POST /api/v1/tenants\n\n" + `{"id": "own"}`)
		for _, request := range []string{
			"GET /api/v1/tenants/own/usage?meter=requests", "GET /api/v1/tenants/own/usage/adjustments",
			"POST /api/v1/tenants/own/usage/adjustments\n\n{}", "POST /api/v1/events\n\n" + event("1", "own", "1"),
		} {
			if w := s.ask(request); w.Code != c.status {
				t.Errorf("%s: %d %s", request, w.Code, w.Body)
			}
		}
	}
}

func event(id, tenant, value string) string {
	return `{"specversion":"1.0","id":"` + id + `","source":"batch/1","type":"jobs","subject":"` + tenant +
		`","time":"2026-03-04T05:06:07Z","data":{"value":"` + value + `","route":"r"}}`
}

// Events are recorded once, and adjustments beside them; nothing is counted
// that was refused.
func TestEventsAndAdjustments(t *testing.T) {
	s := startWith(t, "", given)
	var err error
	s.parts.Ledger = newLedger(t)
	if s.ledger, err = s.parts.Ledger(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.bill(time.Now)
	s.handler = NewHandler(s.parts)
	s.made("POST /api/v1/tenants\n\n" + `{"id": "own"}`)
	f := func(request string, status int, want string) {
		t.Helper()
		if w := s.ask(request); w.Code != status || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s\nwant %d with %s", request, w.Code, w.Body, status, want)
		}
	}
	const post = "POST /api/v1/events\nContent-Type: application/cloudevents+json\n\n"
	f(post+event("1", "own", "2.5"), 201, `"verdict":"recorded"`)
	f(post+event("1", "own", "2.5"), 200, `"duplicate":true`)
	f(post+event("1", "own", "3"), 409, "GH-CP-003")
	f(post+event("2", "nobody", "3"), 422, "there is no such tenant")
	f(post+event("2", "own", "-3"), 422, "the event cannot be recorded")
	f("POST /api/v1/events\nContent-Type: text/plain\n\nx", 415, "")
	f("POST /api/v1/events\nAuthorization: Bearer "+s.token(control.Owner, "own")+"\n\n"+event("2", "own", "3"), 403, "GH-CP-007")
	batch := "[" + event("1", "own", "2.5") + "," + event("3", "own", "1") + "," + event("4", "nobody", "1") + "," + event("1", "own", "9") + "]"
	for _, media := range []string{"application/json", "application/cloudevents-batch+json"} {
		w := s.ask("POST /api/v1/events\nContent-Type: " + media + "\n\n" + batch)
		var got recorded
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatal(w.Code, w.Body, err)
		}
		var verdicts []string
		for _, r := range got.Items {
			verdicts = append(verdicts, r.ID+" "+string(r.Verdict))
		}
		want := "1 duplicate, 3 recorded, 4 invalid, 1 conflict"
		if media != "application/json" {
			want = strings.Replace(want, "recorded", "duplicate", 1)
		}
		if text := strings.Join(verdicts, ", "); text != want {
			t.Errorf("%s, want %s", text, want)
		}
	}
	const jobs = "GET /api/v1/tenants/own/usage?meter=jobs&" + "from=2026-03-04&to=2026-03-05"
	f(jobs, 200, `"total":"3.5"`)

	const adjust = "POST /api/v1/tenants/own/usage/adjustments\n\n"
	body := func(id, tenant, value string) string {
		return `{"id":"` + id + `","tenant":"` + tenant + `","meter":"jobs","time":"2026-03-04T05:06:07Z","value":"` + value + `","reason":"refund","approver":"eve"}`
	}
	f(adjust+body("x", "own", "-1.25"), 201, `"reason":"refund"`)
	f(adjust+body("x", "own", "-1.25"), 200, `"duplicate":true`)
	f(adjust+body("x", "own", "-2"), 409, "another adjustment has this id")
	f(adjust+body("y", "other", "-2"), 422, "not that of the path")
	f(adjust+body("y", "own", "0"), 422, `{"pointer":"/value","reason":"is zero"}`)
	f("POST /api/v1/tenants/own/usage/adjustments\nAuthorization: Bearer "+s.token(control.Billing, "own")+"\n\n"+body("z", "own", "-1"), 403, "GH-CP-007")
	f(jobs, 200, `"total":"2.25"`)
	soon := time.Now().UTC().Add(time.Minute).Format(time.RFC3339)
	at := func(id, value string) string {
		return strings.Replace(body(id, "own", value), "2026-03-04T05:06:07Z", soon, 1)
	}
	s.made("POST /api/v1/plans/free/versions\n\n" + `{"currency": "EUR", "cadence": {"unit": "month"}, "prices": [{"id": "fee", "model": "flat", "amount": "1"}]}`)
	s.made("POST /api/v1/tenants/own/billing\n\n" + `{"plan": "free"}`)
	s.made(adjust + at("more", "3"))
	f(adjust+at("less", "-3.5"), 422, "takes back 3.5 of jobs, and 3 were used")
	f("GET /api/v1/tenants/own/audit", 200, `"kind":"usage.adjust"`)
	f("GET /api/v1/tenants/own/usage/adjustments?from=2026-03-01", 200, `"approver":"eve"`)
	f("GET /api/v1/tenants/own/usage/adjustments?from=x", 422, "GH-CP-001")
}

// Where tenants come from documents the ledger answers too.
func TestLedgerUsageOfFiles(t *testing.T) {
	open := newLedger(t)
	book := control.NewBook(func(u gatehouse.Update) gatehouse.Outcome { return gatehouse.Outcome{Revision: u.Revision} })
	book.Publish(control.Change{Source: "test", Began: time.Now(), Parts: []*gatehouse.Document{{Tenants: []gatehouse.Tenant{{ID: "own"}}}}})
	meter, err := metering.Open(metering.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := Handler(Parts{Book: book, Meter: meter, Ledger: open, Log: slog.New(slog.DiscardHandler)})
	for path, want := range map[string]string{
		"/api/v1/tenants/own/usage?meter=requests&" + march:                                      `"total":"15"`,
		"/api/v1/tenants/own/usage/?meter=requests&group_by=route&filter[consumer]=ann&" + march: `"value":"8","group":{"route":"b"}`,
		"/api/v1/tenants/own/usage":                                                              `"requests": 0`,
		"/api/v1/tenants/own/usage?colour=red":                                                   `"code":"GH-CP-001"`,
		"/api/v1/tenants/own/usage?meter=a&meter=b":                                              `"code":"GH-AD-001"`,
		"/api/v1/tenants/own/usage?meter=requests&limit=x":                                       `"code":"GH-CP-001"`,
		"/api/v1/tenants/unknown/usage?meter=requests&" + march:                                  `"code":"GH-CP-002"`,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
