package api

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

func TestHandler(t *testing.T) {
	book := control.NewBook(func(u gatehouse.Update) gatehouse.Outcome {
		out := gatehouse.Outcome{Revision: u.Revision}
		for _, tenant := range u.Tenants {
			out.Applied = append(out.Applied, tenant.ID)
		}
		return out
	})
	book.Publish(control.Change{Source: "test", Began: time.Now(), Parts: []*gatehouse.Document{{Tenants: []gatehouse.Tenant{
		{ID: "b", Domain: "b.test"},
		{ID: "a", Features: gatehouse.Features{"x": true}, Identity: gatehouse.Identity{JWT: []gatehouse.Issuer{{Issuer: "i", Secret: gatehouse.Secret("hush"), JWKS: "{}"}}}},
	}}}})
	meter, err := metering.Open(metering.Options{})
	if err != nil {
		t.Fatal(err)
	}
	meter.Tenant("a").Series("", "r", nil).Count(200, 1, 2, 0, 0)
	var state error
	h := Handler(Parts{
		Loopback: true, Book: book, Meter: meter, Log: slog.New(slog.DiscardHandler),
		Checks:  []Check{{Name: "always", State: func() error { return nil }}, {Name: "sometimes", State: func() error { return state }}},
		Metrics: []func(io.Writer){func(w io.Writer) { _, _ = io.WriteString(w, "one 1\n") }, func(w io.Writer) { _, _ = io.WriteString(w, "two 2\n") }},
	})
	get := func(method, path string) string {
		w := httptest.NewRecorder()
		host, rest, other := strings.Cut(path, "!")
		if !other {
			host, rest = "127.0.0.1:9090", path
		}
		r := httptest.NewRequest(method, rest, http.NoBody)
		r.Host = host
		h.ServeHTTP(w, r)
		return w.Result().Status + " " + w.Header().Get("Content-Type") + " " + w.Header().Get("Allow") + "\n" + w.Body.String()
	}
	for _, tt := range []struct {
		request string
		state   error
		want    []string
	}{
		{"GET /livez", nil, []string{"200 OK text/plain", "\nok\n"}},
		{"GET /livez", errors.New("draining"), []string{"200 OK"}},
		{"GET /readyz", nil, []string{"200 OK", "\nready\n"}},
		{"GET /readyz?verbose", nil, []string{"ok: always\nok: sometimes\nready\n"}},
		{"GET /readyz", errors.New("draining"), []string{"503 Service Unavailable", "\nnot ready: sometimes: draining\n"}},
		{"GET /metrics", nil, []string{"200 OK text/plain; version=0.0.4", "one 1\ntwo 2\n"}},
		{"GET /api/v1/tenants", nil, []string{"200 OK application/json", `"id": "a"`, `"id": "b"`}},
		{"GET /api/v1/tenants/", nil, []string{"200 OK application/json", `"items": [`}},
		{"GET /api/v1/tenants/a/", nil, []string{`"id": "a"`, `"x": true`, `"issuer": "i"`}},
		{"GET /api/v1/tenants/a", nil, []string{`"id": "a"`}},
		{"GET /api/v1/tenants/c/", nil, []string{"404 Not Found application/problem+json", `"code":"GH-CP-002"`}},
		{"GET /api/v1/tenants/a/usage/", nil, []string{"200 OK", `"requests": 1`, `"bytes_out": 2`}},
		{"GET /api/v1/tenants/c/usage/", nil, []string{"404 Not Found"}},
		{"GET /api/v1/revisions/", nil, []string{`"revision": 1`, `"result": "applied"`, `"source": "test"`}},
		{"POST /api/v1/tenants/", nil, []string{"405 Method Not Allowed application/problem+json GET, HEAD", "read-only"}},
		{"GET localhost:9090!/livez", nil, []string{"200 OK"}},
		{"GET [::1]!/livez", nil, []string{"200 OK"}},
		{"GET rebound.example!/livez", nil, []string{"421 Misdirected Request"}},
		{"GET /other", nil, []string{"404 Not Found application/problem+json"}},
	} {
		state = tt.state
		method, path, _ := strings.Cut(tt.request, " ")
		got := get(method, path)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", tt.request, want, got)
			}
		}
		if strings.Contains(got, "hush") {
			t.Errorf("%s tells a secret", tt.request)
		}
	}
}
